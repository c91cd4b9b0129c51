"""Label maps and images from disk, with their spacing in array order."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from nnunet_ext.errors import UserError


def read_image(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """Array (Z, Y, X) or (Y, X) and spacing in mm in the same order.

    Raises:
        UserError: the file is missing, unreadable, cut short, or has several values a voxel.
    """
    if not path.is_file():
        raise UserError("file not found", file=path)
    if path.suffix == ".gz":
        _check_gzip(path)
    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise UserError("not a readable image", file=path) from error
    if image.GetNumberOfComponentsPerPixel() != 1:
        raise UserError(f"{image.GetNumberOfComponentsPerPixel()} values a voxel where one is expected", file=path)
    return sitk.GetArrayFromImage(image), tuple(reversed(image.GetSpacing()))


def read_label_map(path: Path) -> tuple[np.ndarray, tuple[float, ...]]:
    """As ``read_image``, for whole-numbered labels. Raises ``UserError`` for fractional or undefined values."""
    labels, spacing = read_image(path)
    if not np.issubdtype(labels.dtype, np.integer):
        if not np.array_equal(labels, np.rint(labels)):
            raise UserError("labels must be whole numbers", file=path)
        labels = labels.astype(np.int64)
    return labels, spacing


def _check_gzip(path: Path) -> None:
    # SimpleITK fills the missing part of a truncated file with zeros and says nothing.
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except (OSError, EOFError, zlib.error) as error:
        raise UserError("broken gzip file", file=path, remedy="write or copy it again") from error
