"""Smooth random fields: the one ingredient of irregular outlines, bias fields and tissue texture."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# A uniform cubic B-spline scales the variance of independent coefficients by the mean of its four squared weights,
# summed over a knot interval: 151/315 an axis.
_VARIANCE_PER_AXIS = 151 / 315


def _spline_weights(size: int, knots: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    position = np.linspace(0, knots, size, endpoint=False) + 0.5 * knots / size
    interval = np.floor(position).astype(np.int64)
    t = position - interval
    weights = np.stack([(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3]) / 6
    return interval, weights.astype(np.float32)


def smooth_field(
    generator: np.random.Generator, shape: tuple[int, ...], knots: int | tuple[int, ...]
) -> NDArray[np.float32]:
    """Random field of mean 0 and variance about 1, twice continuously differentiable.

    A uniform cubic B-spline with independent standard normal coefficients. Four multiplications and additions a voxel
    and axis, all of them elementwise, so that the bytes do not depend on the number of threads of a matrix library.

    Args:
        generator: source of the coefficients.
        shape: voxels an axis.
        knots: knot intervals along each axis (one number for all): the larger, the finer the field.

    Returns:
        Array of the given shape.
    """
    intervals = (knots,) * len(shape) if isinstance(knots, int) else knots
    field = generator.standard_normal(tuple(k + 3 for k in intervals), dtype=np.float32)
    # The last axis first: it is the contiguous one, and the array is still small.
    for axis in reversed(range(1, len(shape))):
        index, weights = _spline_weights(shape[axis], intervals[axis])
        along = [1] * len(shape)
        along[axis] = shape[axis]
        field = sum(np.take(field, index + k, axis=axis) * weights[k].reshape(along) for k in range(4))
    field = field * np.float32(_VARIANCE_PER_AXIS ** (-0.5 * len(shape)))
    # The first axis layer by layer: a layer fits into the processor's cache, the whole array does not.
    index, weights = _spline_weights(shape[0], intervals[0])
    result = np.empty(shape, dtype=np.float32)
    for layer, start, (a, b, c, d) in zip(result, index, weights.T, strict=True):
        np.multiply(field[start], a, out=layer)
        layer += field[start + 1] * b
        layer += field[start + 2] * c
        layer += field[start + 3] * d
    return result
