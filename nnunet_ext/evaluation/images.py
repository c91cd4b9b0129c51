"""Label maps and images from disk, with their spacing in array order."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_ext.errors import UserError

#: voxels of an image, and bytes of an unpacked file: far above any scan, and still within a workstation's memory
MAX_VOXELS = 1 << 31
MAX_BYTES = 1 << 34
# A header of NRRD or MetaImage may say that the voxels lie in another file, which ITK reads wherever it is. Headers are
# therefore taken in one plain spelling alone, which is what ITK writes: a parser of ours that knew more of them could
# be talked into another reading than ITK's.
_HEADER_BYTES = 1 << 20
_NRRD_ELSEWHERE = re.compile(rb"data ?file", re.IGNORECASE)
_META_LOCAL = re.compile(rb"(?:(?!ElementDataFile)[A-Za-z][\w ]* = \S[^\n]*\n)+ElementDataFile = LOCAL\n")


def read_image(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array (Z, Y, X) or (Y, X) and spacing in mm in the same order.

    Raises:
        UserError: the file is missing, unreadable, cut short, too large, refers to another file, or has several values
            a voxel.
    """
    if not path.is_file():
        raise UserError("file not found", file=path)
    if path.suffix == ".gz":
        _check_gzip(path)
    _check_self_contained(path)
    try:
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        if math.prod(reader.GetSize()) > MAX_VOXELS:
            raise UserError(f"the image has more than the {MAX_VOXELS:,} voxels that are read", file=path)
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError("not a readable image", file=path) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{image.GetNumberOfComponentsPerPixel()} values a voxel where one is expected", file=path)
    return sitk.GetArrayFromImage(image), tuple(reversed(image.GetSpacing()))


def read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """As ``read_image``, for whole-numbered labels. Raises ``UserError`` for fractional or undefined values."""
    labels, spacing = read_image(path)
    if not np.issubdtype(labels.dtype, np.integer):
        # beyond 2^53 a number of double precision is no longer one whole number
        if not (np.abs(labels) < 2.0**53).all() or not np.array_equal(labels, np.rint(labels)):
            raise UserError("labels must be whole numbers", file=path)
        labels = labels.astype(np.int64)
    return labels, spacing


def _check_gzip(path: Path) -> None:
    # SimpleITK fills the missing part of a truncated file with zeros and says nothing.
    try:
        with gzip.open(path) as stream:
            size = 0
            while block := stream.read(1 << 20):
                size += len(block)
                if size > MAX_BYTES:
                    raise UserError(f"the file unpacks to more than {MAX_BYTES >> 30} GiB", file=path)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("broken gzip file", file=path, remedy="write or copy it again") from error


def _check_self_contained(path: Path) -> None:
    try:
        with path.open("rb") as stream:
            header = stream.read(_HEADER_BYTES).replace(b"\r\n", b"\n")
    except OSError as error:
        raise UserError(f"the file cannot be read: {error.strerror}", file=path) from error
    if header.startswith(b"NRRD"):
        fields, end, _ = header.partition(b"\n\n")
        alone = bool(end) and b"\r" not in fields and not _NRRD_ELSEWHERE.search(fields)
    elif path.suffix.lower() in (".mha", ".mhd"):
        found = _META_LOCAL.match(header)
        alone = found is not None and b"\r" not in found[0]
    else:
        return
    if not alone:
        raise UserError(
            "the header of the image does not plainly say that its voxels lie in the same file",
            file=path,
            remedy="write it anew as a single file, such as with SimpleITK",
        )
