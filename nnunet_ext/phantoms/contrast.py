"""How each tissue looks in each MR sequence.

What a tumour part does not change it leaves as it was: edema shows on FLAIR and T2 alone; enhancement on T1ce, where T1
shows what was there before; necrosis is dark on T1 and T1ce and bright on T2. FLAIR hardly tells the parts of a tumour
apart, T1ce does not show edema, vessels enhance outside the tumour, and old blood is as bright as enhancement on T1ce
and only T1 gives it away: a network has to fuse the sequences.

The values are relative brightness, ordered as radiology textbooks order them; they are not physical.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d

from nnunet_ext.phantoms.anatomy import BACKGROUND, FLUID, GREY, NUCLEI, WHITE, Brain
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.tumour import EDEMA, ENHANCING, NECROSIS, Lesion

SEQUENCES: tuple[str, ...] = ("t1", "t1ce", "t2", "flair")

TISSUE: Mapping[str, Mapping[int, float]] = {
    "t1": {FLUID: 0.25, GREY: 0.62, WHITE: 0.80, NUCLEI: 0.70},
    "t1ce": {FLUID: 0.25, GREY: 0.64, WHITE: 0.80, NUCLEI: 0.71},
    "t2": {FLUID: 1.00, GREY: 0.60, WHITE: 0.45, NUCLEI: 0.52},
    "flair": {FLUID: 0.18, GREY: 0.62, WHITE: 0.50, NUCLEI: 0.58},
}
TUMOUR: Mapping[str, Mapping[int, float]] = {
    "t1": {NECROSIS: 0.42},
    "t1ce": {NECROSIS: 0.36, ENHANCING: 1.35},
    "t2": {EDEMA: 0.84, ENHANCING: 0.80, NECROSIS: 1.02},
    "flair": {EDEMA: 0.98, ENHANCING: 0.97, NECROSIS: 0.94},
}
BLOOD: Mapping[str, float] = {"t1": 1.28, "t1ce": 1.30}
VESSEL: Mapping[str, float] = {"t1ce": 1.30}

_PARTIAL_VOLUME = np.array([1, 6, 1], dtype=np.float32) / 8


def _brightness(generator: np.random.Generator, sequence: str, brain: Brain, lesion: Lesion) -> NDArray[np.float32]:
    """Brightness without noise; the transfer curve of the scanner is drawn here, where it costs a few powers."""
    curve = generator.uniform(0.85, 1.15)
    by_tissue = np.zeros(5, dtype=np.float32)
    for tissue, value in TISSUE[sequence].items():
        by_tissue[tissue] = (value * generator.uniform(0.97, 1.03)) ** curve
    image = by_tissue[brain.tissue]
    for part, value in TUMOUR[sequence].items():
        image[lesion.label == part] = (value * generator.uniform(0.97, 1.03)) ** curve
    if sequence in BLOOD:
        image[lesion.blood] = BLOOD[sequence] ** curve
    if sequence in VESSEL:
        image[lesion.vessels] = VESSEL[sequence] ** curve
    return image


def make_image(generator: np.random.Generator, sequence: str, brain: Brain, lesion: Lesion) -> NDArray[np.int16]:
    """One MR sequence of a brain with a tumour.

    The scanner's gain, the shape of its transfer curve, the bias field and the noise level are drawn anew: an intensity
    means nothing across cases, as in reality.

    Args:
        generator: source of all randomness.
        sequence: one of ``SEQUENCES``.
        brain: tissues.
        lesion: tumour.

    Returns:
        (z, y, x) int16 in the box of the brain, 0 outside the brain and at least 1 inside (skull-stripped).
    """
    image = _brightness(generator, sequence, brain, lesion)
    for axis in range(3):
        image = correlate1d(image, _PARTIAL_VOLUME, axis=axis, mode="nearest")
    texture = tuple(max(3, n // 5) for n in image.shape)
    shading = np.float32(generator.uniform(0.04, 0.10)) * smooth_field(generator, image.shape, 2)
    shading += np.float32(0.02) * smooth_field(generator, image.shape, texture)
    inside = brain.tissue != BACKGROUND
    values = image[inside] * np.exp(shading[inside])
    values += np.float32(generator.uniform(0.02, 0.05)) * generator.standard_normal(values.shape, dtype=np.float32)
    values *= np.float32(np.exp(generator.uniform(np.log(300), np.log(1500))))
    result = np.zeros(image.shape, dtype=np.int16)
    result[inside] = np.clip(np.rint(values), 1, 32767).astype(np.int16)
    return result
