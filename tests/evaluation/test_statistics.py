"""Paired statistics: numbers worked out before, and properties."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from nnunet_ext.evaluation.statistics import (
    bootstrap,
    holm,
    interval,
    paired,
    rank_stability,
    ranks,
    signed_rank,
)

A = [0.91, 0.88, 0.93, 0.79, 0.85, 0.90, 0.66, 0.95, 0.87, 0.82, 0.90, 0.74]
B = [0.90, 0.86, 0.92, 0.80, 0.83, 0.88, 0.60, 0.95, 0.86, 0.79, 0.88, 0.70]
C = [0.89, 0.87, 0.90, 0.75, 0.84, 0.86, 0.61, 0.94, 0.80, 0.80, 0.85, 0.71]


@pytest.mark.parametrize(
    ("first", "second", "statistic", "p"),
    [(A, B, 2.5, 0.0048828125), (A, C, 0, 0.00048828125), (B, C, 20, 0.1318359375)],
)
def test_the_signed_rank_test_of_twelve_cases(first, second, statistic, p):
    found = signed_rank(np.subtract(first, second))
    assert found.statistic == statistic
    assert found.p == pytest.approx(p, rel=1e-12)
    assert found.method == "permutation"


def test_every_sign_was_tried_where_there_are_ties():
    """By hand: of all signs of the ranks, the share whose smaller sum is at most the one found."""
    differences = [0.01, 0.01, -0.02, 0.03, 0.03, 0.04, 0.05]
    given = [1.5, 1.5, 3, 4.5, 4.5, 6, 7]
    sums = [
        min(sum(given), sum(rank for rank, sign in zip(given, signs, strict=True) if sign))
        for signs in itertools.product([0, 1], repeat=7)
    ]
    smaller = [min(total, sum(given) - total) for total in sums]
    found = signed_rank(differences)
    assert found.p == pytest.approx(np.mean(np.array(smaller) <= 3))


def test_the_method_depends_on_number_and_ties_alone():
    rng = np.random.default_rng(0)
    assert signed_rank(np.arange(1, 51) * 0.001).method == "exact"
    assert signed_rank(np.arange(1, 52) * 0.001).method == "asymptotic"
    assert signed_rank([0.1] * 13).method == "permutation"
    assert signed_rank([0.1] * 14).method == "asymptotic"
    assert signed_rank(rng.normal(size=12)).method == "exact"


@pytest.mark.parametrize(("pairs", "smallest"), [(4, 0.125), (5, 0.0625), (6, 0.03125), (8, 0.0078125)])
def test_few_cases_cannot_reach_small_p_values(pairs, smallest):
    best = paired([0.0] * pairs, [0.1 + 0.01 * case for case in range(pairs)])
    assert best.test.p == pytest.approx(smallest)
    assert best.can_tell == (smallest < 0.05)


def test_equal_methods_have_no_p_value():
    found = paired(A, A)
    assert (found.test.p, found.mean, found.ties, found.test.effect) == (None, 0, 12, 0)


def test_differences_below_rounding_are_ties():
    assert paired([0.1 + 0.2], [0.3]).ties == 1


@pytest.mark.parametrize(
    ("given", "adjusted"),
    [
        ([0.01, 0.04, 0.03, 0.005], [0.03, 0.06, 0.06, 0.02]),
        ([0.5, 0.001, 0.04], [0.5, 0.003, 0.08]),
        ([0.02, 0.02, 0.02], [0.06, 0.06, 0.06]),
        ([0.0048828125, 0.00048828125, 0.1318359375], [0.009765625, 0.00146484375, 0.1318359375]),
        ([], []),
    ],
)
def test_holm(given, adjusted):
    assert holm(given) == pytest.approx(adjusted)


def test_bootstrap_intervals_of_the_twelve_cases():
    assert interval(bootstrap(np.array(A))) == pytest.approx((0.800833, 0.892500), abs=1e-6)
    found = paired(C, A)
    assert (found.mean, found.low, found.high) == pytest.approx((0.031667, 0.021667, 0.042500), abs=1e-6)


def test_intervals_of_many_units_are_drawn_in_parts_with_the_same_numbers(monkeypatch):
    values = np.random.default_rng(1).normal(size=300)
    whole = bootstrap(values, draws=500)
    monkeypatch.setattr("nnunet_ext.evaluation.statistics._CHUNK", 900)
    assert np.array_equal(bootstrap(values, draws=500), whole)


def test_a_unit_without_a_value_drops_for_both():
    found = paired([0.5, np.nan, 0.7, 0.8], [0.6, 0.9, np.nan, 0.8])
    assert (found.units, found.left_out, found.wins, found.ties) == (2, 2, 1, 1)
    with pytest.raises(ValueError, match="no unit"):
        paired([np.nan], [1.0])
    with pytest.raises(ValueError, match="cannot be paired"):
        paired([1.0], [1.0, 2.0])


def test_the_direction_decides_wins_and_not_the_sign_of_the_difference():
    found = paired([4.0, 5.0, 6.0], [3.0, 5.0, 7.0], higher_is_better=False)
    assert (found.wins, found.ties, found.losses, found.mean) == (1, 1, 1, 0)


def test_effect_is_the_share_of_ranks_above_zero_minus_that_below():
    assert signed_rank([0.1, 0.2, 0.3]).effect == 1
    assert signed_rank([0.1, 0.2, -0.3]).effect == 0
    assert signed_rank(np.subtract(A, B)).effect == pytest.approx((66 - 2.5 - 2.5) / 66)


def test_ranks_of_the_twelve_cases_and_how_stable_the_first_is():
    each = ranks(np.array([A, B, C]).T)
    assert each.mean(axis=0) == pytest.approx([1.125, 2.291667, 2.583333], abs=1e-6)
    shares = rank_stability(each)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] > 0.99


def test_a_missing_value_ranks_last_whichever_way_is_better():
    for higher in (True, False):
        assert ranks(np.array([[0.5, np.nan, 0.4]]), higher)[0, 1] == 3
