"""The rule of BraTS winners on a small enhancing tumour, against trying every threshold on label maps."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.masks import MaskPair
from nnunet_ext.evaluation.metrics import score
from nnunet_ext.evaluation.small_region import GRID, best_threshold, rule_for

REGIONS = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}


def row(prediction, reference, case):
    pair = MaskPair(prediction == 3, reference == 3, (1, 1, 1))
    scores = score(pair, "brats")
    counts = {"voxels_prediction": pair.voxels_prediction, "voxels_reference": pair.voxels_reference}
    return {"case": case, "region": "enhancing", "Dice_brats": scores["Dice"], **counts}


@pytest.fixture
def maps():
    """Twelve pairs of label maps: in some the reference has no enhancing tumour and the prediction a little."""
    rng = np.random.default_rng(3)
    found = []
    for case in range(12):
        reference, prediction = np.zeros((2, 12, 12, 12), int)
        size = 0 if case % 3 == 0 else 5 + case % 4
        reference[:size, :size, :size] = 3
        edge = int(rng.integers(1, 4)) if size == 0 else size - 1
        prediction[:edge, :edge, :edge] = 3
        found.append((prediction, reference))
    return found


def test_the_threshold_found_is_that_of_trying_each_on_the_label_maps(maps):
    table = pd.DataFrame([row(*pair, case) for case, pair in enumerate(maps)])
    found = best_threshold(table, "enhancing")
    means = []
    for threshold in GRID:
        rule = rule_for(REGIONS, "enhancing", threshold)
        rows = [row(rule.applied(prediction), reference, 0) for prediction, reference in maps]
        means.append(np.mean([each["Dice_brats"] for each in rows]))
    assert found.threshold == GRID[int(np.argmax(means))] > 0
    assert (found.before, found.after) == pytest.approx((means[0], max(means)))
    assert found.changed == sum(0 < int((prediction == 3).sum()) < found.threshold for prediction, _ in maps)


def test_nothing_is_removed_where_that_helps_nobody():
    full = np.full((4, 4, 4), 3)
    table = pd.DataFrame([row(full, full, case) for case in range(3)])
    found = best_threshold(table, "enhancing")
    assert (found.threshold, found.before, found.after, found.changed) == (0, 1, 1, 0)


def test_the_removed_voxels_stay_in_the_regions_around():
    rule = rule_for(REGIONS, "enhancing", 10)
    assert (rule.labels, rule.replacement) == ((3,), 2)
    small = np.zeros((3, 3, 3), np.uint8)
    small[0, 0] = 3
    changed = rule.applied(small)
    assert changed.dtype == small.dtype
    assert set(np.unique(changed)) == {0, 2}
    assert small.max() == 3, "the given map is left alone"


@pytest.mark.parametrize("count", [0, 10, 20])
def test_a_region_of_the_threshold_or_more_and_an_empty_one_are_left_alone(count):
    label_map = np.zeros(27, np.uint8)
    label_map[:count] = 3
    rule = rule_for(REGIONS, "enhancing", 10)
    assert rule.applied(label_map) is label_map


@pytest.mark.parametrize(
    ("regions", "region", "message"),
    [
        (REGIONS, "tumour", "no region 'tumour'"),
        ({"liver": (1,), "spleen": (2,)}, "liver", "one label more"),
        ({"whole": (1, 2, 3), "enhancing": (3,)}, "enhancing", "one label more"),
    ],
)
def test_regions_that_do_not_lie_in_one_another_are_refused(regions, region, message):
    with pytest.raises(UserError, match=message):
        rule_for(regions, region)


def test_a_table_without_the_region_is_refused():
    with pytest.raises(UserError, match="nothing was evaluated"):
        best_threshold(pd.DataFrame({"region": []}), "enhancing")
