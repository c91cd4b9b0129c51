"""Cases that hold the same image, or nearly so, stay in one fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task


def merged_groups(group_of: Mapping[str, str], together: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Groups after those of some pairs of cases have become one, which bears the first of their names.

    Args:
        group_of: case -> group.
        together: pairs of cases that must stay together.
    """
    from scipy.cluster.hierarchy import DisjointSet  # takes a while to import

    groups = DisjointSet(group_of.values())
    for case, other in together:
        groups.merge(group_of[case], group_of[other])
    name_of = {group: min(members) for members in groups.subsets() for group in members}
    return {case: name_of[group] for case, group in group_of.items()}


def group_duplicates(
    plan: Plan, tasks: Mapping[str, Task], results: Sequence[CaseResult]
) -> tuple[list[Finding], dict[str, str]]:
    """Find cases that hold the same image (DUP03) or nearly the same one (DUP04), and keep them in one group.

    Of cases that are in one group already nothing is said, unless the dataset is searched for near duplicates: then
    each known repetition is an info.

    Returns:
        The findings, and identifier of nnU-Net -> group, after groups that hold the same image have become one.
    """
    own = {result.case: (result.outputs[0] if result.outputs else "") for result in results}
    together = []
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
            together.append((own[one], own[two]))
    return findings, merged_groups(plan.groups, together) if together else dict(plan.groups)


def close_pairs(hashes: Sequence[str], distance: int) -> list[tuple[int, int]]:
    """Positions of all pairs of hashes that differ in at most ``distance`` bits; empty hashes are like no other."""
    known = [(position, int(text, 16)) for position, text in enumerate(hashes) if text]
    return [
        (first, second)
        for (first, one), (second, two) in combinations(known, 2)
        if bin(one ^ two).count("1") <= distance
    ]
