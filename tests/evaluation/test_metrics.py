"""Overlap and boundary measures against hand-computed fixtures, a brute-force twin and their own laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from nnunet_ext.evaluation.formulas import DEFINITIONS, average_distance, hausdorff_distance, surface_dice
from nnunet_ext.evaluation.masks import MaskPair
from nnunet_ext.evaluation.metrics import (
    BRATS_DIAGONAL,
    METRICS,
    POLICIES,
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
# id: prediction, reference, spacing, Dice, HD100, pooled HD95, max_directed HD95, surfel HD95 (computed with MedPy,
# MONAI and surface-distance; F9 has no published surfel value).
FIXTURES = {
    "F1 shifted cube": (boxes(GRID, ((10, 10, 12), (10,) * 3)), boxes(GRID, CUBE), ONE, 0.8, 2, 2, 2, 2),
    "F2 one far voxel": (boxes(GRID, CUBE, ((2, 2, 2), (1,) * 3)), boxes(GRID, CUBE), ONE, 0.999500, 13.8564, 0, 0, 0),
    "F3 one far component": (
        boxes(GRID, CUBE, ((2, 2, 2), (3,) * 3)),
        boxes(GRID, CUBE),
        ONE,
        0.986680,
        13.8564,
        0,
        3.6373,
        10.4881,
    ),
    "F4 two single voxels": (
        boxes(GRID, ((10, 10, 10), (1,) * 3)),
        boxes(GRID, ((10, 13, 14), (1,) * 3)),
        ONE,
        0,
        5,
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
        None,
    ),
}


@pytest.mark.parametrize("name", FIXTURES)
def test_fixtures_of_the_field_give_their_published_values(name):
    prediction, reference, spacing, dice, hd100, pooled, max_directed, surfel = FIXTURES[name]
    pair = MaskPair(prediction, reference, spacing)
    scores = score(pair, "nnunet")
    assert scores["Dice"] == pytest.approx(dice, abs=1e-6)
    assert scores["IoU"] == pytest.approx(dice / (2 - dice), abs=1e-6)
    for definition, expected in (("pooled", pooled), ("max_directed", max_directed)):
        assert hausdorff_distance(pair, 100, definition) == pytest.approx(hd100, abs=1e-4)
        assert hausdorff_distance(pair, 95, definition) == pytest.approx(expected, abs=1e-4)
    if surfel is not None:
        assert hausdorff_distance(pair, 95, "surfel") == pytest.approx(surfel, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "counted", "weighted", "pooled_mean", "mean_of_means"),
    [
        ("F1 shifted cube", 0.7213, 0.7229, 0.6885, 0.6885),
        ("F3 one far component", 0.9741, 0.9635, 0.3161, 0.3081),
        ("F6 anisotropic spacing", 0.6475, 0.7700, None, None),
    ],
)
def test_surface_dice_at_1_mm_and_mean_distances_have_their_published_values(
    name, counted, weighted, pooled_mean, mean_of_means
):
    pair = MaskPair(*FIXTURES[name][:3])
    assert surface_dice(pair, 1.0, counted=True) == pytest.approx(counted, abs=1e-4)
    assert surface_dice(pair, 1.0) == pytest.approx(weighted, abs=1e-4)
    if pooled_mean is not None:
        assert average_distance(pair) == pytest.approx(pooled_mean, abs=1e-4)
        directed = pair.border_distances
        assert (directed.to_reference.mean() + directed.to_prediction.mean()) / 2 == pytest.approx(
            mean_of_means, abs=1e-4
        )


def test_in_f1_the_pooled_list_holds_976_distances_and_surfels_weigh_their_directed_means():
    pair = MaskPair(*FIXTURES["F1 shifted cube"][:3])
    assert sum(len(distances) for distances in pair.border_distances[:2]) == 976
    surfels = pair.surfel_distances
    assert np.average(surfels.to_reference, weights=surfels.weights_prediction) == pytest.approx(0.6798, abs=1e-4)
    assert np.average(surfels.to_prediction, weights=surfels.weights_reference) == pytest.approx(0.6798, abs=1e-4)


def test_a_distance_at_the_tolerance_counts_whatever_single_precision_makes_of_the_spacing():
    spacing = (float(np.float32(0.2)),) * 3
    prediction, reference = (boxes((20, 4, 4), ((start, 1, 1), (1, 1, 1))) for start in (3, 8))
    assert 5 * spacing[0] > 1.0
    assert surface_dice(MaskPair(prediction, reference, spacing), 1.0, counted=True) == 1.0


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
    for definition in expected:
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
    # larger as well as moved, so that volumes differ too
    near, far = (
        MaskPair(np.roll(reference, shift, 0) | np.roll(reference, shift + 1, 0), reference, ONE) for shift in (0, 4)
    )
    far = MaskPair(far.prediction | np.roll(reference, -5, 1), reference, ONE)
    for metric in METRICS:
        assert (metric.compute(near) > metric.compute(far)) == metric.higher_is_better, metric.name


def test_what_no_metric_asks_for_is_not_computed():
    pair = MaskPair(*FIXTURES["F1 shifted cube"][:3])
    surfaces = ("HD", "ASSD", "NSD")
    score(pair, "nnunet", [metric for metric in METRICS if not metric.name.startswith(surfaces)])
    assert not {"border_distances", "surfel_distances"} & set(vars(pair))
    score(pair, "nnunet", [metric for metric in METRICS if metric.name in ("HD95", "HD95_max", "HD", "ASSD")])
    assert "border_distances" in vars(pair)
    assert "surfel_distances" not in vars(pair)


# Every metric under both policies: both masks empty, the prediction alone, the reference alone. A 4 x 4 x 4 image, 8
# voxels in the mask that is not empty.
NAN, D, P = math.nan, BRATS_DIAGONAL, 374.0
EMPTY_VALUES = {
    "Dice": ((NAN, 0, 0), (1, 0, 0)),
    "IoU": ((NAN, 0, 0), (1, 0, 0)),
    "Precision": ((NAN, NAN, 0), (1, 0, 0)),
    "Recall": ((NAN, 0, NAN), (1, 0, 0)),
    "Specificity": ((1, 1, 56 / 64), (1, 1, 56 / 64)),
    "PixelAccuracy": ((1, 56 / 64, 56 / 64), (1, 56 / 64, 56 / 64)),
    "RelativeVolumeError": ((NAN, 1, NAN), (0, 1, NAN)),
    "AbsoluteVolumeError": ((0, 16, 16), (0, 16, 16)),
    "HD95": ((NAN, NAN, NAN), (0, D, D)),
    "HD95_max": ((NAN, NAN, NAN), (0, D, D)),
    "HD95_surfel": ((NAN, NAN, NAN), (0, P, P)),
    "HD": ((NAN, NAN, NAN), (0, D, D)),
    "ASSD": ((NAN, NAN, NAN), (0, D, D)),
    **dict.fromkeys(
        ("NSD@1mm", "NSD@2mm", "NSD_counted@1mm", "NSD_counted@2mm"), ((NAN, 0, 0), (1, 0, 0))
    ),
}  # fmt: skip


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_every_metric_counts_of_empty_masks_what_the_table_says(metric):
    pairs = [MaskPair(*masks, (2.0, 1.0, 1.0)) for masks in ((EMPTY, EMPTY), (EMPTY, SOME), (SOME, EMPTY))]
    assert [pair.empty for pair in pairs] == ["both", "prediction", "reference"]
    for policy, expected in zip(("nnunet", "brats"), EMPTY_VALUES[metric.name], strict=True):
        assert [metric.value(pair, policy) for pair in pairs] == pytest.approx(expected, nan_ok=True), policy


def test_a_policy_has_a_column_of_its_own_where_it_may_differ():
    pair, empty = MaskPair(SOME, SOME, ONE), MaskPair(EMPTY, EMPTY, ONE)
    columns = {metric.name: metric for metric in METRICS}
    assert columns["Dice"].columns(pair) == {"Dice": 1.0, "Dice_brats": 1.0}
    assert columns["Dice"].columns(empty) == pytest.approx({"Dice": math.nan, "Dice_brats": 1.0}, nan_ok=True)
    assert columns["Specificity"].columns(pair) == {"Specificity": 1.0}


def test_counting_measures_equal_a_loop_over_voxels():
    rng = np.random.default_rng(8)
    for shape, spacing in (((4, 5), (2.0, 0.5)), ((3, 4, 5), (3.0, 1.0, 0.5))):
        prediction, reference = rng.random(shape) < 0.4, rng.random(shape) < 0.5
        tp = fp = fn = tn = 0
        for index in np.ndindex(shape):
            tp += bool(prediction[index] and reference[index])
            fp += bool(prediction[index] and not reference[index])
            fn += bool(reference[index] and not prediction[index])
            tn += bool(not prediction[index] and not reference[index])
        found = score(MaskPair(prediction, reference, spacing), "nnunet", METRICS)
        expected = {
            "Dice": 2 * tp / (2 * tp + fp + fn),
            "IoU": tp / (tp + fp + fn),
            "Precision": tp / (tp + fp),
            "Recall": tp / (tp + fn),
            "Specificity": tn / (tn + fp),
            "PixelAccuracy": (tp + tn) / prediction.size,
            "RelativeVolumeError": abs(fp - fn) / (tp + fn),
            "AbsoluteVolumeError": abs(fp - fn) * math.prod(spacing),
        }
        assert {name: found[name] for name in expected} == pytest.approx(expected)
        # what lies around the masks counts as background
        larger = MaskPair(prediction, reference, spacing, voxels=prediction.size + 100)
        assert score(larger, "nnunet", METRICS)["Specificity"] == pytest.approx((tn + 100) / (tn + fp + 100))


def test_a_reference_that_fills_the_image_has_no_specificity():
    full = np.ones((3, 3), dtype=bool)
    assert math.isnan(score(MaskPair(full, full, (1, 1)), "brats", METRICS)["Specificity"])


@pytest.mark.parametrize("counted", [True, False])
def test_surface_dice_and_mean_distance_equal_a_loop_over_points_in_any_spacing(counted):
    rng = np.random.default_rng(9)
    for shape in ((8, 9), (5, 6, 7)):
        spacing = tuple(rng.uniform(0.5, 3.0, len(shape)))
        pair = MaskPair(rng.random(shape) < 0.3, rng.random(shape) < 0.2, spacing)
        if counted:
            to_reference, to_prediction = brute_force_directed_distances(pair.prediction, pair.reference, spacing)
            assert average_distance(pair) == pytest.approx(np.mean([*to_reference, *to_prediction]))
            within = sum(d <= 1.5 for d in to_reference) + sum(d <= 1.5 for d in to_prediction)
            expected = within / (len(to_reference) + len(to_prediction))
        else:
            surfels = pair.surfel_distances
            lists = (
                (surfels.to_reference, surfels.weights_prediction),
                (surfels.to_prediction, surfels.weights_reference),
            )
            points = [(d, area) for distances, areas in lists for d, area in zip(distances, areas, strict=True)]
            expected = sum(area for d, area in points if d <= 1.5) / sum(area for _, area in points)
        assert surface_dice(pair, 1.5, counted=counted) == pytest.approx(expected)


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
