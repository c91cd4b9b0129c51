"""Mutations of a tree of files: names, missing and doubled files, links, pipes, permissions."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path

from odd_values import TEXTS, shown

_KINDS = ("rename", "rename", "rename", "rename", "delete", "copy", "copy", "link", "pipe", "folder", "empty", "junk")
_KINDS += ("deep", "not UTF-8", "case", "move", "socket")


def mutate(tree: Path, rng: random.Random, outside: Path) -> str:
    """Changes one thing below ``tree`` and says what."""
    files = sorted(path for path in tree.rglob("*") if path.is_file() and "phantom" not in path.name)
    folders = sorted(path for path in tree.rglob("*") if path.is_dir())
    path = rng.choice(files + folders[:20])
    how = rng.choice(_KINDS)
    try:
        told = _do(how, path, rng, outside, tree)
    except (OSError, ValueError) as error:  # a name that this file system does not take: a plain copy instead
        (tree / "copy").write_bytes(b"")
        told = f"not possible ({type(error).__name__}), an empty file"
    return f"{how}: {shown(path.relative_to(tree).as_posix())} {told}"


def _do(how: str, path: Path, rng: random.Random, outside: Path, tree: Path) -> str:
    if how in ("rename", "copy", "case", "not UTF-8"):
        name = path.name.swapcase() if how == "case" else _name(path.name, rng)
        target: str | bytes = os.fspath(path.parent / name)
        if how == "not UTF-8":
            target = os.fsencode(path.parent) + b"/" + path.name.encode().replace(b"0", b"\xff\xe9") + b"\xe9"
        if how == "copy" and path.is_file():
            shutil.copyfile(path, target)
        else:
            os.rename(path, target)  # noqa: PTH104 - a name in bytes
        return f"as {shown(target if isinstance(target, bytes) else name)}"
    if how == "move":
        other = rng.choice(sorted(folder for folder in (tree, *tree.rglob("*")) if folder.is_dir()))
        shutil.move(path, other / path.name)
        return f"to {shown(other.relative_to(tree).as_posix())}"
    if how == "junk":
        names = (
            ".DS_Store",
            "Thumbs.db",
            f"._{path.name}",
            "x.zip",
            "x.nii",
            "x.rar",
            "desktop.ini",
            f"{path.name}.part",
        )
        place = path.parent / rng.choice(names)
        place.write_bytes(rng.choice((b"", b"PK\3\4", b"\x1f\x8b", b"junk")))
        return f"beside it {place.name}"
    if how == "deep":
        place = path.parent.joinpath(*["d" * 50] * rng.choice((5, 60)))
        place.mkdir(parents=True)
        return "beside it very deep folders"
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    if how == "link":
        target = rng.choice(
            (outside, tree, path, Path("/"), Path("/dev/zero"), Path("absent"), path.parent, Path("/etc"))
        )
        path.symlink_to(target)
        return f"a link to {'a file outside' if target == outside else shown(target.name or '/')}"
    if how == "pipe":
        os.mkfifo(path)
    elif how == "socket":
        os.mknod(path, 0o140600)
    elif how == "folder":
        path.mkdir()
    elif how == "empty":
        path.write_bytes(b"")
    return "instead of it" if how in ("pipe", "folder", "empty", "socket") else "gone"


def _name(name: str, rng: random.Random) -> str:
    stem, dot, ending = name.partition(".")
    odd = rng.choice([text for text in TEXTS if "/" not in text and "\0" not in text and 0 < len(text) < 300])
    return rng.choice(
        (
            *(odd, stem + odd + dot + ending, odd + name, name + odd, stem, name.upper(), name.replace("_", "-")),
            *(
                stem + dot + rng.choice(("nii", "nii.gz", "png", "jpg", "tif", "NII.GZ", "gz", "mha")),
                name.replace("0", "9"),
            ),
            *(stem + " (1)" + dot + ending, f"_{name}", name + ".gz", name.replace("_", "__"), name[::-1]),
        )
    )
