"""Overlap and boundary measures against hand-computed fixtures, a brute-force twin and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_ext.evaluation.metrics import (
    BRATS_DIAGONAL,
    DEFINITIONS,
    METRICS,
    POLICIES,
    MaskPair,
    hausdorff_distance,
    score,
)


def boxes(shape, *corners_and_sizes):
    mask = np.zeros(shape, dtype=bool)
    for corner, size in corners_and_sizes:
        mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    return mask


CUBE = ((10, 10, 10), (10, 10, 10))
GRID = (32, 32, 32)
ONE = (1.0, 1.0, 1.0)
# id: prediction, reference, spacing, Dice, HD100, pooled HD95, max_directed HD95 (computed with MedPy and MONAI).
FIXTURES = {
    "F1 shifted cube": (boxes(GRID, ((10, 10, 12), (10,) * 3)), boxes(GRID, CUBE), ONE, 0.8, 2, 2, 2),
    "F2 one far voxel": (boxes(GRID, CUBE, ((2, 2, 2), (1,) * 3)), boxes(GRID, CUBE), ONE, 0.999500, 13.8564, 0, 0),
    "F3 one far component": (
        boxes(GRID, CUBE, ((2, 2, 2), (3,) * 3)),
        boxes(GRID, CUBE),
        ONE,
        0.986680,
        13.8564,
        0,
        3.6373,
    ),
    "F4 two single voxels": (
        boxes(GRID, ((10, 10, 10), (1,) * 3)),
        boxes(GRID, ((10, 13, 14), (1,) * 3)),
        ONE,
        0,
        5,
        5,
        5,
    ),
    "F5 cube within a cube": (
        boxes(GRID, ((12,) * 3, (4,) * 3)),
        boxes(GRID, ((10,) * 3, (8,) * 3)),
        ONE,
        0.222222,
        3.4641,
        3,
        3,
    ),
    "F6 anisotropic spacing": (
        boxes(GRID, ((12, 10, 10), (10,) * 3)),
        boxes(GRID, CUBE),
        (3.0, 1.0, 1.0),
        0.8,
        6,
        6,
        6,
    ),
    "F7 two dimensions": (
        boxes((32, 32), ((10, 12), (10, 10))),
        boxes((32, 32), ((10, 10), (10, 10))),
        (1.0, 1.0),
        0.8,
        2,
        2,
        2,
    ),
    "F8 at the image edge": (
        boxes(GRID, ((0, 0, 1), (8,) * 3)),
        boxes(GRID, ((0, 0, 0), (8,) * 3)),
        ONE,
        0.875,
        1,
        1,
        1,
    ),
    "F9 one side cut off": (
        boxes((64, 64), ((10, 10), (30, 40))),
        boxes((64, 64), ((10, 10), (40, 40))),
        (1.0, 1.0),
        0.857143,
        10,
        10,
        10,
    ),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_of_the_field_give_their_published_values(name):
    prediction, reference, spacing, dice, hd100, pooled, max_directed = FIXTURES[name]
    pair = MaskPair(prediction, reference, spacing)
    scores = score(pair, "nnunet")
    assert scores["Dice"] == pytest.approx(dice, abs=1e-6)
    assert scores["IoU"] == pytest.approx(dice / (2 - dice), abs=1e-6)
    for definition, expected in (("pooled", pooled), ("max_directed", max_directed)):
        assert hausdorff_distance(pair, 100, definition) == pytest.approx(hd100, abs=1e-4)
        assert hausdorff_distance(pair, 95, definition) == pytest.approx(expected, abs=1e-4)


def brute_force_directed_distances(prediction, reference, spacing):
    def surface_points(mask):
        padded = np.pad(mask, 1)
        points = []
        for index in np.argwhere(mask):
            for axis in range(mask.ndim):
                for step in (-1, 1):
                    neighbour = index + 1
                    neighbour[axis] += step
                    if not padded[tuple(neighbour)]:
                        points.append(index)
        return np.unique(points, axis=0) * np.asarray(spacing)

    distances = cdist(surface_points(prediction), surface_points(reference))
    return distances.min(axis=1), distances.min(axis=0)


@pytest.mark.parametrize("shape", [(9, 11), (6, 7, 8)])
@pytest.mark.parametrize("percentile", [50, 95, 100])
def test_hausdorff_distance_equals_a_brute_force_twin_on_random_masks(shape, percentile):
    rng = np.random.default_rng(3)
    spacing = rng.uniform(0.5, 3.0, len(shape))
    prediction, reference = rng.random(shape) < 0.3, rng.random(shape) < 0.2
    to_reference, to_prediction = brute_force_directed_distances(prediction, reference, spacing)
    expected = {
        "pooled": np.percentile([*to_reference, *to_prediction], percentile),
        "max_directed": max(np.percentile(to_reference, percentile), np.percentile(to_prediction, percentile)),
    }
    for definition in DEFINITIONS:
        found = hausdorff_distance(MaskPair(prediction, reference, spacing), percentile, definition)
        assert found == pytest.approx(expected[definition], rel=1e-12), definition


@pytest.mark.parametrize("definition", DEFINITIONS)
def test_distances_are_symmetric_and_scale_with_spacing(definition):
    rng = np.random.default_rng(4)
    a, b = rng.random((8, 8, 8)) < 0.1, rng.random((8, 8, 8)) < 0.1
    forward = hausdorff_distance(MaskPair(a, b, ONE), 95, definition)
    assert hausdorff_distance(MaskPair(b, a, ONE), 95, definition) == forward
    assert hausdorff_distance(MaskPair(a, b, (2.5, 2.5, 2.5)), 95, definition) == pytest.approx(2.5 * forward)
    assert hausdorff_distance(MaskPair(a, a, ONE), 95, definition) == 0


EMPTY, SOME = np.zeros((4, 4, 4), dtype=bool), boxes((4, 4, 4), ((1, 1, 1), (2, 2, 2)))


@pytest.mark.parametrize(
    ("policy", "prediction", "reference", "expected"),
    [
        ("nnunet", EMPTY, EMPTY, (math.nan, math.nan, math.nan)),
        ("nnunet", SOME, EMPTY, (0, 0, math.nan)),
        ("nnunet", EMPTY, SOME, (0, 0, math.nan)),
        ("brats", EMPTY, EMPTY, (1, 1, 0)),
        ("brats", SOME, EMPTY, (0, 0, 373.12866)),
        ("brats", EMPTY, SOME, (0, 0, 373.12866)),
    ],
)
def test_empty_masks_count_what_the_policy_says(policy, prediction, reference, expected):
    scores = score(MaskPair(prediction, reference, ONE), policy)
    assert [scores["Dice"], scores["IoU"], scores["HD95"]] == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_policies_agree_where_neither_mask_is_empty():
    pair = MaskPair(*FIXTURES["F1 shifted cube"][:3])
    assert score(pair, "nnunet") == score(pair, "brats")


def test_every_metric_says_what_it_counts_under_every_policy():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    for metric in METRICS:
        assert set(metric.empty) == set(POLICIES), metric.name


def test_a_better_prediction_scores_better_in_the_direction_of_the_table():
    reference = FIXTURES["F1 shifted cube"][1]
    near, far = (MaskPair(np.roll(reference, shift, 0), reference, ONE) for shift in (1, 4))
    for metric in METRICS:
        assert (metric.compute(near) > metric.compute(far)) == metric.higher_is_better, metric.name


def test_what_no_metric_asks_for_is_not_computed():
    pair = MaskPair(*FIXTURES["F1 shifted cube"][:3])
    score(pair, "nnunet", [metric for metric in METRICS if metric.unit != "mm"])
    assert "surface_distances" not in vars(pair)


def test_the_brats_penalty_is_the_diagonal_of_a_brats_volume():
    assert abs(BRATS_DIAGONAL - 373.128664) < 1e-6


def masks_of(tp, fp, fn):
    """Two masks in one dimension with these counts of true positive, false positive and false negative voxels."""
    prediction = np.repeat([True, True, False], [tp, fp, fn])
    return MaskPair(prediction, np.repeat([True, False, True], [tp, fp, fn]), (1.0,))


def test_worked_example_of_the_overlap_of_single_cases():
    dice = [
        score(masks_of(tp, fp, fn), "nnunet")["Dice"] for tp, fp, fn in ((10, 0, 10), (90, 10, 0), (0, 0, 0), (0, 5, 0))
    ]
    assert dice == pytest.approx([0.666667, 0.947368, math.nan, 0], abs=1e-6, nan_ok=True)


def test_masks_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        MaskPair(EMPTY, EMPTY[:2], ONE)
