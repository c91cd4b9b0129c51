"""Methods side by side: equal cases, groups, adjustment over everything that is looked at, and words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.comparison import FOREGROUND, compare
from nnunet_ext.evaluation.metrics import DICE, HD95
from nnunet_ext.evaluation.statistics import holm, signed_rank


def table(values, regions=("whole",), column="Dice"):
    """(cases, regions) values, or (cases,) for one region."""
    array = np.atleast_2d(np.asarray(values, dtype=float).T).T
    rows = [
        {"case": f"case{case:02}", "region": region, column: array[case, index]}
        for case in range(len(array))
        for index, region in enumerate(regions)
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_a_clear_difference_is_called_one_and_names_the_better(rng):
    base = rng.uniform(0.6, 0.8, 20)
    found = compare({"old": table(base), "new": table(base + rng.uniform(0.02, 0.08, 20))}, {"Dice": DICE})
    (difference,) = found.differences
    assert difference.beyond_noise
    assert difference.better == "new"
    assert "new is better than old" in difference.verdict()
    old, new = found.standings
    assert (old.mean_rank, new.mean_rank, new.first) == (2, 1, 1)


def test_of_a_distance_the_smaller_is_better(rng):
    base = rng.uniform(5, 9, 20)
    tables = {"old": table(base, column="HD95"), "new": table(base - rng.uniform(1, 2, 20), column="HD95")}
    assert compare(tables, {"HD95": HD95}).differences[0].better == "new"


def test_noise_is_called_a_difference_as_rarely_as_promised(rng):
    """One comparison in twenty at most, three methods or two."""
    wrong = 0
    for _ in range(60):
        tables = {name: table(rng.uniform(0.6, 0.8, 20)) for name in "ABC"}
        differences = compare(tables, {"Dice": DICE}).differences
        wrong += any(difference.better for difference in differences)
        quiet = next(difference for difference in differences if difference.p == max(d.p for d in differences))
        assert "no difference beyond noise" in quiet.verdict() or quiet.better
    assert wrong <= 6  # 3 are expected; 7 or more of 60 would come once in thirty such tests


def test_identical_predictions_do_not_differ(rng):
    same = table(rng.uniform(size=8))
    (difference,) = compare({"A": same, "B": same.copy()}, {"Dice": DICE}).differences
    assert (difference.p, difference.verdict()) == (None, "no difference")


def test_five_cases_can_prove_nothing_and_the_words_say_so():
    tables = {"A": table([0.1] * 5), "B": table([0.9, 0.8, 0.85, 0.95, 0.7])}
    (difference,) = compare(tables, {"Dice": DICE}).differences
    assert not difference.better
    assert "no test can reach" in difference.verdict()


def test_p_values_are_adjusted_over_the_pairs_of_a_region_and_metric(rng):
    regions = ("whole", "core")
    tables = {}
    for name in "ABC":
        tables[name] = table(rng.uniform(size=(9, 2)), regions)
        tables[name]["HD95"] = rng.uniform(size=18)
    found = compare(tables, {"Dice": DICE, "HD95": HD95})
    assert len(found.differences) == 3 * 3 * 2  # pairs, regions and their mean, metrics
    for start in range(0, 18, 3):
        of_one = found.differences[start : start + 3]
        assert len({(each.region, each.metric) for each in of_one}) == 1
        assert [each.p for each in of_one] == pytest.approx(holm([each.found.test.p for each in of_one]))


def test_a_case_without_a_value_in_one_method_drops_for_both_and_is_counted():
    a, b = [0.5, np.nan, 0.7, 0.6], [0.6, 0.9, np.nan, 0.65]
    found = compare({"A": table(a), "B": table(b)}, {"Dice": DICE})
    assert found.left_out == {("whole", "Dice"): 2}
    assert {standing.units for standing in found.standings} == {2}
    assert found.standings[0].mean == pytest.approx(0.55)


def test_the_mean_of_regions_is_that_of_each_case():
    values = np.array([[0.2, 0.6], [0.4, 1.0], [np.nan, 0.5]])
    found = compare({"A": table(values, ("x", "y")), "B": table(values + 0.0, ("x", "y"))}, {"Dice": DICE})
    means = {standing.region: standing.mean for standing in found.standings if standing.method == "A"}
    assert means[FOREGROUND] == pytest.approx((0.4 + 0.7 + 0.5) / 3)


def test_slices_of_a_patient_are_one_unit():
    """Twenty slices of two patients: a difference in every slice is two differences."""
    rng = np.random.default_rng(0)
    a = rng.uniform(0.5, 0.6, 20)
    tables = {"A": table(a), "B": table(a + 0.1)}
    groups = {f"case{case:02}": f"patient{case % 2}" for case in range(20)}
    (alone,) = compare(tables, {"Dice": DICE}).differences
    (grouped,) = compare(tables, {"Dice": DICE}, groups).differences
    assert alone.better == "B"
    assert (grouped.found.units, grouped.better) == (2, "")
    assert grouped.found.test.p == pytest.approx(signed_rank([0.1, 0.1]).p)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"A": table([1, 2])}, "cannot be compared"),
        ({"A": table([1, 2]), "B": table([1])}, "not evaluated on the same cases: 1 differ, such as case01"),
        ({"A": table([1, 2]), "B": table([1, 2], ("other",))}, "other regions"),
    ],
)
def test_what_cannot_be_paired_is_refused_with_the_reason(tables, message):
    with pytest.raises(UserError, match=message):
        compare(tables, {"Dice": DICE})


def test_a_case_without_a_group_is_refused():
    tables = {"A": table([1, 2]), "B": table([2, 3])}
    with pytest.raises(UserError, match="1 cases have no group, such as case01"):
        compare(tables, {"Dice": DICE}, {"case00": "p"})


def test_a_bootstrap_has_a_seed_and_the_same_call_gives_the_same_numbers(rng):
    tables = {name: table(rng.uniform(size=15)) for name in "AB"}
    assert compare(tables, {"Dice": DICE}) == compare(tables, {"Dice": DICE})
    assert compare(tables, {"Dice": DICE}, seed=1) != compare(tables, {"Dice": DICE})
