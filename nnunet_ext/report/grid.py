"""The grid of an image: size of a voxel, and which side of the patient each axis leads to where the file says so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.images import read_grid, read_image

# Two-dimensional pictures, of which each may have three colours.
PICTURE_ENDINGS = (".png", ".bmp", ".tif", ".tiff", ".jpg", ".jpeg")
#: values of a picture, known from its header before it is decoded
MAX_PICTURE_VALUES = 1 << 28
# ITK's world grows towards the patient's left, back (posterior) and head (superior).
_GROWS_TOWARDS = ("L", "P", "S")
_SHRINKS_TOWARDS = ("R", "A", "I")
# Beyond 37 degrees off an axis of the patient a letter at the edge of a picture would say more than is true.
_ALONG = 0.8


@dataclass(frozen=True)
class Grid:
    """Where the voxels of an array lie.

    Attributes:
        spacing: mm a voxel along each array axis.
        towards: for each array axis the side of the patient (L, R, A, P, S or I) that its indices grow towards; empty
            where the orientation is not known.
    """

    spacing: tuple[float, ...]
    towards: tuple[str, ...] = ()


def sides(direction: tuple[float, ...]) -> tuple[str, ...]:
    """``Grid.towards`` of a direction matrix of ITK (row by row); empty if an axis lies between two of the patient."""
    if len(direction) != 9:
        return ()
    letters = []
    for column in np.asarray(direction, dtype=float).reshape(3, 3).T[::-1]:
        strongest = int(np.argmax(np.abs(column)))
        if not abs(column[strongest]) >= _ALONG:
            return ()
        letters.append((_GROWS_TOWARDS if column[strongest] > 0 else _SHRINKS_TOWARDS)[strongest])
    return tuple(letters)


def _orientation_is_known(reader: sitk.ImageFileReader, path: Path) -> bool:
    # A header without orientation is read as if it had the simplest one: what the format says decides.
    if path.name.lower().endswith((".nii", ".nii.gz")):
        codes = [reader.GetMetaData(key) for key in ("qform_code", "sform_code") if reader.HasMetaDataKey(key)]
        return any(code not in ("", "0") for code in codes)
    return path.suffix.lower() == ".nrrd" and reader.HasMetaDataKey("NRRD_space")


def read_shown_image(path: Path) -> tuple[np.ndarray, Grid]:
    """An image to look at: array (Z, Y, X) or (Y, X), or (Y, X, 3) for a colour picture, and its grid.

    Orientation is taken from NIfTI with a qform or sform, and from NRRD with a space; MetaImage and pictures do not say
    whether theirs is meant.

    Raises:
        UserError: the file is missing, unreadable or too large.
    """
    picture = _read_colours(path) if path.suffix.lower() in PICTURE_ENDINGS and path.is_file() else None
    if picture is not None:
        return picture
    array, spacing = read_image(path)
    reader = _header(path)
    return array, Grid(spacing, sides(reader.GetDirection()) if _orientation_is_known(reader, path) else ())


def read_shown_shape(path: Path) -> tuple[int, ...]:
    """Shape (Z, Y, X) or (Y, X) by the header, without the colours of a picture. No voxel is read.

    Raises:
        UserError: as ``read_shown_image``, as far as the header tells.
    """
    if path.suffix.lower() in PICTURE_ENDINGS and path.is_file():
        try:
            return tuple(reversed(_header(path).GetSize()))
        except RuntimeError as error:
            raise UserError("not a readable image", file=path) from error
    return read_grid(path)[0]


def _header(path: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    return reader


def _read_colours(path: Path) -> tuple[np.ndarray, Grid] | None:
    """A picture with three values a pixel (a fourth, transparency, is left away); None if it has one."""
    try:
        reader = _header(path)
        components = reader.GetNumberOfComponents()
        if math.prod(reader.GetSize()) * components > MAX_PICTURE_VALUES:
            raise UserError(f"the picture has more than the {MAX_PICTURE_VALUES:,} values that are shown", file=path)
        if components not in (3, 4) or reader.GetDimension() != 2:
            return None
        image = reader.Execute()
    except RuntimeError as error:
        raise UserError("not a readable image", file=path) from error
    return sitk.GetArrayFromImage(image)[..., :3], Grid(tuple(reversed(image.GetSpacing())))
