"""Folds of whole groups with the strata in equal shares: the same cases give the same folds, on any machine and with
any release of any library.

The rule is that of scikit-learn's ``StratifiedGroupKFold`` with shuffle as its release 1.9.1 has it. Earlier releases
divide otherwise (1.7.2 shuffles the sizes of the groups, but not the groups), which is why the rule is written here.
Where two folds serve equally well, rounding decides: sums are NumPy's, in its own order, and the random generator is
``RandomState``, whose numbers NumPy has promised to keep. ``tests/golden/folds.json`` holds what must come out.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def stratified_group_folds(strata: Sequence[str], groups: Sequence[int], folds: int, seed: int) -> list[list[int]]:
    """The validation cases of each fold, as positions in the lists given, ascending.

    Groups are shuffled, and those that hold their strata least evenly go first. Each goes into the fold with which the
    strata are then divided most evenly: for every stratum the standard deviation, over the folds, of the shares that
    the folds have of it, and of these the mean over the strata. Between folds that do equally well, the one with fewer
    cases is taken.

    Args:
        strata: of each case.
        groups: of each case.
        folds: how many; at most the number of groups.
        seed: of the shuffle.
    """
    stratum_names, stratum_of = np.unique(np.asarray(strata), return_inverse=True)
    group_numbers, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(group_numbers), len(stratum_names)))
    np.add.at(counts, (group_of, stratum_of), 1)
    totals = counts.sum(axis=0)

    order = np.arange(len(group_numbers))
    np.random.RandomState(seed).shuffle(order)
    order = order[np.argsort(-counts[order].std(axis=1), kind="stable")]

    divided = np.zeros((folds, len(stratum_names)))
    fold_of = np.empty(len(group_numbers), int)
    for group in order:
        fold = _best_fold(divided, counts[group], totals)
        divided[fold] += counts[group]
        fold_of[group] = fold
    fold_of_case = fold_of[group_of]
    return [np.flatnonzero(fold_of_case == fold).tolist() for fold in range(folds)]


def _best_fold(divided: np.ndarray, added: np.ndarray, totals: np.ndarray) -> int:
    """The fold to which a group goes.

    Args:
        divided: cases of each fold and stratum so far, (folds, strata).
        added: cases of the group in each stratum.
        totals: cases of each stratum in all.
    """
    best, least_uneven, fewest = 0, np.inf, np.inf
    for fold in range(len(divided)):
        trial = divided.copy()
        trial[fold] += added
        uneven = (trial / totals).std(axis=0).mean()
        cases = divided[fold].sum()
        if uneven < least_uneven or (np.isclose(uneven, least_uneven) and cases < fewest):
            best, least_uneven, fewest = fold, uneven, cases
    return best
