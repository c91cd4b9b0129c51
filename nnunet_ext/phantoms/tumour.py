"""A glioma: necrosis inside an enhancing rim inside edema, each with an outline of its own.

Labels are those of BraTS 2017-2021: 1 necrosis, 2 edema, 4 enhancing tumour.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation

from nnunet_ext.phantoms.anatomy import BACKGROUND, FLUID, WHITE, Brain
from nnunet_ext.phantoms.fields import smooth_field

NECROSIS, EDEMA, ENHANCING = 1, 2, 4
PARTS: frozenset[int] = frozenset({NECROSIS, EDEMA, ENHANCING})

# Radii in units of a small brain (see ``_scale``). The core is drawn independently of the whole tumour and sits
# anywhere in it: neither tells the other.
_WHOLE = (0.45, 0.60)
_CORE = (0.34, 0.44)
# Radius of the necrosis in units of the core's.
_NECROSIS = (0.48, 0.64)
# An outline stays within this many radii of the centre, and has about this many bumps across.
_REACH, _KNOTS = 1.5, 3


@dataclass(frozen=True)
class Lesion:
    """One tumour in the box of its brain.

    Attributes:
        label: (z, y, x) uint8, values 0, 1, 2, 4.
        blood: (z, y, x) bool, old blood: bright before and after contrast, so that brightness after contrast alone does
            not tell enhancing tumour. It is labelled as the part it lies in.
        vessels: (z, y, x) bool, enhancing structures outside the tumour: enhancement alone does not tell tumour.
    """

    label: NDArray[np.uint8]
    blood: NDArray[np.bool_]
    vessels: NDArray[np.bool_]


Window = tuple[slice, slice, slice]


def _blob(
    generator: np.random.Generator,
    brain: Brain,
    centre: NDArray[np.float64],
    radii: NDArray[np.float64],
    roughness: float,
) -> tuple[Window, NDArray[np.float32]]:
    """An ellipsoid with a rough outline.

    Returns:
        The window of the brain that holds it with a margin, and the distance to the centre there, in units of the radii
        and disturbed by a smooth field: the level set 1 is a plausible boundary.
    """
    window, axes = [], []
    for axis, (coordinate, middle, radius) in enumerate(zip(brain.coordinates, centre, radii, strict=True)):
        line = coordinate.reshape(-1)
        start, stop = np.searchsorted(line, [middle - _REACH * radius, middle + _REACH * radius])
        window.append(slice(int(start), int(stop)))
        shape = [1, 1, 1]
        shape[axis] = -1
        axes.append(((line[window[-1]] - np.float32(middle)) / np.float32(radius)).reshape(shape))
    z, y, x = axes
    distance = np.sqrt(z * z + y * y + x * x)
    distance *= 1 + np.float32(roughness) * smooth_field(generator, distance.shape, _KNOTS)
    return (window[0], window[1], window[2]), distance


def _paint(
    mask: NDArray[np.bool_],
    generator: np.random.Generator,
    brain: Brain,
    centre: NDArray[np.float64],
    radii: NDArray[np.float64],
    roughness: float,
) -> None:
    window, distance = _blob(generator, brain, centre, radii, roughness)
    mask[window] |= distance < 1


def _tumour_centre(generator: np.random.Generator, brain: Brain) -> NDArray[np.float64]:
    """Centre of the tumour, in the white matter of one hemisphere, away from the surface and the midline."""
    z, _, x = brain.coordinates
    admissible = (brain.tissue == WHITE) & (brain.depth > 0.38) & (brain.depth < 0.72)
    admissible &= (np.abs(x) > 0.22) & (z > -0.5)
    voxels = np.argwhere(admissible)
    if len(voxels) == 0:  # a brain of a dozen voxels
        voxels = np.argwhere(brain.depth > 0.4)
    voxel = voxels[generator.integers(len(voxels))]
    return np.array([axis.reshape(-1)[i] for axis, i in zip(brain.coordinates, voxel, strict=True)], dtype=np.float64)


def _scale(brain: Brain) -> float:
    """Relative size of the tumour: that of real ones at full size, larger in small images, which have few voxels."""
    return 1 - 0.3 * min(1.0, min(brain.tissue.shape) / 137)


def _direction(generator: np.random.Generator) -> NDArray[np.float64]:
    vector = generator.standard_normal(3)
    return vector / np.linalg.norm(vector)


def make_lesion(generator: np.random.Generator, brain: Brain, parts: frozenset[int] = PARTS) -> Lesion:
    """Draw a tumour into a brain.

    Every part of ``parts`` is present in several slices at any shape. A part left out of ``parts`` is taken by what
    surrounds it in reality: a core without enhancement is all necrosis (non-enhancing core), a tumour without necrosis
    enhances throughout, and one of edema alone has no core.

    Args:
        generator: source of all randomness.
        brain: where the tumour grows.
        parts: the labels that may occur.
    """
    inside = brain.tissue != BACKGROUND
    names = ("whole", "core", "necrosis", "blood", "vessels")
    masks = {name: np.zeros(brain.tissue.shape, dtype=bool) for name in names}
    centre = _tumour_centre(generator, brain)
    scale = _scale(brain)
    radii = scale * generator.uniform(*_WHOLE) * generator.uniform(0.88, 1.14, 3)
    _paint(masks["whole"], generator, brain, centre, radii, 0.10)
    core_radii = scale * generator.uniform(*_CORE) * generator.uniform(0.88, 1.14, 3)
    core_centre = centre + _direction(generator) * generator.uniform(0, 0.9) * np.maximum(radii - core_radii, 0)
    _paint(masks["core"], generator, brain, core_centre, core_radii, 0.07)
    necrosis_centre = core_centre + _direction(generator) * generator.uniform(0, 0.15) * core_radii
    _paint(masks["necrosis"], generator, brain, necrosis_centre, core_radii * generator.uniform(*_NECROSIS), 0.08)
    for _ in range(int(generator.integers(0, 3))):
        blood_centre = centre + radii * generator.uniform(-0.6, 0.6, 3)
        _paint(masks["blood"], generator, brain, blood_centre, core_radii * generator.uniform(0.25, 0.45), 0.1)
    for _ in range(int(generator.integers(2, 5))):
        vessel_centre = generator.uniform(-0.7, 0.7, 3)
        _paint(masks["vessels"], generator, brain, vessel_centre, generator.uniform(0.09, 0.18, 3), 0.1)

    core = masks["core"] & inside
    # Edema spreads in tissue, not into the ventricles; a core pushes them aside.
    whole = (masks["whole"] & inside & (brain.tissue != FLUID)) | core
    label = np.where(whole, np.uint8(EDEMA), np.uint8(0))
    if ENHANCING in parts:
        label[core] = ENHANCING
        if NECROSIS in parts:
            label[core & masks["necrosis"]] = NECROSIS
    elif NECROSIS in parts:
        label[core] = NECROSIS
    if EDEMA not in parts:
        label[label == EDEMA] = 0
    # Blood over the rim would hide it in every sequence.
    blood = masks["blood"] & inside & (label != ENHANCING)
    return Lesion(label, blood, masks["vessels"] & inside & ~binary_dilation(whole))
