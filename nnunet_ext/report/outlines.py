"""The border of a mask along the edges of its pixels, as lines to draw."""

from __future__ import annotations

import numpy as np
from matplotlib.path import Path as Shape


def outline(mask: np.ndarray) -> np.ndarray:
    """Straight pieces, shape (N, 2, 2): two ends of (x, y) each, around every pixel group of a mask (Y, X).

    The border runs along pixel edges, so it says exactly which pixels belong to the mask, and it is closed at the edge
    of the picture too. Pixel centres lie at whole numbers, as with ``imshow``.
    """
    padded = np.pad(mask.astype(bool), 1)
    across = _runs((padded[1:] != padded[:-1])[:, 1:-1])
    down = _runs((padded[:, 1:] != padded[:, :-1])[1:-1].T)
    return np.concatenate((across[..., ::-1], down)) - 0.5


def area(mask: np.ndarray) -> Shape:
    """The pixels of a mask (Y, X) as a shape to clip by: one rectangle for each run of them in a row."""
    rectangles = []
    for (row, start), (_, stop) in _runs(mask.astype(bool)):
        corners = ((start, row), (stop, row), (stop, row + 1), (start, row + 1), (start, row))
        rectangles.append(Shape(np.subtract(corners, 0.5), closed=True))
    return Shape.make_compound_path(*rectangles)


def _runs(edges: np.ndarray) -> np.ndarray:
    # (N, 2, 2): begin and end of each run of True along axis 1, as (line, position)
    steps = np.diff(np.pad(edges.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    return np.stack((np.argwhere(steps == 1), np.argwhere(steps == -1)), axis=1).astype(float)
