"""Outlines run along the edges of exactly the pixels of a mask."""

from __future__ import annotations

import numpy as np

from nnunet_ext.report.outlines import area, outline


def test_the_outline_of_a_pixel_is_its_four_edges():
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    edges = {tuple(map(tuple, piece)) for piece in outline(mask).tolist()}
    assert edges == {
        ((1.5, 0.5), (2.5, 0.5)),
        ((1.5, 1.5), (2.5, 1.5)),
        ((1.5, 0.5), (1.5, 1.5)),
        ((2.5, 0.5), (2.5, 1.5)),
    }


def test_the_outline_is_as_long_as_the_border_and_closed_at_the_edge_of_the_picture():
    mask = np.random.default_rng(0).random((9, 11)) < 0.5
    padded = np.pad(mask, 1).astype(int)
    border = np.abs(np.diff(padded, axis=0)).sum() + np.abs(np.diff(padded, axis=1)).sum()
    pieces = outline(mask)
    assert np.abs(pieces[:, 1] - pieces[:, 0]).sum() == border
    assert len(outline(np.ones((5, 6), bool))) == 4, "a region that fills the picture has an outline"
    assert outline(np.zeros((5, 6), bool)).shape == (0, 2, 2)


def test_the_area_holds_the_centres_of_the_pixels_of_the_mask_and_no_other():
    mask = np.random.default_rng(1).random((7, 8)) < 0.5
    rows, columns = np.indices(mask.shape)
    inside = area(mask).contains_points(np.stack((columns.ravel(), rows.ravel()), axis=1))
    assert np.array_equal(inside.reshape(mask.shape), mask)
