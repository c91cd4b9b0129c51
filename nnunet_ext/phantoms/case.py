"""One synthetic patient: four co-registered MR sequences and the label map."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.phantoms.anatomy import make_brain
from nnunet_ext.phantoms.contrast import SEQUENCES, make_image
from nnunet_ext.phantoms.tumour import PARTS, make_lesion


def make_case(
    generator: np.random.Generator,
    shape: tuple[int, int, int],
    *,
    parts: frozenset[int] = PARTS,
    anatomy: np.random.Generator | None = None,
) -> tuple[dict[str, NDArray[np.int16]], NDArray[np.uint8]]:
    """Draw one patient.

    Args:
        generator: source of all randomness: same state, same voxels.
        shape: (z, y, x), at least 12 voxels an axis.
        parts: labels that may occur, of 1 (necrosis), 2 (edema), 4 (enhancing tumour).
        anatomy: source of the brain's randomness where two scans show the same brain; ``generator`` if not given.

    Returns:
        The images by sequence (``t1``, ``t1ce``, ``t2``, ``flair``), each (z, y, x) int16 with background 0, and the
        label map (z, y, x) uint8 in the coding of BraTS 2017-2021.

    Raises:
        UserError: the shape is too small.
    """
    brain = make_brain(generator if anatomy is None else anatomy, shape)
    lesion = make_lesion(generator, brain, parts)
    images = {}
    for sequence in SEQUENCES:
        images[sequence] = np.zeros(shape, dtype=np.int16)
        images[sequence][brain.box] = make_image(generator, sequence, brain, lesion)
    label = np.zeros(shape, dtype=np.uint8)
    label[brain.box] = lesion.label
    return images, label
