"""Reading a NIfTI file of a source: its header, and its content no further than the header declares."""

from __future__ import annotations

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import gz, nifti
from nnunet_ext.dataset_conversion.formats.nifti import Header
from nnunet_ext.errors import UserError

# Enough of a compressed file to hold its header; extensions and long gzip names are rare.
_FIRST = 1 << 14


def is_gz(file: SourceFile) -> bool:
    """Whether a file is compressed, by its name."""
    return file.name.lower().endswith(".gz")


def header_bytes(file: SourceFile) -> bytes:
    """The first bytes of the uncompressed file, ``nifti.HEADER_BYTES`` of them.

    Raises:
        UserError: IO01, IO02, GZ01, ARC01.
    """
    raw = read(file, _FIRST)
    if is_gz(file):
        return gz.first_bytes(raw, nifti.HEADER_BYTES, file.shown)
    if raw.startswith(b"\x1f\x8b"):
        raise UserError(f"{file.shown} is gzip data in a .nii name", remedy="give it the ending .nii.gz", code="IO01")
    return raw[: nifti.HEADER_BYTES]


def content(file: SourceFile, header: Header) -> tuple[bytes, bytes]:
    """The file as it is stored and uncompressed, exactly as long as its header says.

    Raises:
        UserError: GZ01, IO01, IO02, ARC01.
    """
    expected = header.content_size
    # Compressing makes nothing much larger; what is larger nevertheless is not read.
    if file.size > (expected + expected // 64 + (1 << 20) if is_gz(file) else expected):
        raise _wrong_size(file, header, "more than")
    stored = read(file)
    held = gz.decompress(stored, expected, file.shown) if is_gz(file) else stored
    if len(held) != expected:
        raise _wrong_size(file, header, "more than" if len(held) > expected else f"{len(held)} instead of")
    return stored, held


def _wrong_size(file: SourceFile, header: Header, held: str) -> UserError:
    return UserError(
        f"{file.shown} holds {held} the {header.content_size} bytes that its header declares",
        code="IO01",
        remedy="fetch the file again",
    )
