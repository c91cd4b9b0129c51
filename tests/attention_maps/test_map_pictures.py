"""The curve of slice weights lies below the bands that it explains, however the image is turned."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_ext.attention_maps.map_pictures import map_figure
from nnunet_ext.report.grid import Grid

SHAPE = (6, 10, 12)


@pytest.mark.parametrize("towards", [("S", "P", "L"), ("L", "S", "A"), ("R", "S", "A"), ("A", "L", "S"), ()])
def test_the_curve_runs_as_the_bands_do(towards):
    slices = np.broadcast_to(np.linspace(0, 1, SHAPE[0])[:, None, None], SHAPE)
    grid = Grid((1.0, 1.0, 1.0), towards)
    figure = map_figure(np.ones(SHAPE), slices, np.ones(SHAPE, bool), grid, 0, "title", np.linspace(0, 1, SHAPE[0]))
    shown = next(axes for axes in figure.axes if axes.get_title() == "map over the image").images[-1].get_array()
    curve = next(axes for axes in figure.axes if axes.get_xlabel() == "slice")
    left, right = curve.get_xlim()
    if shown[0, 0] == shown[0, -1]:
        assert left < right, "the bands lie one above the other"
    else:
        assert (shown[0, 0] < shown[0, -1]) == (left < right)
