"""Which kind of archive a file is, from its name and its first bytes, and the errors for those that cannot be read."""

from __future__ import annotations

import re
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from typing import IO

from nnunet_ext.dataset_conversion.find.tar_header import SparseFile, is_tar
from nnunet_ext.errors import UserError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
# Python opens none of these; the programs named do.
_UNSUPPORTED = {
    **dict.fromkeys((".rar", ".7z"), "7z"),
    **dict.fromkeys((".tar.zst", ".tzst", ".tar.lz4", ".tar.lz", ".tlz", ".tar.lzma", ".tar.z", ".taz"), "'tar -xf'"),
}
# wget numbers copies of a whole archive with one digit: x.zip.1.
_SPLIT = re.compile(
    r"(?P<whole>.+\.(zip|7z|rar|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz|zst)))\.((part-?)?(\d{2,3}|aa))|(?P<rar>.+)\.part\d+\.rar",
    re.IGNORECASE | re.ASCII,
)

# Any compressed file is taken for a compressed tar; tarfile finds out what compressed it.
_MAGIC = (
    (b"PK", "zip"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.gz"),
    (b"\xfd7zXZ", "tar.gz"),
)
_END_OF_ZIP = b"PK\x05\x06"
#: More members than any download has; Python keeps all of them in memory.
MAX_MEMBERS = 250_000
_MAX_LIST_BYTES = 128 * MAX_MEMBERS
_LONGEST_END_OF_ZIP = 22 + 65535  # with the longest comment
# What tarfile, zipfile and the decompressors raise for damaged data.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    LZMAError,
    ValueError,
    struct.error,
    zlib.error,
)


def kind(stream: IO[bytes]) -> str:
    """``"zip"``, ``"tar"``, ``"tar.gz"`` (any compressed tar), ``"rar"``, ``"7z"`` or ``""``, from the first bytes."""
    start = stream.read(512)
    stream.seek(0)
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if start[257:262] == b"ustar" or is_tar(stream):
        return "tar"
    return "zip" if _end_of_zip(stream) else ""  # behind a program that unpacks it, or the last of several files


def looks_like_archive(name: str) -> bool:
    """Whether a name has the ending of an archive, be it one that cannot be opened, or of a part of one."""
    return name.lower().endswith(_SUFFIXES) or cannot_be_opened(name)


def cannot_be_opened(name: str) -> bool:
    """Whether a name has the ending of an archive that Python does not read, or of a part of an archive."""
    return name.lower().endswith(tuple(_UNSUPPORTED)) or _SPLIT.fullmatch(name) is not None


def whole_name(name: str) -> str:
    """The name of the archive that a file is, or that it is a part of: ``x.zip`` for ``x.zip.001``."""
    part = _SPLIT.fullmatch(name)
    return (part["whole"] or f"{part['rar']}.rar") if part else name


def refuse_unsupported(stream: IO[bytes], shown: str) -> None:
    """Raise ARC06 for what Python cannot open: rar, 7z, other ways to compress a tar, parts of a split archive.

    Args:
        stream: the archive, at its beginning; it is there again afterwards.
        shown: the archive as messages name it.
    """
    name = _name_of(shown)
    is_kind, whole = kind(stream), whole_name(name)
    if whole != name:
        raise _split(shown, whole)
    unpacked_by = next((program for ending, program in _UNSUPPORTED.items() if name.lower().endswith(ending)), "")
    if is_kind in ("rar", "7z"):
        unpacked_by = "7z"
    if unpacked_by:
        what = is_kind if is_kind in ("rar", "7z") else name.lower().rpartition(".")[2]
        raise UserError(
            f"{shown} cannot be opened: Python reads no {what}",
            remedy=f"unpack it with {unpacked_by} and give the folder",
            code="ARC06",
        )
    if is_kind == "zip":
        if re.search(r"\.z\d\d$", name, re.IGNORECASE):
            raise _split(shown, f"{name[:-4]}.zip")
        _check_end_of_zip(stream, shown, name)


def _name_of(shown: str) -> str:
    return re.split(r"[/\\]", shown)[-1]


def _split(shown: str, whole: str) -> UserError:
    if ".tar" in whole.lower() or whole.lower().endswith((".tgz", ".tbz2", ".txz")):
        parts = re.sub(r"\d+$", "[0-9]*", re.sub("aa$", "a*", _name_of(shown), flags=re.IGNORECASE))
        remedy = f"join its parts ('cat {parts} > {whole}') and give {whole}"
    else:
        remedy = "unpack it with 7z, all its parts in one folder, and give the folder with the result"
    return UserError(
        f"{shown} is a part of a split archive, {whole}, and cannot be opened", remedy=remedy, code="ARC06"
    )


def _check_end_of_zip(stream: IO[bytes], shown: str, name: str) -> None:
    """Look at the end of a zip, where its list of members is announced.

    Raises:
        UserError: ARC04 for a list that Python would take into memory whole; ARC06 for the last of several files.
    """
    tail = _end_of_zip(stream)
    if not tail:
        return  # a broken one, as Python will say
    at = tail.rfind(_END_OF_ZIP)
    disk, directory = struct.unpack_from("<H6xI", tail, at + 4)
    if disk not in (0, 0xFFFF):
        raise _split(shown, name)
    large = tail[max(at - 76, 0) : at]
    if large.startswith(b"PK\x06\x06") and len(large) == 76:
        directory = struct.unpack_from("<Q", large, 40)[0]
    if _MAX_LIST_BYTES < directory <= stream.seek(0, 2):
        raise too_many(shown)
    stream.seek(0)


def _end_of_zip(stream: IO[bytes]) -> bytes:
    """The last bytes of a zip, in which its list of members is announced; none if this is no zip."""
    size = stream.seek(0, 2)
    stream.seek(max(size - _LONGEST_END_OF_ZIP, 0))
    tail = stream.read(_LONGEST_END_OF_ZIP)
    stream.seek(0)
    at = tail.rfind(_END_OF_ZIP)
    return tail if at >= 0 and len(tail) >= at + 22 else b""


def too_many(shown: str) -> UserError:
    """ARC04 for an archive of more members than any download has."""
    return UserError(
        f"{shown} holds more than {MAX_MEMBERS} members",
        remedy="if you trust it, unpack what belongs to the dataset and give the folder",
        code="ARC04",
    )


@contextmanager
def broken_is_an_error(shown: str) -> Iterator[None]:
    """Raise ARC01 for whatever the standard library raises while it reads the archive that messages name ``shown``."""
    try:
        yield
    except SparseFile as error:
        raise sparse(shown, str(error)) from error
    except NotImplementedError as error:
        raise UserError(
            f"{shown} cannot be read: {error}", remedy="unpack it with 7z and give the folder", code="ARC01"
        ) from error
    except _BROKEN as error:
        text = str(error) or type(error).__name__
        raise UserError(f"{shown} cannot be read: {text}", remedy="fetch the archive again", code="ARC01") from error
    except OSError as error:
        raise UserError(
            f"{shown} cannot be read: {error.strerror or error}",
            remedy="check its permissions and the disk",
            code="ARC01",
        ) from error


def sparse(shown: str, member: str) -> UserError:
    """ARC01 for a file of a tar that is stored without its holes."""
    return UserError(
        f"{shown}!/{member} is stored as a sparse file, which is not read",
        remedy="unpack the tar with 'tar -xf', not with 7z, and give the folder",
        code="ARC01",
    )
