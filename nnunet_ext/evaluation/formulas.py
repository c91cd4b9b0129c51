"""What the metrics compute where neither mask is empty.

P is the set of predicted voxels, R that of the reference; TP, FP, FN, TN are the voxels in both, in P alone, in R alone
and in neither. D1 are the distances of the surface of P to that of R, D2 the other way, both as of ``surfaces.py``, in
mm. docs/evaluation.md has all formulas.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

from nnunet_ext.evaluation.masks import MaskPair
from nnunet_ext.evaluation.surfaces import DirectedDistances, Values

# A distance may exceed a tolerance by what the single precision of a NIfTI header makes of it: 5 x 0.2 mm is 1 mm.
_ROUNDING = 1 + 1e-6


def dice(pair: MaskPair) -> float:
    return 2 * pair.voxels_common / (pair.voxels_prediction + pair.voxels_reference)


def iou(pair: MaskPair) -> float:
    return pair.voxels_common / (pair.voxels_prediction + pair.voxels_reference - pair.voxels_common)


def precision(pair: MaskPair) -> float:
    return pair.voxels_common / pair.voxels_prediction


def recall(pair: MaskPair) -> float:
    return pair.voxels_common / pair.voxels_reference


def specificity(pair: MaskPair) -> float:
    """NaN where the reference fills the image."""
    outside = pair.voxels_background + pair.voxels_prediction - pair.voxels_common
    return pair.voxels_background / outside if outside else math.nan


def pixel_accuracy(pair: MaskPair) -> float:
    """NaN where every voxel is ignored."""
    wrong = pair.voxels_prediction + pair.voxels_reference - 2 * pair.voxels_common
    right = pair.voxels_common + pair.voxels_background
    return right / (right + wrong) if right + wrong else math.nan


def relative_volume_error(pair: MaskPair) -> float:
    return abs(pair.voxels_prediction - pair.voxels_reference) / pair.voxels_reference


def absolute_volume_error(pair: MaskPair) -> float:
    return abs(pair.voxels_prediction - pair.voxels_reference) * math.prod(pair.spacing)


def pooled_percentile(distances: DirectedDistances, percentile: float) -> float:
    return float(np.percentile(np.concatenate((distances.to_reference, distances.to_prediction)), percentile))


def larger_percentile(distances: DirectedDistances, percentile: float) -> float:
    return float(
        max(np.percentile(distances.to_reference, percentile), np.percentile(distances.to_prediction, percentile))
    )


def larger_weighted_percentile(distances: DirectedDistances, percentile: float) -> float:
    """Of each surface the smallest distance within which lies at least ``percentile`` of its area; the larger one."""

    def reached(lengths: Values, weights: Values) -> float:
        order = np.lexsort((weights, lengths))
        share = np.cumsum(weights[order]) / weights.sum()
        # the last sum may stay below 1 by rounding
        return float(lengths[order[min(int(np.searchsorted(share, percentile / 100)), order.size - 1)]])

    return max(
        reached(distances.to_reference, distances.weights_prediction),
        reached(distances.to_prediction, distances.weights_reference),
    )


#: "HD95" names different numbers in different packages. Name -> distances, percentile of them.
DEFINITIONS: Mapping[str, tuple[Callable[[MaskPair], DirectedDistances], Callable[[DirectedDistances, float], float]]]
DEFINITIONS = {
    # One percentile of both directed lists together: MedPy, nnU-Net's BraTS 2020 scripts. The larger surface dominates.
    "pooled": (lambda pair: pair.border_distances, pooled_percentile),
    # The larger of the two directed percentiles: MONAI.
    "max_directed": (lambda pair: pair.border_distances, larger_percentile),
    # The larger of two percentiles by area: surface-distance, BraTS from 2023 on.
    "surfel": (lambda pair: pair.surfel_distances, larger_weighted_percentile),
}


def hausdorff_distance(pair: MaskPair, percentile: float = 95.0, definition: str = "pooled") -> float:
    """Percentile of the distances between two surfaces, in mm.

    Args:
        pair: neither mask empty.
        percentile: 100 gives the Hausdorff distance itself, 95 the HD95.
        definition: a key of ``DEFINITIONS``.
    """
    distances, formula = DEFINITIONS[definition]
    return formula(distances(pair), percentile)


def average_distance(pair: MaskPair) -> float:
    """ASSD: mean of both directed lists of distances together, in mm. Neither mask may be empty."""
    return float(np.concatenate(pair.border_distances[:2]).mean())


def surface_dice(pair: MaskPair, tolerance: float, counted: bool = False) -> float:
    """NSD: the share of both surfaces that lies within a tolerance of the other (Nikolov 2018, arXiv 1809.04430).

    Args:
        pair: neither mask empty.
        tolerance: in mm.
        counted: border voxels are counted; otherwise surface elements are weighted by area.
    """
    distances = pair.border_distances if counted else pair.surfel_distances
    within, everything = 0.0, 0.0
    for lengths, weights in (
        (distances.to_reference, distances.weights_prediction),
        (distances.to_prediction, distances.weights_reference),
    ):
        within += float(weights[lengths <= tolerance * _ROUNDING].sum())
        everything += float(weights.sum())
    return within / everything
