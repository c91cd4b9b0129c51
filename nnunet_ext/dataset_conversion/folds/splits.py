"""Folds that divide no patient, in equal shares of each stratum.

Where there are no patients and no strata to look after, these are nnU-Net's own folds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.folds.stratified import stratified_group_folds
from nnunet_ext.dataset_conversion.options import SEED
from nnunet_ext.errors import UserError

Fold = dict[str, list[str]]
_UNKNOWN = "unknown"


@dataclass(frozen=True)
class Splits:
    """Folds in nnU-Net's form, and the rule by which they were made, in words."""

    folds: list[Fold]
    rule: str


def make_splits(
    group_of: Mapping[str, str], stratum_of: Mapping[str, str | None], folds: int, seed: int = SEED
) -> tuple[Splits, list[Finding]]:
    """Cross-validation folds over the sorted cases.

    Args:
        group_of: case -> group.
        stratum_of: case -> stratum; None if unknown. A group whose cases belong to several has none.
        folds: how many.
        seed: of the shuffle; nnU-Net's own by default.

    Returns:
        The folds, and SPL03 for each stratum with fewer members than folds.

    Raises:
        UserError: SPL01 if there are fewer groups than folds.
    """
    cases = sorted(group_of)
    stratum_of = _unmixed(group_of, stratum_of)
    number = check_number(group_of, folds)
    # Groups by the order in which they appear, so that their names do not matter.
    ranks: dict[str, int] = {}
    groups = [ranks.setdefault(group_of[case], len(ranks)) for case in cases]
    strata, findings = _strata([stratum_of.get(case) for case in cases], groups, folds)
    if number == len(cases) and len(set(strata)) == 1:
        rule = f"nnU-Net's own: KFold({folds}, shuffle, seed {seed}) over sorted cases"
        return Splits(_folds(cases, _nnunet_validation(len(cases), folds, seed)), rule), findings
    divided = stratified_group_folds(strata, groups, folds, seed)
    what = f"{number} groups"
    if len(set(strata)) > 1:
        if _uneven(divided, groups):
            # Equal shares of the strata are worth less than folds of equal size.
            divided = stratified_group_folds(["all"] * len(cases), groups, folds, seed)
            what += f", not stratified: shares of {len(set(strata))} strata would make folds of unequal size"
        else:
            what += f", {len(set(strata))} strata"
    rule = f"StratifiedGroupKFold({folds}, shuffle, seed {seed}) over sorted cases, {what}"
    return Splits(_folds(cases, divided), rule), findings


def _unmixed(group_of: Mapping[str, str], stratum_of: Mapping[str, str | None]) -> dict[str, str | None]:
    strata: dict[str, set[str]] = {}
    for case, group in group_of.items():
        strata.setdefault(group, set()).update({stratum_of.get(case) or ""} - {""})
    return {case: stratum_of.get(case) if len(strata[group]) == 1 else None for case, group in group_of.items()}


def check_number(group_of: Mapping[str, str], folds: int) -> int:
    """The number of groups.

    Raises:
        UserError: SPL01 if there are fewer than folds.
    """
    number = len(set(group_of.values()))
    if number < folds:
        remedy = f"--splits {number}, or --splits 0 for none" if number > 1 else "--splits 0 writes no folds"
        raise UserError(f"{number} groups cannot make {folds} folds", remedy=remedy, code="SPL01")
    return number


def _nnunet_validation(cases: int, folds: int, seed: int) -> list[list[int]]:
    """What scikit-learn's KFold with shuffle gives, as nnU-Net uses it; importing that library takes two seconds."""
    order = np.arange(cases)
    np.random.RandomState(seed).shuffle(order)
    return [sorted(part.tolist()) for part in np.array_split(order, folds)]


def _uneven(divided: Sequence[Sequence[int]], groups: Sequence[int]) -> bool:
    """Whether fold sizes differ by more than the largest group, which no division by size alone would do."""
    sizes = [len(part) for part in divided]
    return max(sizes) - min(sizes) > max(Counter(groups).values())


def _folds(cases: Sequence[str], divided: Sequence[Sequence[int]]) -> list[Fold]:
    validation = [set(part) for part in divided]
    return [
        {
            "train": [case for number, case in enumerate(cases) if number not in part],
            "val": [case for number, case in enumerate(cases) if number in part],
        }
        for part in validation
    ]


def _strata(given: Sequence[str | None], groups: Sequence[int], folds: int) -> tuple[list[str], list[Finding]]:
    """Strata by case, all one where none is large enough, and SPL03 for those with fewer groups than folds."""
    strata = [stratum or _UNKNOWN for stratum in given]
    counts = Counter(stratum for stratum, _ in set(zip(strata, groups, strict=True)))
    findings = [
        Finding("SPL03", f"stratum {stratum} has {count} groups for {folds} folds")
        for stratum, count in sorted(counts.items())
        if count < folds and len(counts) > 1 and stratum != _UNKNOWN
    ]
    if max(Counter(strata).values()) < folds:
        return ["all"] * len(strata), findings
    return strata, findings
