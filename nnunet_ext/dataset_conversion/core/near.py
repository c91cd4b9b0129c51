"""Near duplicates among pictures, by the difference hash."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from PIL import Image

_COLUMNS, _ROWS = 8, 8


def difference_hash(pixels: np.ndarray) -> str:
    """Whether each of 9x8 grey values is darker than its right neighbour: 64 bits that survive rescaling and noise.

    Args:
        pixels: uint8 of shape (Y, X, 3).

    Returns:
        16 hexadecimal digits.
    """
    small = Image.fromarray(pixels).convert("L").resize((_COLUMNS + 1, _ROWS), Image.Resampling.LANCZOS)
    grey = np.asarray(small)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()


def close_pairs(hashes: Sequence[str], distance: int) -> list[tuple[int, int]]:
    """Places of all pairs of hashes that differ in at most ``distance`` bits; empty hashes are like no other."""
    known = [(place, int(text, 16)) for place, text in enumerate(hashes) if text]
    return [
        (first, second)
        for (first, one), (second, two) in combinations(known, 2)
        if bin(one ^ two).count("1") <= distance
    ]
