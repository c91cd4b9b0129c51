"""The table of metrics: each compares one predicted mask with its reference.

A row of ``METRICS`` says everything of a metric: how it is computed where both masks hold a voxel, what it counts where
one is empty, its unit and which way is better. Evaluation, means, the demo and figures read the table, so that adding a
metric is adding a row.

Dice = 2 |P and G| / (|P| + |G|), IoU = |P and G| / |P or G|, HD95 = the 95th percentile of surface distances in mm.
"HD95" names different numbers in different packages; ``DEFINITIONS`` names the ones offered here. The area-weighted
surface elements of the BraTS 2023 evaluation are not among them.

Source: Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature Methods 2024, doi
10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

# The diagonal of a 240 x 240 x 155 mm BraTS volume.
BRATS_DIAGONAL = math.sqrt(240**2 + 240**2 + 155**2)

DEFINITIONS: Mapping[str, Callable[[np.ndarray, np.ndarray, float], float]] = {
    # One percentile of both directed lists together: MedPy, nnU-Net's BraTS 2020 scripts. The larger surface dominates.
    "pooled": lambda to_reference, to_prediction, q: float(
        np.percentile(np.concatenate((to_reference, to_prediction)), q)
    ),
    # The larger of the two directed percentiles: MONAI.
    "max_directed": lambda to_reference, to_prediction, q: float(
        max(np.percentile(to_reference, q), np.percentile(to_prediction, q))
    ),
}


@dataclass(frozen=True, eq=False)
class MaskPair:
    """Two masks of one region, with what several metrics need of them: found once, and only if a metric asks for it.

    Attributes:
        prediction: boolean mask of any dimension, array order (z, y, x) or (y, x).
        reference: boolean mask of the same shape.
        spacing: mm a voxel along each array axis.

    Raises:
        ValueError: the masks differ in shape.
    """

    prediction: np.ndarray
    reference: np.ndarray
    spacing: Sequence[float]

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
        return int(np.count_nonzero(self.prediction & self.reference))

    @cached_property
    def surface_distances(self) -> tuple[np.ndarray, np.ndarray]:
        """In mm, from each surface voxel of the prediction to the nearest one of the reference, and the other way.
        Neither mask may be empty."""
        surface_prediction = surface(self.prediction, self.spacing)
        surface_reference = surface(self.reference, self.spacing)
        to_reference, _ = cKDTree(surface_reference).query(surface_prediction)
        to_prediction, _ = cKDTree(surface_prediction).query(surface_reference)
        return to_reference, to_prediction


def surface(mask: np.ndarray, spacing: Sequence[float]) -> np.ndarray:
    """Centres in mm, shape (N, mask.ndim), of the voxels of ``mask`` that touch the outside through a face.

    Voxels at the image edge are surface: the object ends there as far as anyone can see.
    """
    boxes = find_objects(mask.astype(np.uint8))
    if not boxes:
        return np.empty((0, mask.ndim))
    box = boxes[0]
    inside = mask[box]
    border = inside & ~binary_erosion(inside)
    offset = np.array([axis.start for axis in box])
    return (np.argwhere(border) + offset) * np.asarray(spacing, dtype=float)


def dice(pair: MaskPair) -> float:
    return 2 * pair.voxels_common / (pair.voxels_prediction + pair.voxels_reference)


def iou(pair: MaskPair) -> float:
    return pair.voxels_common / (pair.voxels_prediction + pair.voxels_reference - pair.voxels_common)


def hausdorff_distance(pair: MaskPair, percentile: float = 95.0, definition: str = "pooled") -> float:
    """Percentile of the distances between two surfaces, in mm.

    Args:
        pair: neither mask empty.
        percentile: 100 gives the Hausdorff distance itself, 95 the HD95.
        definition: a key of ``DEFINITIONS``.
    """
    return DEFINITIONS[definition](*pair.surface_distances, percentile)


class Empty(NamedTuple):
    """What a metric counts where a mask is empty: both of them, the prediction alone, the reference alone.

    NaN says that the metric is undefined there: the case is left out of means.
    """

    both: float
    prediction: float
    reference: float


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: column of a table of cases.
        unit: ``"mm"``, or nothing for a share of 1.
        higher_is_better: the direction.
        compute: the value where neither mask is empty.
        empty: for each of ``POLICIES``, the value where one is.
        definition: which one, where a name has several in the field.
    """

    name: str
    unit: str
    higher_is_better: bool
    compute: Callable[[MaskPair], float]
    empty: Mapping[str, Empty]
    definition: str = ""

    def value(self, pair: MaskPair, policy: str) -> float:
        """Of two masks, under a policy on empty ones."""
        if pair.voxels_prediction and pair.voxels_reference:
            return self.compute(pair)
        empty = self.empty[policy]
        if pair.voxels_reference:
            return empty.prediction
        return empty.reference if pair.voxels_prediction else empty.both


POLICIES: Mapping[str, str] = {
    "nnunet": "nnU-Net's summary.json: a region that neither mask shows is left out of the mean. nnU-Net has no HD95; "
    "without a surface on both sides it is undefined here",
    "brats": "nnU-Net's BraTS 2020 scripts: agreeing on nothing is perfect, a missed or invented region costs the "
    "diagonal of the volume",
}

_OVERLAP = {"nnunet": Empty(math.nan, 0.0, 0.0), "brats": Empty(1.0, 0.0, 0.0)}
_DISTANCE = {
    "nnunet": Empty(math.nan, math.nan, math.nan),
    "brats": Empty(0.0, BRATS_DIAGONAL, BRATS_DIAGONAL),
}

DICE = Metric("Dice", "", True, dice, _OVERLAP)
HD95 = Metric("HD95", "mm", False, hausdorff_distance, _DISTANCE, definition="pooled")
METRICS: tuple[Metric, ...] = (DICE, Metric("IoU", "", True, iou, _OVERLAP), HD95)


def score(pair: MaskPair, policy: str, metrics: Iterable[Metric] = METRICS) -> dict[str, float]:
    """Name -> value of each metric, under a policy on empty masks, a key of ``POLICIES``."""
    return {metric.name: metric.value(pair, policy) for metric in metrics}
