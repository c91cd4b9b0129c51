"""One plane of an image, turned as a radiologist looks at it where the orientation is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_ext.report.grid import Grid

# Right of the patient on the reader's left, front and head up: axes that lead the other way are turned round.
_TURNED = "RAS"
# An axis of a lower rank is shown across, the other one downwards.
_RANK = {"L": 0, "R": 0, "P": 1, "A": 1, "S": 2, "I": 2}
_OPPOSITE = {"L": "R", "R": "L", "P": "A", "A": "P", "S": "I", "I": "S"}
_NAMES = ("sagittal", "coronal", "axial")
# From here on voxels are anisotropic enough that planes other than the scanned one look like stairs.
ANISOTROPIC = 1.5


@dataclass(frozen=True)
class Cut:
    """A plane through an image.

    Attributes:
        axis: array axis that it is perpendicular to; None for a picture of two dimensions.
        index: of the plane along it, from 0.
        count: planes along it.
        aspect: height of a shown pixel by its width.
        name: axial, coronal or sagittal; empty where that is not known.
        edges: letters for the left and the right edge; empty where they are not known.
        transposed, flipped: how the plane is turned: rows for columns, then rows and columns reversed.
    """

    axis: int | None
    index: int
    count: int
    aspect: float
    name: str = ""
    edges: tuple[str, str] = ("", "")
    transposed: bool = False
    flipped: tuple[bool, bool] = (False, False)

    def of(self, array: np.ndarray) -> np.ndarray:
        """The plane of an array (Z, Y, X) or (Y, X), whose last axis may hold colours."""
        plane = array if self.axis is None else np.take(array, self.index, axis=self.axis)
        if self.transposed:
            plane = np.swapaxes(plane, 0, 1)
        for axis, flip in enumerate(self.flipped):
            plane = np.flip(plane, axis) if flip else plane
        return plane

    def words(self) -> str:
        """Such as ``axial slice 17 of 32``; slices are counted from 1. Empty for a picture."""
        return "" if self.axis is None else f"{self.name} slice {self.index + 1} of {self.count}".strip()


def default_axis(grid: Grid) -> int:
    """Axis to cut across: the one with by far the thickest voxels, else head to foot, else the first."""
    thickest = int(np.argmax(grid.spacing))
    others = [spacing for axis, spacing in enumerate(grid.spacing) if axis != thickest]
    if grid.spacing[thickest] > ANISOTROPIC * max(others):
        return thickest
    return next((axis for axis, side in enumerate(grid.towards) if side in "SI"), 0)


def fullest_slice(reference: np.ndarray, regions: Sequence[Sequence[int]], axis: int = 0) -> int:
    """Index along an axis where the regions together cover most; nested regions count once each."""
    others = tuple(other for other in range(reference.ndim) if other != axis)
    covered = sum(np.isin(reference, values).sum(axis=others) for values in regions)
    return int(np.argmax(covered)) if np.any(covered) else reference.shape[axis] // 2


def cut(grid: Grid, shape: Sequence[int], index: int, axis: int) -> Cut:
    """A plane of a volume on this grid.

    Args:
        grid: of the volume.
        shape: (Z, Y, X).
        index: of the plane along the axis, from 0.
        axis: array axis that the plane is perpendicular to.
    """
    rows, columns = (other for other in range(3) if other != axis)
    if not grid.towards:
        return Cut(axis, index, shape[axis], grid.spacing[rows] / grid.spacing[columns])
    transposed = _RANK[grid.towards[rows]] < _RANK[grid.towards[columns]]
    if transposed:
        rows, columns = columns, rows
    flipped = (grid.towards[rows] in _TURNED, grid.towards[columns] in _TURNED)
    right = _OPPOSITE[grid.towards[columns]] if flipped[1] else grid.towards[columns]
    return Cut(
        axis,
        index,
        shape[axis],
        grid.spacing[rows] / grid.spacing[columns],
        _NAMES[_RANK[grid.towards[axis]]],
        (_OPPOSITE[right], right),
        transposed,
        flipped,
    )


def whole_picture(grid: Grid) -> Cut:
    """A picture of two dimensions, as it is stored."""
    return Cut(None, 0, 1, grid.spacing[0] / grid.spacing[1])
