"""Headers of tars that are not expanded without bounds."""

from __future__ import annotations

import tarfile
from typing import IO

_MAX_HEADER_BYTES = 1 << 20
_READ_WHOLE = (
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
)


class SparseFile(Exception):
    """A file that is stored without its holes; the text is its name.

    It is no ``TarError``, of which tarfile would make one of its own where the file is the first of a tar.
    """


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

    def _proc_gnusparse_10(self, next: tarfile.TarInfo, pax_headers: dict[str, str], *_: object) -> None:
        raise SparseFile(pax_headers.get("GNU.sparse.name") or next.name)


def is_tar(stream: IO[bytes]) -> bool:
    """Whether a file without a mark of its kind is a tar; one that is compressed in an unmarked way is none."""
    try:
        with tarfile.open(fileobj=stream, mode="r:", tarinfo=TarHeader):
            return True
    except SparseFile:
        return True
    except (tarfile.TarError, ValueError):
        return False
    finally:
        stream.seek(0)
