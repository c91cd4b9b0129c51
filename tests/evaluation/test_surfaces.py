"""Surfaces and their distances: loop twins, and golden numbers of surface-distance 0.1 (``write_surfels.py``)."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_ext.evaluation import surfaces
from nnunet_ext.evaluation.formulas import hausdorff_distance, surface_dice
from nnunet_ext.evaluation.masks import MaskPair, bounding_box, joint_box
from nnunet_ext.evaluation.surfaces import border_voxels, nearest, neighbour_codes, surfel_distances, surfel_sizes

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "surfels.json").read_text())


@pytest.mark.parametrize("shape", [(7,), (5, 6), (4, 5, 6)])
def test_border_voxels_are_those_with_a_face_to_the_outside(shape):
    mask = np.random.default_rng(1).random(shape) < 0.7
    padded = np.pad(mask, 1)
    expected = np.zeros(shape, dtype=bool)
    for index in np.argwhere(mask):
        for axis, step in itertools.product(range(mask.ndim), (-1, 1)):
            neighbour = index + 1
            neighbour[axis] += step
            expected[tuple(index)] |= not padded[tuple(neighbour)]
    assert np.array_equal(border_voxels(mask), expected)


def code_at(mask, corner):
    """Loop twin of a neighbour code."""
    code = 0
    for bit, step in enumerate(itertools.product((-1, 0), repeat=mask.ndim)):
        voxel = tuple(c + s for c, s in zip(corner, step, strict=True))
        inside = all(0 <= v < length for v, length in zip(voxel, mask.shape, strict=True))
        code |= int(inside and mask[voxel]) << bit
    return code


@pytest.mark.parametrize("shape", [(5, 4), (3, 5, 4)])
def test_neighbour_codes_equal_a_loop_over_all_corners(shape):
    mask = np.random.default_rng(2).random(shape) < 0.5
    codes = neighbour_codes(mask)
    assert codes.shape == tuple(length + 1 for length in shape)
    for corner in np.ndindex(codes.shape):
        assert codes[corner] == code_at(mask, corner)


def test_areas_of_all_256_codes_are_those_of_surface_distance():
    for spacing, areas in zip(GOLDEN["spacings"], GOLDEN["areas"], strict=True):
        np.testing.assert_allclose(surfel_sizes(spacing), areas, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(surfel_sizes((2.0, 0.75)), GOLDEN["lengths"], rtol=1e-12)


def test_thirty_random_masks_give_the_numbers_of_surface_distance(random_pairs):
    for (prediction, reference, spacing), golden in zip(random_pairs(), GOLDEN["volumes"], strict=True):
        pair = MaskPair(prediction, reference, spacing)
        assert [pair.voxels_prediction, pair.voxels_reference] == golden["voxels"], "other masks than were measured"
        distances = pair.surfel_distances
        means = [
            np.average(distances.to_prediction, weights=distances.weights_reference),
            np.average(distances.to_reference, weights=distances.weights_prediction),
        ]
        found = {
            "hd95": hausdorff_distance(pair, 95, "surfel"),
            "hd": hausdorff_distance(pair, 100, "surfel"),
            "nsd@1": surface_dice(pair, 1.0),
            "nsd@2": surface_dice(pair, 2.0),
        }
        assert found == pytest.approx({key: golden[key] for key in found}, rel=1e-12)
        assert means == pytest.approx(golden["means"], rel=1e-12)


def test_a_surfel_distance_equals_a_loop_over_all_pairs_of_corners(random_pairs):
    for prediction, reference, spacing in itertools.islice(random_pairs(), 3):
        points = [
            np.array(
                [c for c in np.ndindex(*(n + 1 for n in mask.shape)) if 0 < code_at(mask, c) < 2**2**mask.ndim - 1]
            )
            * np.array(spacing)
            for mask in (prediction, reference)
        ]
        distances = cdist(*points)
        found = surfel_distances(prediction, reference, spacing)
        np.testing.assert_allclose(found.to_reference, distances.min(axis=1), rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(found.to_prediction, distances.min(axis=0), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("voxels_a_point", [0, 10**9], ids=["tree", "transform"])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (3.0, 0.4, 1.1)])
def test_the_nearest_point_is_the_same_by_every_way(monkeypatch, voxels_a_point, spacing):
    rng = np.random.default_rng(5)
    points, surface = rng.random((12, 13, 14)) < 0.1, np.zeros((12, 13, 14), dtype=bool)
    surface[[0, 2, 11], [3, 0, 12], [13, 5, 1]] = True
    monkeypatch.setattr(surfaces, "_VOXELS_A_POINT", voxels_a_point)
    expected = cdist(np.argwhere(points) * spacing, np.argwhere(surface) * spacing).min(axis=1)
    np.testing.assert_allclose(nearest(points, surface, spacing), expected, rtol=1e-12)


def test_masks_far_apart_in_a_large_image_are_measured_in_their_joint_box(boxes):
    shape = (60, 70, 80)
    pair = MaskPair(boxes(shape, ((20, 30, 40), (2, 3, 4))), boxes(shape, ((25, 30, 41), (2, 2, 2))), (1.0, 1.0, 1.0))
    assert pair.cut_out[0].shape == (7, 3, 4)
    assert hausdorff_distance(pair, 100) == pytest.approx(np.sqrt(25 + 1 + 1))


def test_surfels_need_two_or_three_dimensions():
    with pytest.raises(ValueError, match="two and three dimensions"):
        MaskPair(np.ones(3, bool), np.ones(3, bool), (1.0,)).surfel_distances  # noqa: B018


def test_the_box_of_nothing_is_none_and_of_two_boxes_the_one_around_both(boxes):
    assert bounding_box(np.zeros((3, 4))) is None
    assert joint_box(None, None) is None
    first, second = (bounding_box(boxes((9, 9), (corner, (2, 3)))) for corner in ((1, 2), (5, 0)))
    assert joint_box(first, None, second) == (slice(1, 7), slice(0, 5))
