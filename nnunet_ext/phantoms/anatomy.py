"""A synthetic brain: an irregular ellipsoid with a folded cortex, white matter, deep grey nuclei and ventricles.

All lengths are relative to the brain: each axis runs from -1 to 1 between its outermost voxels. So one description
serves every shape, from 12 voxels an axis to the 155x240x240 of BraTS, where the brain fills the box that it fills in
real files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.errors import UserError
from nnunet_ext.phantoms.fields import smooth_field

BACKGROUND, FLUID, GREY, WHITE, NUCLEI = range(5)

MIN_AXIS = 12


@dataclass(frozen=True)
class Brain:
    """Tissues of one brain, cut to its bounding box.

    Attributes:
        tissue: (z, y, x) uint8, values ``BACKGROUND`` ... ``NUCLEI``.
        depth: (z, y, x) float32, 1 at the centre, 0 at the surface, negative outside.
        coordinates: z, y, x position of the voxels, -1 to 1, shaped to broadcast against ``tissue``.
        box: where the bounding box lies in the whole image.
    """

    tissue: NDArray[np.uint8]
    depth: NDArray[np.float32]
    coordinates: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]
    box: tuple[slice, slice, slice]


def require_size(shape: tuple[int, int, int]) -> None:
    """
    Raises:
        UserError: an axis is too short to hold an anatomy.
    """
    if min(shape) < MIN_AXIS:
        raise UserError(
            f"shape {'x'.join(map(str, shape))} is too small for a phantom",
            remedy=f"give at least {MIN_AXIS} voxels an axis",
        )


def _bounding_box(shape: tuple[int, int, int]) -> tuple[slice, slice, slice]:
    # A brain takes 137 x 190 x 140 voxels of a BraTS image of 155 x 240 x 240. Small images are cut closer: they have
    # few voxels to spend on background.
    size = min(1.0, min(shape[1:]) / 240)
    filled = (0.94 - 0.06 * size, 0.94 - 0.15 * size, 0.90 - 0.32 * size)
    box = []
    for length, fraction in zip(shape, filled, strict=True):
        extent = max(1, round(length * fraction))
        start = (length - extent) // 2
        box.append(slice(start, start + extent))
    return box[0], box[1], box[2]


def _ellipsoid(
    coordinates: tuple[NDArray[np.float32], ...], centre: tuple[float, float, float], radii: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Squared distance to the centre in units of the radii: below 1 inside."""
    z, y, x = ((c - np.float32(m)) / np.float32(r) for c, m, r in zip(coordinates, centre, radii, strict=True))
    return z * z + y * y + x * x


def make_brain(generator: np.random.Generator, shape: tuple[int, int, int]) -> Brain:
    """Draw a brain without a lesion.

    Args:
        generator: source of all randomness.
        shape: (z, y, x) voxels of the whole image, at least 12 an axis.

    Raises:
        UserError: an axis is too short to hold the anatomy.
    """
    require_size(shape)
    box = _bounding_box(shape)
    extent = tuple(s.stop - s.start for s in box)
    axes = [np.linspace(-1, 1, 2 * n + 1, dtype=np.float32)[1::2] for n in extent]
    z, y, x = axes[0][:, None, None], axes[1][None, :, None], axes[2][None, None, :]

    outline = smooth_field(generator, extent, 3)
    depth = 0.985 - np.sqrt(z * z + y * y + x * x) * (1 + np.float32(0.035) * outline)
    folds = smooth_field(generator, extent, tuple(max(3, min(12, n // 3)) for n in extent))

    tissue = np.full(extent, GREY, dtype=np.uint8)
    tissue[depth > 0.17 + 0.05 * folds] = WHITE
    tissue[depth < 0.03 + 0.03 * folds] = FLUID
    # The fissure between the hemispheres, from the vertex down to the corpus callosum.
    tissue[(np.abs(x) < 0.03) & (z > 0.35) & (depth < 0.6)] = FLUID

    spread = float(generator.uniform(0.8, 1.25))
    bent = np.abs(x) - np.float32(0.10) * y * y
    nuclei = _ellipsoid((z, y, np.abs(x)), (-0.08, 0.05, 0.30), (0.20, 0.30, 0.13))
    tissue[nuclei < 1] = NUCLEI
    lateral = _ellipsoid((z, y, bent), (0.12, 0.0, 0.13), (0.15 * spread, 0.48, 0.09 * spread))
    third = _ellipsoid((z, y, x), (-0.10, 0.05, 0.0), (0.16, 0.20, 0.045 * spread))
    tissue[(lateral < 1) | (third < 1)] = FLUID
    tissue[depth <= 0] = BACKGROUND
    return Brain(tissue, depth, (z, y, x), box)
