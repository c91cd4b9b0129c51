"""A predicted mask and its reference, with what several metrics need of them: found once, and only if one asks."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar, cast

import numpy as np

from nnunet_ext.evaluation.surfaces import DirectedDistances, border_distances, surfel_distances

Result = TypeVar("Result")
Box = tuple[slice, ...]


def bounding_box(marked: np.ndarray) -> Box | None:
    """Slices of the smallest box that holds all values but 0 and False; None where there is none."""
    box: list[slice] = []
    for axis in range(marked.ndim):
        # what was found along the axes before is cut off first: the later ones have less to look at
        part = marked[tuple(box)]
        holds = np.flatnonzero(part.any(axis=tuple(other for other in range(marked.ndim) if other != axis)))
        if not holds.size:
            return None
        box.append(slice(int(holds[0]), int(holds[-1]) + 1))
    return tuple(box)


def joint_box(*boxes: Box | None) -> Box | None:
    """The smallest box that holds all of those that there are."""
    known = [box for box in boxes if box is not None]
    if not known:
        return None
    return tuple(slice(min(s.start for s in axis), max(s.stop for s in axis)) for axis in zip(*known, strict=True))


@dataclass(frozen=True, eq=False)
class MaskPair:
    """Two masks of one region.

    Attributes:
        prediction: boolean mask of any dimension, array order (z, y, x) or (y, x).
        reference: boolean mask of the same shape.
        spacing: mm a voxel along each array axis.
        voxels: that count in the whole image, where the masks are cut out of it or some of it is ignored; those of the
            masks if not given.

    Raises:
        ValueError: the masks differ in shape.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: Sequence[float]
    voxels: int | None = None
    _results: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        if self.prediction.shape != self.reference.shape:
            raise ValueError(
                f"masks differ in shape: prediction {self.prediction.shape}, reference {self.reference.shape}"
            )

    @cached_property
    def voxels_prediction(self) -> int:
        return int(np.count_nonzero(self.prediction))

    @cached_property
    def voxels_reference(self) -> int:
        return int(np.count_nonzero(self.reference))

    @cached_property
    def voxels_common(self) -> int:
        """True positives."""
        return int(np.count_nonzero(self.prediction & self.reference))

    @cached_property
    def voxels_background(self) -> int:
        """True negatives."""
        everything = self.prediction.size if self.voxels is None else self.voxels
        return everything - self.voxels_prediction - self.voxels_reference + self.voxels_common

    @property
    def empty(self) -> str:
        """Which mask holds no voxel: ``"both"``, ``"prediction"``, ``"reference"``, or nothing where none is."""
        if self.voxels_prediction:
            return "" if self.voxels_reference else "reference"
        return "prediction" if self.voxels_reference else "both"

    @cached_property
    def cut_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Both masks in the joint bounding box, outside of which neither has a surface; as they are if both are
        empty."""
        box = joint_box(bounding_box(self.prediction), bounding_box(self.reference))
        return (self.prediction, self.reference) if box is None else (self.prediction[box], self.reference[box])

    @cached_property
    def border_distances(self) -> DirectedDistances:
        """In mm, between border voxels. Neither mask may be empty."""
        return border_distances(*self.cut_out, self.spacing)

    @cached_property
    def surfel_distances(self) -> DirectedDistances:
        """In mm, between surface elements weighted by area. Neither mask may be empty."""
        return surfel_distances(*self.cut_out, self.spacing)

    def once(self, key: Hashable, compute: Callable[[MaskPair], Result]) -> Result:
        """What ``compute`` makes of this pair, computed at the first call with ``key``."""
        if key not in self._results:
            self._results[key] = compute(self)
        return cast(Result, self._results[key])
