"""Cases from files: labels under odd names are found, and what is odd or missing is reported."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from nnunet_ext.dataset_conversion.case import Case, SourceFile, clean_id, natural_key
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.grammar import CaseFile, Root, under_other_endings
from nnunet_ext.dataset_conversion.find.layout import Matched, depth_of
from nnunet_ext.dataset_conversion.find.missing import folder_of, missing_files
from nnunet_ext.dataset_conversion.find.repetitions import settle
from nnunet_ext.dataset_conversion.find.trees import trees_without_labels


@dataclass
class Assembled:
    """Cases in natural order, what was noticed, and the files that no grammar knows."""

    cases: list[Case]
    findings: list[Finding] = field(default_factory=list)
    unknown: list[SourceFile] = field(default_factory=list)


def assemble(matched: Matched, closed_archives: frozenset[str] = frozenset()) -> Assembled:
    """Build the cases of a dataset.

    Args:
        matched: its files.
        closed_archives: archives whose members cannot be compared yet (dry run).
    """
    findings: list[Finding] = []
    entries = settle(matched, closed_archives, findings)
    unknown = list(matched.unknown)
    _check_nesting(matched.dataset, entries, findings)
    fallbacks, candidates = _fallback_labels(matched, entries, unknown)
    without_labels = trees_without_labels(matched.dataset, entries, fallbacks)
    _note_test_cases(without_labels, findings)
    predicted = {name for cases in without_labels.values() for name in cases}
    predicted |= _published_test_cases(matched.dataset, entries)
    others = under_other_endings(matched.dataset, unknown)
    cases = []
    for name in sorted(entries, key=natural_key):
        found = entries[name] + ([fallbacks[name]] if name in fallbacks else [])
        split = "test" if found[0].split == "test" or name in predicted else "train"
        missing = missing_files(matched.dataset, name, found, split, candidates.get(name, 0), others)
        findings += missing
        if name in fallbacks:
            findings.append(_odd_label(matched.dataset, name, fallbacks[name].file))
        if not missing:
            cases.append(_case(matched.dataset, name, found, split))
    _check_equal_ids(cases, findings)
    return Assembled(cases, findings, unknown)


def _published_test_cases(dataset: Dataset, entries: Mapping[str, list[CaseFile]]) -> set[str]:
    """Cases without a label that are test cases of the publisher's split, where not every copy has their labels."""
    if dataset.official_split is None or not dataset.test_cases:
        return set()
    test = {name.casefold() for name, split in dataset.official_split().items() if split == "test"}
    unlabelled = (name for name, own in entries.items() if dataset.label not in {entry.role for entry in own})
    return {name for name in unlabelled if name.casefold() in test}


# --- nesting -----------------------------------------------------------------------------------------------------


def _check_nesting(dataset: Dataset, cases: Mapping[str, list[CaseFile]], findings: list[Finding]) -> None:
    deepest: dict[Root, int] = defaultdict(int)
    for entries in cases.values():
        for entry in entries:
            deepest[entry.root] = max(deepest[entry.root], depth_of(entry.file))
    for (_, root), depth in sorted(deepest.items()):
        parts = [part for part in root.split("/") if part and not part.endswith("!")]
        doubled = [part for part, after in pairwise(parts) if part == after]
        if doubled:
            findings.append(Finding("LAY03", f"folder {doubled[0]} contains itself; the inner one is used", file=root))
        elif depth > dataset.depth:
            findings.append(Finding("LAY03", f"{root} lies deeper than in the published tree", file=root))
    named = re.compile(dataset.case_name, re.IGNORECASE)
    told: set[str] = set()
    for name, entries in sorted(cases.items()):
        for entry in entries:
            folder = entry.file.folder.rsplit("/", 1)[-1]
            if named.fullmatch(folder) and folder != name and entry.file.folder not in told:
                told.add(entry.file.folder)
                findings.append(
                    Finding(
                        "NAM05", f"folder {folder} holds files of {name}; their names count", name, entry.file.shown
                    )
                )


# --- roles -------------------------------------------------------------------------------------------------------


def _fallback_labels(
    matched: Matched, entries: Mapping[str, list[CaseFile]], unknown: list[SourceFile]
) -> tuple[dict[str, CaseFile], dict[str, int]]:
    """Labels under a name that the grammar does not know.

    A training case that has all images but no label gets the unknown file of its own folder that could be one, if there
    is exactly one such file.

    Returns:
        Case -> its label, which leaves ``unknown``; and case -> number of candidates where there are several.
    """
    dataset = matched.dataset
    patterns = [re.compile(pattern.regex, re.IGNORECASE) for pattern in dataset.patterns if pattern.fallback]
    images = {image.role for image in dataset.images}
    found: dict[str, CaseFile] = {}
    several: dict[str, int] = {}
    by_folder: dict[Root, list[SourceFile]] = defaultdict(list)
    for file in unknown:
        if any(pattern.fullmatch(file.name) for pattern in patterns):
            by_folder[file.source, file.folder].append(file)
    for name, own in entries.items():
        roles = {entry.role for entry in own}
        folders = {(entry.file.source, entry.file.folder) for entry in own}
        if dataset.label in roles or not images <= roles or own[0].split == "test":
            continue
        if len(folders) > 1 or own[0].root in folders:  # no folder of its own
            continue
        candidates = by_folder[folders.pop()]
        if len(candidates) == 1:
            found[name] = replace(own[0], file=candidates[0], role=dataset.label)
            unknown.remove(candidates[0])
        elif candidates:
            several[name] = len(candidates)
    return found, several


def _odd_label(dataset: Dataset, name: str, file: SourceFile) -> Finding:
    published = any(
        pattern.published and re.fullmatch(pattern.regex, file.name, re.IGNORECASE) for pattern in dataset.patterns
    )
    return Finding(
        "NAM03",
        f"{name}: {file.name} is taken as {dataset.label}",
        name,
        file.shown,
        "" if published else f"make sure that this is the {dataset.label} of the case",
        "info" if published else "warning",
    )


def _note_test_cases(trees: Mapping[Root, Mapping[str, CaseFile]], findings: list[Finding]) -> None:
    for (_, tree), cases in sorted(trees.items()):
        first = cases[min(cases, key=natural_key)]
        where = f" below {tree}" if tree else ""
        findings.append(
            Finding(
                "NAM06",
                f"cases without any label{where} are taken as test cases: {len(cases)}",
                file=folder_of(first.file),
                remedy="if they are training cases, give their labels as well",
            )
        )


# --- cases -------------------------------------------------------------------------------------------------------


def _case(dataset: Dataset, name: str, entries: Sequence[CaseFile], split: str) -> Case:
    roles = [image.role for image in dataset.images] + [dataset.label]
    files = {}
    for role in roles:
        of_role = sorted((entry for entry in entries if entry.role == role), key=lambda entry: entry.number)
        if of_role:
            files[role] = tuple(entry.file for entry in of_role)
    make_id: Callable[[str], str] = dataset.case_id or clean_id
    first = entries[0]
    folders = first.file.folder.casefold().split("/")
    stratum = first.stratum or next((name for name in dataset.strata_folders if name.casefold() in folders), None)
    numbers = tuple(sorted({entry.number for entry in entries if entry.stacked}))
    return Case(make_id(name), name, split, files, first.group or name, stratum, numbers=numbers)


def _check_equal_ids(cases: Sequence[Case], findings: list[Finding]) -> None:
    # Without regard to case: on some file systems two such files would be one.
    names: dict[str, str] = {}
    for case in cases:
        other = names.setdefault(case.id.casefold(), case.name)
        if other != case.name:
            findings.append(
                Finding(
                    "NAM04",
                    f"two cases become {case.id}: {other} and {case.name}",
                    case.name,
                    case.all_files[0][1].shown,
                    "rename or remove one of them",
                )
            )
