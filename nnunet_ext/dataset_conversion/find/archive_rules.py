"""What the members of an archive may not be: whatever could leave its folder or fill a disk is refused."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.files import MAX_NAME_BYTES

# An archive of images never expands by more; a few bytes of zeros do.
_MAX_EXPANSION = 40
_MIN_SUSPICIOUS_BYTES = 64 << 20  # the ratio means nothing below this size
_MAX_PATH_LENGTH = 4096


def safe_name(name: str, path: Path) -> str:
    """The name of a member of the archive ``path``, as a path below a folder, with ``/``.

    Raises:
        UserError: ARC02 for one that leads outside or that no file system takes.
    """
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    if len(plain) > _MAX_PATH_LENGTH or any(len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in parts):
        raise UserError(
            f"{path} has a member whose name no file system takes: {name[:50]!r}...",
            remedy="do not use this archive",
            code="ARC02",
        )
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in parts or "\0" in plain:
        raise UserError(f"member {name!r} leads outside of {path}", remedy="do not use this archive", code="ARC02")
    return "/".join(part for part in parts if part not in ("", "."))


def check_new(name: str, seen: dict[str, str], path: Path) -> None:
    """Raise NAM04 for a name that an earlier member has, but for the case of its letters; remember it otherwise."""
    if name.casefold() in seen:
        raise UserError(
            f"{seen[name.casefold()]} and {name} would be one file",
            file=path,
            code="NAM04",
            remedy="unpack the archive by hand and give the folder",
        )
    seen[name.casefold()] = name


def no_regular_file(name: str, path: Path) -> UserError:
    """ARC03 for a member that is neither a file nor a folder."""
    return UserError(f"member {name!r} of {path} is a link or a device", remedy="do not use this archive", code="ARC03")


def check_expansion(total: int, archive_size: int, path: Path) -> None:
    """Raise ARC04 for members of ``total`` bytes that an archive of this size does not hold unless it is a bomb."""
    if total > max(_MAX_EXPANSION * archive_size, _MIN_SUSPICIOUS_BYTES):
        raise UserError(
            f"{path} would expand to more than {_MAX_EXPANSION} times its size",
            remedy="if you trust it, unpack it by hand and give the folder",
            code="ARC04",
        )


def check_space(path: Path, size: int, target: Path) -> None:
    """Raise ARC04 where ``size`` bytes do not fit on the disk of the folder ``target``."""
    free = shutil.disk_usage(target).free
    if size > free:
        raise UserError(
            f"{path} needs {size} bytes to unpack, {free} are free",
            file=target,
            code="ARC04",
            remedy="free some space, or unpack it elsewhere and give the folder",
        )
