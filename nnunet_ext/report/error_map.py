"""Where a prediction is wrong: voxels missed, voxels false, voxels that hold another label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

RIGHT, MISSED, FALSE, ANOTHER_LABEL = range(4)
#: name of each kind of error -> its number in an error map
KINDS: Mapping[str, int] = {"missed": MISSED, "false": FALSE, "another label": ANOTHER_LABEL}


def error_map(
    reference: np.ndarray,
    prediction: np.ndarray,
    regions: Mapping[str, Sequence[int]],
    ignore: int | None = None,
) -> np.ndarray:
    """What is wrong at every voxel, uint8 of the shape of the two label maps, values as in ``KINDS``.

    A voxel is missed where it belongs to a region in the reference alone, false where in the prediction alone. Both can
    hold for one voxel of exclusive labels, such as liver called spleen: that is another label. With one region in
    ``regions`` the map is of that region.

    Args:
        reference: label map.
        prediction: label map of the same shape.
        regions: name -> label values.
        ignore: label of the reference whose voxels count on neither side.

    Raises:
        ValueError: the maps differ in shape.
    """
    if reference.shape != prediction.shape:
        raise ValueError(f"label maps differ in shape: reference {reference.shape}, prediction {prediction.shape}")
    wrong = np.zeros(reference.shape, np.uint8)
    for values in regions.values():
        known, predicted = np.isin(reference, values), np.isin(prediction, values)
        wrong[known & ~predicted] |= MISSED
        wrong[predicted & ~known] |= FALSE
    if ignore is not None:
        wrong[reference == ignore] = RIGHT
    return wrong


def count_errors(wrong: np.ndarray) -> dict[str, int]:
    """Kind of error -> voxels of it in an error map, in the order of ``KINDS``."""
    return {name: int(np.count_nonzero(wrong == kind)) for name, kind in KINDS.items()}
