"""Overlap and boundary measures of one pair of binary masks, and what they become when a mask is empty.

Dice = 2 |P and G| / (|P| + |G|), IoU = |P and G| / |P or G|, HD95 = the 95th percentile of surface distances in mm.
"HD95" names different numbers in different packages; ``DEFINITIONS`` names the ones offered here. The area-weighted
surface elements of the BraTS 2023 evaluation are not among them.

Source: Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature Methods 2024, doi
10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import binary_erosion, find_objects
from scipy.spatial import cKDTree

METRICS = ("Dice", "IoU", "HD95")

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

# The diagonal of a 240 x 240 x 155 mm BraTS volume.
BRATS_DIAGONAL = math.sqrt(240**2 + 240**2 + 155**2)

POLICIES: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    # nnU-Net's summary.json: a region that neither mask shows is left out of the mean. nnU-Net has no HD95; without a
    # surface on both sides it is undefined here.
    "nnunet": {
        "both_empty": {"Dice": math.nan, "IoU": math.nan, "HD95": math.nan},
        "one_empty": {"Dice": 0.0, "IoU": 0.0, "HD95": math.nan},
    },
    # nnU-Net's BraTS 2020 scripts: agreeing on nothing is perfect, a missed or invented region costs a diagonal.
    "brats": {
        "both_empty": {"Dice": 1.0, "IoU": 1.0, "HD95": 0.0},
        "one_empty": {"Dice": 0.0, "IoU": 0.0, "HD95": BRATS_DIAGONAL},
    },
}


@dataclass(frozen=True)
class Comparison:
    """What two masks have in common, before any policy on empty masks.

    ``voxels_*`` are counts; ``hd95`` is in mm, NaN where a mask is empty.
    """

    voxels_prediction: int
    voxels_reference: int
    voxels_common: int
    hd95: float


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


def hausdorff_distance(
    prediction: np.ndarray,
    reference: np.ndarray,
    spacing: Sequence[float],
    percentile: float = 95.0,
    definition: str = "pooled",
) -> float:
    """Percentile of the distances between two surfaces, in mm; NaN where a mask is empty.

    Args:
        prediction: boolean mask of any dimension, array order (z, y, x) or (y, x).
        reference: boolean mask of the same shape.
        spacing: mm a voxel along each array axis.
        percentile: 100 gives the Hausdorff distance itself, 95 the HD95.
        definition: a key of ``DEFINITIONS``.
    """
    surface_prediction, surface_reference = surface(prediction, spacing), surface(reference, spacing)
    if not len(surface_prediction) or not len(surface_reference):
        return math.nan
    to_reference, _ = cKDTree(surface_reference).query(surface_prediction)
    to_prediction, _ = cKDTree(surface_prediction).query(surface_reference)
    return DEFINITIONS[definition](to_reference, to_prediction, percentile)


def compare(
    prediction: np.ndarray, reference: np.ndarray, spacing: Sequence[float], definition: str = "pooled"
) -> Comparison:
    """Count and measure two boolean masks of one shape. Arguments as in ``hausdorff_distance``."""
    if prediction.shape != reference.shape:
        raise ValueError(f"masks differ in shape: prediction {prediction.shape}, reference {reference.shape}")
    return Comparison(
        voxels_prediction=int(np.count_nonzero(prediction)),
        voxels_reference=int(np.count_nonzero(reference)),
        voxels_common=int(np.count_nonzero(prediction & reference)),
        hd95=hausdorff_distance(prediction, reference, spacing, 95.0, definition),
    )


def score(comparison: Comparison, policy: str) -> dict[str, float]:
    """Dice, IoU and HD95 (mm) of a comparison under a policy on empty masks, a key of ``POLICIES``."""
    total = comparison.voxels_prediction + comparison.voxels_reference
    if total == 0:
        return dict(POLICIES[policy]["both_empty"])
    if comparison.voxels_prediction == 0 or comparison.voxels_reference == 0:
        return dict(POLICIES[policy]["one_empty"])
    return {
        "Dice": 2 * comparison.voxels_common / total,
        "IoU": comparison.voxels_common / (total - comparison.voxels_common),
        "HD95": comparison.hd95,
    }
