"""Headers of tars that are not expanded without bounds."""

from __future__ import annotations

import tarfile
from pathlib import Path

_MAX_HEADER_BYTES = 1 << 20
_READ_WHOLE = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class TarHeader(tarfile.TarInfo):
    """What the standard library must know to stop in time.

    It reads long names and extended headers into memory whole, however long they say they are, and seeks the list of
    holes in a sparse file to the end of the archive.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> TarHeader:
        header = super().frombuf(buf, encoding, errors)
        if header.size < 0 or (header.type in _READ_WHOLE and header.size > _MAX_HEADER_BYTES):
            raise tarfile.ReadError(f"a header of {header.size} bytes")
        return header

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise tarfile.ReadError("sparse files are not read")


def is_tar(path: Path) -> bool:
    """Whether a file without a mark of its kind is a tar; one that is compressed in an unmarked way is none."""
    try:
        with tarfile.open(path, "r:", tarinfo=TarHeader):
            return True
    except (tarfile.TarError, ValueError):
        return False
