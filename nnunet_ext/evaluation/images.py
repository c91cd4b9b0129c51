"""Label maps and images from disk, with their spacing in array order."""

from __future__ import annotations

import gzip
import math
import re
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import SimpleITK as sitk

from nnunet_ext import forms
from nnunet_ext.errors import UserError
from nnunet_ext.forms import read_document
from nnunet_ext.label_rounding import LARGEST, rounding_bound, why_refused

#: voxels of an image: far above any scan, and still within a workstation's memory
MAX_VOXELS = 1 << 31
# Bytes of a file beyond its voxels: the header and its extensions.
_MORE_BYTES = 1 << 24
# A header of NRRD or MetaImage may say that the voxels lie in another file, which ITK reads wherever it is. Headers are
# therefore taken in one plain spelling alone, which is what ITK writes: a parser of ours that knew more of them could
# be talked into another reading than ITK's.
_HEADER_BYTES = 1 << 20
_NRRD_ELSEWHERE = re.compile(rb"data ?file", re.IGNORECASE)
_META_LOCAL = re.compile(rb"(?:(?!ElementDataFile)[A-Za-z][\w ]* = \S[^\n]*\n)+ElementDataFile = LOCAL\n")


def read_image(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array (Z, Y, X) or (Y, X) and spacing in mm in the same order.

    Raises:
        UserError: the file is missing, unreadable, cut short, too large, refers to another file, has several values
            a voxel, or the memory does not suffice for it.
    """
    reader = _header(path)
    if path.suffix == ".gz":
        voxels = math.prod(reader.GetSize()) * _BYTES.get(reader.GetPixelID(), 8)
        _check_gzip(path, voxels + _MORE_BYTES)
    try:
        image = reader.Execute()
        return sitk.GetArrayFromImage(image), _spacing(reader)
    except RuntimeError as error:
        if "allocat" in str(error).lower():
            raise _no_memory(path) from error
        raise UserError("not a readable image", file=path) from error
    except MemoryError as error:
        raise _no_memory(path) from error


# Kinds of files that hold pictures, in which distances are counted in pixels.
PICTURE_ENDINGS = (".png", ".bmp", ".jpg", ".jpeg", ".tif", ".tiff")
_SPACING_FILE = forms.record({"spacing": forms.list_of(forms.number_between(1e-6, 1e6), length=3)})


class Geometry(NamedTuple):
    """What the header of an image says of its grid.

    Attributes:
        shape: in array order (z, y, x) or (y, x).
        spacing: mm, in the same order; 1 (a pixel) of pictures; of TIFF volumes from the file beside them.
        origin: of the first voxel, in mm, in ITK's order (x, y, z) and world (left, posterior, superior).
        direction: of the axes, a matrix of ITK's row by row.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def read_geometry(path: Path) -> Geometry:
    """The grid of an image by its header. No voxel is read.

    Raises:
        UserError: as ``read_image``, as far as the header tells.
    """
    reader = _header(path)
    shape, origin, direction = tuple(reversed(reader.GetSize())), reader.GetOrigin(), reader.GetDirection()
    spacing = _picture_spacing(path, len(shape)) if is_picture(path) else _spacing(reader)
    return Geometry(shape, spacing, origin, direction)


def is_picture(path: Path) -> bool:
    """Whether the kind of file knows no mm: what it says of dots per inch is no spacing of a voxel."""
    return path.suffix.lower() in PICTURE_ENDINGS


def spacing_file(path: Path) -> Path:
    """Where nnU-Net keeps the spacing of a TIFF volume."""
    return path.with_suffix(".json")


def _picture_spacing(path: Path, dimensions: int) -> tuple[float, ...]:
    if dimensions == 3 and path.suffix.lower() in (".tif", ".tiff") and spacing_file(path).is_file():
        content = read_document(
            spacing_file(path),
            _SPACING_FILE,
            "a file with the spacing of a TIFF volume",
            'write {"spacing": [Z, Y, X]} or remove it',
            1 << 20,
        )
        return tuple(map(float, content["spacing"]))
    return (1.0,) * dimensions


def read_grid(path: Path) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Shape and spacing of an image, as in ``Geometry``. Raises as ``read_geometry``."""
    return read_geometry(path)[:2]


_BYTES = {
    sitk.sitkUInt8: 1,
    sitk.sitkInt8: 1,
    sitk.sitkUInt16: 2,
    sitk.sitkInt16: 2,
    sitk.sitkUInt32: 4,
    sitk.sitkInt32: 4,
    sitk.sitkFloat32: 4,
}


def _header(path: Path) -> sitk.ImageFileReader:
    if not path.is_file():
        what = "a folder, where a file should be" if path.is_dir() else "a link to nothing" if path.is_symlink() else ""
        raise UserError(what or "file not found", file=path)
    _check_self_contained(path)
    reader = sitk.ImageFileReader()
    try:
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
    except RuntimeError as error:
        if path.suffix == ".gz":
            _check_gzip(path, _MORE_BYTES)  # a broken file is named as such
        raise UserError("not a readable image", file=path) from error
    if math.prod(reader.GetSize()) > MAX_VOXELS:
        raise UserError(f"the image has more than the {MAX_VOXELS:,} voxels that are read", file=path)
    if reader.GetNumberOfComponents() != 1:
        raise UserError(f"{reader.GetNumberOfComponents()} values a voxel where one is expected", file=path)
    return reader


def _spacing(reader: sitk.ImageFileReader) -> tuple[float, ...]:
    return tuple(reversed(reader.GetSpacing()))


def _no_memory(path: Path) -> UserError:
    return UserError("the memory does not suffice for this image", file=path, remedy="evaluate where there is more")


def read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """As ``read_image``, for labels: integers. Values that are off a whole number by arithmetic alone are rounded
    (``nnunet_ext.label_rounding``). Raises ``UserError`` for other fractional or undefined values."""
    labels, spacing = read_image(path)
    if np.issubdtype(labels.dtype, np.integer):
        return labels, spacing
    if path.name.endswith((".nii", ".nii.gz")):
        _check_numbers(path)
    size = np.abs(labels)
    if not (size < LARGEST).all():
        worst = float(labels[~(size < LARGEST)][0])
        raise _no_labels(path, why_refused(worst, 0.0, labels.dtype.name))
    whole = np.rint(labels)
    off = np.abs(labels - whole)
    bound = rounding_bound(float(size.max(initial=0)))
    if off.max(initial=0) > bound:
        raise _no_labels(path, why_refused(float(labels.flat[off.argmax()]), bound, labels.dtype.name))
    return whole.astype(np.int64 if size.max(initial=0) >= 1 << 15 else np.int16), spacing


def _check_numbers(path: Path) -> None:
    # ITK's reader of NIfTI makes zeros of values that are no numbers, and so a background of them.
    import nibabel

    try:
        stored = np.asanyarray(nibabel.load(path).dataobj.get_unscaled())  # type: ignore[attr-defined]
    except (OSError, ValueError, nibabel.filebasedimages.ImageFileError):
        return  # ITK has read it
    if np.issubdtype(stored.dtype, np.floating) and not np.isfinite(stored).all():
        wrong = float(stored[~np.isfinite(stored)][0])
        raise _no_labels(path, why_refused(wrong, 0.0, stored.dtype.name))


def _no_labels(path: Path, why: str) -> UserError:
    return UserError(
        f"labels must be whole numbers, this file holds {why}",
        file=path,
        remedy="give label maps, not resampled ones or probabilities",
    )


def _check_gzip(path: Path, most: int) -> None:
    # SimpleITK fills the missing part of a truncated file with zeros and says nothing.
    try:
        with gzip.open(path) as stream:
            size = 0
            while block := stream.read(1 << 20):
                size += len(block)
                if size > most:
                    raise UserError("the file unpacks to more than its header declares", file=path)
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
