"""Folds are the same wherever they are made."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from nnunet_ext.dataset_conversion.folds.stratified import stratified_group_folds


def slow_twin(strata: list[str], groups: list[int], folds: int, seed: int) -> list[list[int]]:
    """The rule once more, with counters and loops."""
    names, numbers = sorted(set(strata)), sorted(set(groups))
    members = {g: Counter(s for s, other in zip(strata, groups, strict=True) if other == g) for g in numbers}
    totals = Counter(strata)
    order = list(range(len(numbers)))
    np.random.RandomState(seed).shuffle(order)
    shuffled = [numbers[place] for place in order]
    shuffled.sort(
        key=lambda g: -float(np.std([members[g][name] for name in names]))
    )  # sorting keeps the order of equals
    divided: list[Counter[str]] = [Counter() for _ in range(folds)]
    fold_of = {}
    for g in shuffled:
        scores = []
        for fold in range(folds):
            trial = [divided[other] + members[g] if other == fold else divided[other] for other in range(folds)]
            shares = [[part[name] / totals[name] for part in trial] for name in names]
            scores.append(float(np.mean([np.std(share) for share in shares])))
        best = 0
        for fold in range(1, folds):
            fewer = divided[fold].total() < divided[best].total()
            if scores[fold] < scores[best] or (np.isclose(scores[fold], scores[best]) and fewer):
                best = fold
        divided[best] += members[g]
        fold_of[g] = best
    return [[case for case, g in enumerate(groups) if fold_of[g] == fold] for fold in range(folds)]


@pytest.mark.parametrize("seed", range(12))
def test_the_rule_is_the_one_that_its_docstring_tells(seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, kinds, folds = int(rng.integers(10, 60)), int(rng.integers(1, 7)), int(rng.integers(2, 7))
    groups = [int(group) for group in np.sort(rng.integers(0, cases, cases))]
    folds = min(folds, len(set(groups)))
    strata = [f"s{kind}" for kind in rng.integers(0, kinds, cases)]
    assert stratified_group_folds(strata, groups, folds, seed) == slow_twin(strata, groups, folds, seed)


def test_every_case_of_a_group_is_in_one_fold_and_every_case_in_one() -> None:
    groups = [0, 1, 1, 2, 3, 3, 3, 4, 5, 6]
    divided = stratified_group_folds(["a", "b"] * 5, groups, 3, 7)
    assert sorted(case for fold in divided for case in fold) == list(range(10))
    for group in set(groups):
        assert len({number for number, fold in enumerate(divided) for case in fold if groups[case] == group}) == 1
