"""Label values as whole numbers, in steps, so that a large label takes no more memory than its result."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nnunet_ext.label_rounding import LARGEST, rounding_bound, why_refused

#: Voxels that are worked on at a time.
STEP = 1 << 20


@dataclass(frozen=True)
class WholeNumbers:
    """Labels after rounding.

    Args:
        values: integers, one axis; None where some are no whole numbers.
        calculated: type in which the values came, where it was not an integer one; empty otherwise.
        rounded: number of values that were off by arithmetic.
        off: how far the furthest of them was.
        storage: of the label, in words.
        refused: number of values that are no whole numbers, and what is wrong with the worst of them.
    """

    values: np.ndarray | None
    calculated: str = ""
    rounded: int = 0
    off: float = 0.0
    storage: str = ""
    refused: int = 0
    why: str = ""


def whole_numbers(stored: np.ndarray, slope: float = 1.0, inter: float = 0.0) -> WholeNumbers:
    """Labels as whole numbers (``nnunet_ext.label_rounding``).

    Args:
        stored: as the file holds them, one axis.
        slope, inter: value = slope * stored + inter.
    """
    plain = slope == 1 and inter == 0
    if plain and stored.dtype.kind in "iub":
        return WholeNumbers(stored)
    calculated = (stored[:0] if plain else stored[:0] * slope + inter).dtype.name
    storage = stored.dtype.name if plain else f"storage as {stored.dtype.name} with slope {slope!r}"
    low, high, odd = np.inf, -np.inf, 0
    for values in _values(stored, slope, inter):
        finite = values[np.abs(values) < LARGEST]
        odd += values.size - finite.size
        if finite.size < values.size:
            worst = float(values[~(np.abs(values) < LARGEST)][0])
        if finite.size:
            low, high = min(low, finite.min()), max(high, finite.max())
    if odd:
        return WholeNumbers(None, calculated, storage=storage, refused=odd, why=why_refused(worst, 0.0, storage))
    bound = rounding_bound(max(abs(low), abs(high)), slope if stored.dtype.kind in "iu" else None)
    whole = np.empty(stored.size, _dtype(low, high))
    rounded, furthest, value, start = 0, 0.0, 0.0, 0
    for values in _values(stored, slope, inter):
        nearest = np.rint(values)
        off = np.abs(values - nearest)
        rounded += int(np.count_nonzero(off))
        odd += int(np.count_nonzero(off > bound))
        if off.max() > furthest:
            furthest, value = float(off.max()), float(values[off.argmax()])
        whole[start : start + values.size] = nearest
        start += values.size
    if odd:
        return WholeNumbers(None, calculated, storage=storage, refused=odd, why=why_refused(value, bound, storage))
    return WholeNumbers(whole, calculated, rounded, furthest, storage)


def _values(stored: np.ndarray, slope: float, inter: float) -> Iterator[np.ndarray]:
    """In double precision, a step at a time."""
    for start in range(0, stored.size, STEP):
        part = stored[start : start + STEP].astype(np.float64)
        with np.errstate(over="ignore", invalid="ignore"):
            yield part if slope == 1 and inter == 0 else part * slope + inter


def _dtype(low: float, high: float) -> np.dtype:
    """The smallest type of integers that holds both."""
    types = (np.dtype(name) for name in ("u1", "i2", "i4", "i8"))
    return next(dtype for dtype in types if np.iinfo(dtype).min <= round(low) and round(high) <= np.iinfo(dtype).max)
