"""Surfaces of masks, and how far the points of one surface lie from another.

Two surfaces are in use in the field, and the distances between them differ:

- border voxels: the voxels of a mask that touch the outside through a face, each at its centre, all counted alike
  (MedPy, MONAI, nnU-Net's BraTS 2020 scripts);
- surface elements, called surfels: at each corner between voxels, the piece of the marching-cubes surface that the
  2 x 2 x 2 voxels around it make, weighted by its area in mm2; in a picture a piece of contour, by its length in mm
  (Nikolov et al., "Deep learning to achieve clinically applicable segmentation of head and neck anatomy for
  radiotherapy", 2018, arXiv 1809.04430; BraTS from 2023 on).

Distances are Euclidean, exact, in the unit of the spacing. An object at the edge of the image ends there, so that it
has a surface there.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from scipy.spatial import cKDTree

Mask = NDArray[np.bool_]
Values = NDArray[np.float64]

# Offsets of up to so many voxels along an axis are looked up before anything is searched: most points of a prediction
# lie that near to the reference.
_REACH = 2
# A KD-tree takes as long for a point that it searches as the distance transform takes for so many voxels, and as long
# to take up a point as for one; measured on one core.
_VOXELS_A_POINT = 12


class DirectedDistances(NamedTuple):
    """For each point of both surfaces the distance to the other one, and what the point weighs.

    Attributes:
        to_reference: (N,) of the points of the prediction.
        to_prediction: (M,) of the points of the reference.
        weights_prediction: (N,) areas or lengths of surfels; 1 for border voxels.
        weights_reference: (M,).
    """

    to_reference: Values
    to_prediction: Values
    weights_prediction: Values
    weights_reference: Values


def border_voxels(mask: Mask) -> Mask:
    """The voxels of a mask that touch the outside, or the edge of the image, through a face."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        source, target = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        target[1:] &= source[:-1]
        target[:-1] &= source[1:]
        target[0] = target[-1] = False
    return mask & ~inside


def neighbour_codes(mask: Mask) -> NDArray[np.uint8]:
    """For each corner between voxels, one more than voxels along each axis, which voxels around it the mask holds.

    The voxel before the corner along an axis counts 1, the one behind it 2 along the last axis, 4 along the one before
    and 16 along the first of three: bit ``4 z + 2 y + x`` stands for the voxel (z, y, x) of the 2 x 2 x 2.
    """
    codes: NDArray[Any] = np.pad(mask.astype(np.uint8), 1)
    for power, axis in enumerate(reversed(range(mask.ndim))):
        moved = np.moveaxis(codes, axis, 0)
        codes = np.moveaxis(moved[:-1] | moved[1:] << (1 << power), 0, axis)
    return codes


def surfel_sizes(spacing: Sequence[float]) -> Values:
    """Size of the piece of surface for each neighbour code: area in mm2, (256,), or length in mm, (16,) in 2D.

    Pieces are those of the classic marching cubes (Lorensen and Cline 1987, doi 10.1145/37401.37422) with the surface
    half-way between voxels, of the voxels that are fewer around the corner: a mask and what surrounds it have the
    same surface.
    """
    return _sizes(tuple(map(float, spacing)))


@lru_cache(maxsize=8)
def _sizes(spacing: tuple[float, ...]) -> Values:
    if len(spacing) == 2:
        vertical, horizontal = spacing
        diagonal = math.hypot(*spacing) / 2
        # the voxels are, from the lowest bit: above left, above right, below left, below right
        lengths = [0, diagonal, diagonal, horizontal, diagonal, vertical, 2 * diagonal, diagonal]
        return np.array(lengths + lengths[::-1])
    z, y, x = spacing
    scale = np.array([y * x, z * x, z * y])
    return np.array([np.linalg.norm(triangles * scale, axis=1).sum() for triangles in _triangles()])


@lru_cache(maxsize=1)
def _triangles() -> tuple[Values, ...]:
    """For each of the 256 codes the normals (triangles, 3) of its surface at unit spacing, as long as their areas."""
    from skimage.measure import marching_cubes  # a moment that only surfels need

    normals: list[Values] = []
    for code in range(256):
        bits = np.array([code >> bit & 1 for bit in range(8)], dtype=np.float32).reshape(2, 2, 2)
        if bits.sum() in (0, 8):
            normals.append(np.zeros((0, 3)))
            continue
        corners, faces, _, _ = marching_cubes(bits if bits.sum() <= 4 else 1 - bits, 0.5, method="lorensen")
        points = corners[faces].astype(float)
        normals.append(np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0]) / 2)
    return tuple(normals)


def border_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> DirectedDistances:
    """Distances between border voxels. Neither mask may be empty; best cropped to the box of both."""
    first, second = border_voxels(prediction), border_voxels(reference)
    to_reference, to_prediction = nearest(first, second, spacing), nearest(second, first, spacing)
    return DirectedDistances(to_reference, to_prediction, np.ones(to_reference.size), np.ones(to_prediction.size))


def surfel_distances(prediction: Mask, reference: Mask, spacing: Sequence[float]) -> DirectedDistances:
    """Distances between surfels. Neither mask may be empty; two or three dimensions.

    Raises:
        ValueError: another number of dimensions.
    """
    if prediction.ndim not in (2, 3):
        raise ValueError(f"surfels are defined in two and three dimensions, not in {prediction.ndim}")
    sizes = surfel_sizes(spacing)
    codes = neighbour_codes(prediction), neighbour_codes(reference)
    first, second = ((code != 0) & (code != sizes.size - 1) for code in codes)
    return DirectedDistances(
        nearest(first, second, spacing),
        nearest(second, first, spacing),
        sizes[codes[0][first]],
        sizes[codes[1][second]],
    )


def nearest(points: Mask, surface: Mask, spacing: Sequence[float]) -> Values:
    """For each point, in the order of ``points[points]``, the distance to the nearest point of ``surface``.

    Points nearby are found by looking at the places around each in the order of their distance, which ends with the
    first that is a surface. What is left is searched with a KD-tree, or read off a distance transform where points are
    so many that it is faster. All three are exact.

    Args:
        points: marked places.
        surface: marked places of the same array, one at least.
        spacing: between places along each array axis.
    """
    shape = tuple(length + 2 * _REACH for length in surface.shape)
    places, flat = np.flatnonzero(np.pad(points, _REACH)), np.pad(surface, _REACH).ravel()
    found = np.full(places.size, np.nan)
    left = np.arange(places.size)
    for distance, offset in _offsets(tuple(map(float, spacing))):
        hit = flat[places + _flat_step(offset, shape)]
        if hit.any():
            found[left[hit]] = distance
            left, places = left[~hit], places[~hit]
            if not left.size:
                return found
    scale = np.asarray(spacing, dtype=float)
    targets = np.flatnonzero(flat)
    rest, targets = (np.stack(np.unravel_index(which, shape), axis=1) for which in (places, targets))
    if len(rest) * _VOXELS_A_POINT + len(targets) < surface.size:
        # as it is built here it is no less exact, and built in a third of the time
        tree = cKDTree(targets * scale, leafsize=32, balanced_tree=False, compact_nodes=False)
        found[left] = tree.query(rest * scale)[0]
    else:
        found[left] = distance_transform_edt(~surface, sampling=scale)[tuple((rest - _REACH).T)]
    return found


def _flat_step(offset: Sequence[int], shape: Sequence[int]) -> int:
    step = 0
    for steps, length in zip(offset, shape, strict=True):
        step = step * length + steps
    return step


@lru_cache(maxsize=8)
def _offsets(spacing: tuple[float, ...]) -> tuple[tuple[float, tuple[int, ...]], ...]:
    """Distance and offset in voxels of the places around one, the nearest first, as far as none is left out."""
    beyond = (_REACH + 1) * min(spacing)
    every = itertools.product(range(-_REACH, _REACH + 1), repeat=len(spacing))
    near = ((math.hypot(*(n * size for n, size in zip(offset, spacing, strict=True))), offset) for offset in every)
    return tuple(sorted(pair for pair in near if pair[0] < beyond))
