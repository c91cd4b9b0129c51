"""A download packed into an archive, with one thing wrong: a member, a name, the container or the nesting."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping

from odd_values import TEXTS, odd_bytes, shown

Files = Mapping[str, bytes]
_DATE = (2020, 1, 1, 0, 0, 0)
_BAD_NAMES = (
    *(
        "../mine",
        "../../../../mine",
        "/mine",
        "a/../../mine",
        "a/./b",
        "a//b",
        "..",
        ".",
        "",
        "/",
        "C:\\mine",
        "\\\\s\\m",
    ),
    *("a" * 300, "/".join("d" * 200 for _ in range(30)), "a\\..\\..\\mine", "a/", "nul\0byte", "\u202etxt", "-rf"),
    *("~/mine", ".", "./", "a/b/c/" * 200 + "x", "\ud800"),
)


def mutate(files: Files, rng: random.Random, box: str) -> tuple[str, bytes, str]:
    """Name and bytes of the archive, and what is wrong with it. ``box`` is a folder nothing may be written to."""
    form = rng.choice(("zip", "zip", "tar", "tar", "tar.gz", "tar.bz2", "tar.xz"))
    how = rng.choice(tuple(_CHANGES))
    if how.startswith("zip field"):
        form = "zip"
    elif how in ("tar header", "pax", "device") and form == "zip":
        form = "tar"
    if how == "bytes":
        data, told = odd_bytes(_pack(form, dict(files)), rng)
        return f"download.{form}", data, f"{form}: {told}"
    if how == "ending":
        ending = rng.choice(
            ("zip", "tar", "tar.gz", "tgz", "gz", "rar", "7z", "zip.001", "tar.zst", "nii.gz", "txt", "")
        )
        return f"download.{ending}", _pack(form, dict(files)), f"{form} named .{ending}"
    if how == "nested":
        return _nested(files, rng, form)
    data, told = _CHANGES[how](files, rng, form, box)
    return f"download.{form}", data, f"{form}: {told}"


def _pack(form: str, files: Files) -> bytes:
    return (
        _zip(files)
        if form == "zip"
        else _compress(form, _tar([(_info(name, data), data) for name, data in files.items()]))
    )


def _zip(files: Files, **how: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", how.get("method", zipfile.ZIP_DEFLATED)) as packed:
        for name, data in files.items():
            packed.writestr(zipfile.ZipInfo(name, _DATE), data, how.get("method", zipfile.ZIP_DEFLATED))
    return out.getvalue()


def _info(name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, target
    return info


def _tar(members: list[tuple[tarfile.TarInfo, bytes]], form: int = tarfile.GNU_FORMAT) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form, errors="surrogatepass") as packed:
        for info, data in members:
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _compress(form: str, data: bytes) -> bytes:
    if form == "tar.gz":
        return gzip.compress(data, mtime=0)
    return {"tar": lambda: data, "tar.bz2": lambda: bz2.compress(data), "tar.xz": lambda: lzma.compress(data)}[form]()


def _bad_name(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    name = rng.choice((*_BAD_NAMES, *TEXTS, f"{box}/mine", f"../../../../../../../..{box}/mine"))
    old = rng.choice((None, *files))
    changed = {name if key == old else key: data for key, data in files.items()}
    if old is None:
        changed[name] = b"mine"
    try:
        return _pack(form, changed), f"member named {shown(name)}"
    except (UnicodeError, ValueError):
        raw = _pack(form, {("QQQQ" if key == name else key): data for key, data in changed.items()})
        return raw.replace(b"QQQQ", b"\xff\xfe/\xe9"), "member with a name that is not UTF-8"


def _link(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    first = next(iter(files))
    target = rng.choice(
        (f"{box}/outside", "../../../outside", "/etc/passwd", first, ".", "/", "loop", "", "absent", "a" * 5000)
    )
    name = rng.choice(("loop", "a/b", first, *files))
    if form == "zip":
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as packed:
            for key, data in files.items():
                packed.writestr(zipfile.ZipInfo(key, _DATE), data)
            info = zipfile.ZipInfo(name + "_link", _DATE)
            info.create_system, info.external_attr = 3, 0o120777 << 16
            packed.writestr(info, target)
            packed.writestr(zipfile.ZipInfo(name + "_link/mine", _DATE), b"mine")
        return out.getvalue(), f"symbolic link to {shown(target)}"
    kind = rng.choice((tarfile.SYMTYPE, tarfile.LNKTYPE))
    members = [(_info(key, data), data) for key, data in files.items() if key != name or rng.random() < 0.5]
    members += [(_info(name, kind=kind, target=target), b""), (_info(name + "/mine", b"mine"), b"mine")]
    if rng.random() < 0.3:
        members.reverse()
    word = "symbolic" if kind == tarfile.SYMTYPE else "hard"
    return _compress(form, _tar(members)), f"{word} link {shown(name)} to {shown(target)}"


def _device(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    kind = rng.choice(
        (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.CONTTYPE, b"Z", b"V", b"M", b"S", b"N")
    )
    members = [(_info(key, data), data) for key, data in files.items()]
    members.insert(rng.randrange(len(members)), (_info(rng.choice((*files, "odd")), kind=kind), b""))
    packed = _tar(members)
    return _compress(form, packed), f"member of type {kind!r}"


def _tar_header(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    """A field of a member's header, with the checksum set right again."""
    members = [(_info(key, data), data) for key, data in files.items()]
    packed = bytearray(_tar(members, rng.choice((tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT))))
    fields = {
        "mode": (100, 8),
        "uid": (108, 8),
        "size": (124, 12),
        "mtime": (136, 12),
        "type": (156, 1),
        "magic": (257, 8),
    }
    name = rng.choice(tuple(fields))
    offset, length = fields[name]
    text = rng.choice((b"\0", b"7" * 11, b"\x80" + b"\xff" * 11, b"\xff" * 12, b"-1", b"99999999999", b"0" * 11, b" "))
    packed[offset : offset + length] = text.ljust(length, b"\0")[:length]
    packed[148:156] = b" " * 8
    packed[148:156] = f"{sum(packed[:512]):06o}\0 ".encode()
    return _compress(form, bytes(packed)), f"tar header: {name} = {text!r}"


def _pax(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    key = rng.choice(
        ("path", "size", "linkpath", "GNU.sparse.map", "GNU.sparse.major", "hdrcharset", "mtime", "comment")
    )
    value = rng.choice((*_BAD_NAMES, "9" * 30, "-1", "0,10,5", "BINARY", "x" * 200_000))
    out = io.BytesIO()
    try:
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as packed:
            for number, (name, data) in enumerate(files.items()):
                info = _info(name, data)
                if number == 1:
                    info.pax_headers = {key: value}
                packed.addfile(info, io.BytesIO(data))
    except (UnicodeError, ValueError):
        return _compress(form, out.getvalue()), "tar that ends in a header"
    return _compress(form, out.getvalue()), f"pax header {key} = {shown(value)}"


def _zip_field(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    packed = bytearray(_zip(files))
    central, end = packed.find(b"PK\1\2"), packed.rfind(b"PK\5\6")
    fields = {
        **{f"central {name}": (central + offset, code) for name, (offset, code) in _CENTRAL.items()},
        **{f"local {name}": (offset, code) for name, (offset, code) in _LOCAL.items()},
        **{f"end {name}": (end + offset, code) for name, (offset, code) in _END.items()},
    }
    name = rng.choice(tuple(fields))
    offset, code = fields[name]
    value = rng.choice((0, 1, 8, 9, 12, 14, 20, 93, 99, 255, 0x800, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFE, 10**9))
    struct.pack_into("<" + code, packed, offset, value & (0xFFFF if code == "H" else 0xFFFFFFFF))
    return bytes(packed), f"zip field {name} = {value}"


_CENTRAL = {"needs": (6, "H"), "flags": (8, "H"), "method": (10, "H"), "crc": (16, "I"), "packed": (20, "I")}
_CENTRAL |= {"size": (24, "I"), "name length": (28, "H"), "extra": (30, "H"), "comment": (32, "H"), "disk": (34, "H")}
_CENTRAL |= {"attributes": (38, "I"), "offset": (42, "I")}
_LOCAL = {
    "flags": (6, "H"),
    "method": (8, "H"),
    "crc": (14, "I"),
    "packed": (18, "I"),
    "size": (22, "I"),
    "name": (26, "H"),
}
_END = {
    "disk": (4, "H"),
    "count": (10, "H"),
    "directory size": (12, "I"),
    "directory offset": (16, "I"),
    "comment": (20, "H"),
}


def _repeated(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    name = rng.choice(tuple(files))
    other = rng.choice((name, name.upper(), f"{name}/inside", "/".join(name.split("/")[:-1]) or name, f"./{name}"))
    data = rng.choice((files[name], b"", b"other"))
    if form != "zip":
        return _compress(
            form, _tar([*((_info(key, old), old) for key, old in files.items()), (_info(other, data), data)])
        ), (f"{shown(name)} once more as {shown(other)}")
    out = io.BytesIO(_zip(files))
    with zipfile.ZipFile(out, "a") as packed:
        packed.writestr(zipfile.ZipInfo(other, _DATE), data)
    return out.getvalue(), f"{shown(name)} once more as {shown(other)}"


def _bomb(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    # bzip2 and xz take long to make, and as long to read
    size = rng.choice((1 << 20, 1 << 22, 1 << 24) if form in ("tar.bz2", "tar.xz") else (1 << 20, 1 << 26, 1 << 28))
    name = rng.choice(("zeros.bin", *files))
    return _pack(form, {**files, name: bytes(size)}), f"{shown(name)} of {size >> 20} MiB of zeros"


def _many(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    count = rng.choice((1000, 5000))
    return _pack("tar" if form != "zip" else form, {**files, **{f"junk/{number}": b"" for number in range(count)}}), (
        f"{count} empty members"
    )


def _some(files: Files, rng: random.Random, form: str, box: str) -> tuple[bytes, str]:
    kept = [name for name in files if rng.random() < 0.7]
    method = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    if form == "zip":
        return _zip(
            {name: files[name] for name in kept}, method=method
        ), f"{len(kept)} of {len(files)}, method {method}"
    return _pack(form, {name: files[name] for name in kept}), f"{len(kept)} of {len(files)} files"


def _nested(files: Files, rng: random.Random, form: str) -> tuple[str, bytes, str]:
    depth, data, name = rng.choice((1, 2, 3, 5, 30)), _pack(form, files), f"inner.{form}"
    for level in range(depth):
        form = rng.choice(("zip", "tar", "tar.gz"))
        data = _pack(form, {name: data, "note.txt": b"x"})
        name = f"level{level}.{form}"
    return name, data, f"{depth} archives around the archive"


_CHANGES: dict[str, Callable[[Files, random.Random, str, str], tuple[bytes, str]]] = {
    "name": _bad_name,
    "name again": _bad_name,
    "link": _link,
    "device": _device,
    "tar header": _tar_header,
    "pax": _pax,
    "zip field": _zip_field,
    "zip field again": _zip_field,
    "repeated": _repeated,
    "bomb": _bomb,
    "many": _many,
    "some": _some,
    "bytes": _some,
    "ending": _some,
    "nested": _some,
}
