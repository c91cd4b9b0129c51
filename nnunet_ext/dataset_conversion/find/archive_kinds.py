"""Which kind of archive a file is, from its first bytes, and the error for one that cannot be read."""

from __future__ import annotations

import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path

from nnunet_ext.dataset_conversion.find.tar_header import is_tar
from nnunet_ext.errors import UserError

_SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_UNSUPPORTED_SUFFIXES = (".rar", ".7z")

# Any compressed file is taken for a compressed tar; tarfile finds out what compressed it.
_MAGIC = (
    (b"PK", "zip"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.gz"),
    (b"\xfd7zXZ", "tar.gz"),
)
# What tarfile, zipfile and the decompressors raise for damaged data.
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    LZMAError,
    NotImplementedError,
    ValueError,
    struct.error,
    zlib.error,
)


def kind(path: Path) -> str:
    """``"zip"``, ``"tar"``, ``"tar.gz"`` (any compressed tar), ``"rar"``, ``"7z"`` or ``""``, from the first bytes.

    Raises:
        UserError: ARC01 if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        for magic, name in _MAGIC:
            if start.startswith(magic):
                return name
        return "tar" if start[257:262] == b"ustar" or is_tar(path) else ""
    except OSError as error:
        raise _unreadable(path, error) from error


def looks_like_archive(name: str) -> bool:
    """Whether a name has the ending of an archive that can be opened."""
    return name.lower().endswith(_SUFFIXES)


def refuse_unsupported(path: Path) -> None:
    """Raise ARC06 for rar and 7z, which Python cannot open."""
    if path.name.lower().endswith(_UNSUPPORTED_SUFFIXES) or kind(path) in ("rar", "7z"):
        raise UserError(f"{path} cannot be opened", remedy="unpack it first and give the folder", code="ARC06")


@contextmanager
def broken_is_an_error(path: Path) -> Iterator[None]:
    """Raise ARC01 for whatever the standard library raises while it reads the archive."""
    try:
        yield
    except _BROKEN as error:
        text = str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read: {text}", remedy="fetch the archive again", code="ARC01") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be read: {error.strerror or error}", remedy="check its permissions and the disk", code="ARC01"
    )
