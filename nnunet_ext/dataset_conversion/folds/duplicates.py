"""Cases that hold the same image, or nearly so, stay in one fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task


class Groups:
    """Sets of cases that must stay together; sets that share a case are one (union-find)."""

    def __init__(self, group_of: Mapping[str, str]) -> None:
        self._parent: dict[str, str] = {}
        self._group_of = dict(group_of)

    def merge(self, case: str, other: str) -> None:
        """Keep the groups of two cases together."""
        first, second = sorted((self._find(self._group_of[case]), self._find(self._group_of[other])))
        if first != second:
            self._parent[second] = first

    def _find(self, group: str) -> str:
        while group in self._parent:
            group = self._parent[group]
        return group

    def __getitem__(self, case: str) -> str:
        return self._find(self._group_of[case])


def group_duplicates(
    plan: Plan, tasks: Mapping[str, Task], results: Sequence[CaseResult]
) -> tuple[list[Finding], dict[str, str]]:
    """DUP03 and DUP04 for cases that hold the same or nearly the same image, and the groups after merging theirs.

    Of cases that share a group already nothing is said, except for pictures, where repetitions are looked for (info).
    """
    own = {result.case: (result.outputs[0] if result.outputs else "") for result in results}
    groups = Groups(plan.groups)
    first: dict[str, str] = {}
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    for result in results:
        for digest in result.digests:
            other = first.setdefault(digest, result.case)
            if digest and other != result.case:
                pairs[other, result.case] = "DUP03", "the same image"
    near = plan.destination.dataset.near_duplicates
    if near is not None:
        for left, right in close_pairs([result.fingerprint for result in results], near):
            pairs.setdefault((results[left].case, results[right].case), ("DUP04", "nearly the same image"))
    findings = []
    for (one, two), (code, what) in pairs.items():
        cases = tasks[one].case, tasks[two].case
        both = own[one] in plan.groups and own[two] in plan.groups
        known = both and plan.groups[own[one]] == plan.groups[own[two]]
        if known and near is None:
            continue
        tests = sum(case.split == "test" for case in cases)
        where = ("they stay in one fold", "one of them is a test case", "both are test cases")[tests]
        findings.append(
            Finding(
                code,
                f"{cases[0].name} and {cases[1].name} hold {what}{', as known' if known else ''}; {where}",
                cases[1].name,
                cases[1].all_files[0][1].shown,
                severity="info" if known or tests == 2 else "",
            )
        )
        if both:
            groups.merge(own[one], own[two])
    return findings, {identifier: groups[identifier] for identifier in plan.groups}


def close_pairs(hashes: Sequence[str], distance: int) -> list[tuple[int, int]]:
    """Positions of all pairs of hashes that differ in at most ``distance`` bits; empty hashes are like no other."""
    known = [(position, int(text, 16)) for position, text in enumerate(hashes) if text]
    return [
        (first, second)
        for (first, one), (second, two) in combinations(known, 2)
        if bin(one ^ two).count("1") <= distance
    ]
