"""Which files a case lacks: images and labels, numbered masks, slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.grammar import CaseFile, OtherEnding

# Slices and parts of one case that are missed one by one: a file may be named as the billionth slice.
_MAX_GAPS = 50
_FETCH_OR_REMOVE = "fetch the case again, or remove it"


#: Case in small letters, role and number -> a file of this name but for its ending.
OtherEndings = Mapping[tuple[str, str, int], OtherEnding]


def missing_files(
    dataset: Dataset,
    name: str,
    entries: Sequence[CaseFile],
    split: str,
    candidates: int,
    others: OtherEndings,
) -> list[Finding]:
    """Findings NAM01 and SLC01 for what a case should have and has not; none for a whole case.

    Args:
        dataset: what its cases consist of.
        name: of the case.
        entries: its files, at least one.
        split: ``"train"`` or ``"test"``; a test case needs no label.
        candidates: number of files under odd names that could be its label, for the message.
        others: files that no grammar knows for their endings alone.
    """
    wanted = [image.role for image in dataset.images] + ([dataset.label] if split == "train" else [])
    numbers = sorted({entry.number for entry in entries if entry.stacked})
    if numbers:
        return _missing_slices(dataset, name, entries, wanted, numbers, others)
    have = {entry.role for entry in entries}
    lacking = [dataset.role_name(role) for role in wanted if role not in have]
    if not lacking:
        return _missing_parts(dataset, name, entries, others)
    if have == {dataset.label}:
        message, file = f"{name}: {dataset.label} without image", entries[0].file.shown
    else:
        which = f" ({candidates} candidates)" if candidates else ""
        message, file = f"{name} lacks {', '.join(lacking)}{which}", folder_of(entries[0].file)
    there = [other for role in wanted if role not in have for other in _others(others, name, role, -1)]
    return [_lacking("NAM01", message, name, file, there)]


def _others(others: OtherEndings, name: str, role: str, number: int) -> list[OtherEnding]:
    found = others.get((name.casefold(), role, number))
    return [found] if found else []


def _lacking(code: str, message: str, name: str, file: str, there: Sequence[OtherEnding]) -> Finding:
    """The finding, which names the first file that lies there under another ending."""
    if not there:
        return Finding(code, message, name, file, _FETCH_OR_REMOVE)
    first = there[0]
    more = f" (and {len(there) - 1} more)" if len(there) > 1 else ""
    return Finding(
        code,
        f"{message}; {first.file.name} lies there under another ending{more}",
        name,
        first.file.shown,
        f"convert it to {first.expected}, rename it if it is that, or remove the case",
    )


def _missing_parts(dataset: Dataset, name: str, entries: Sequence[CaseFile], others: OtherEndings) -> list[Finding]:
    """Several masks of one case: the first has no number, the others run from 1 without gaps."""
    have = {entry.number for entry in entries if entry.role == dataset.label}
    if not have:
        return []
    last = max(*have, 0)
    while _others(others, name, dataset.label, last + 1):
        last += 1
    expected = chain((-1,), range(1, last + 1))
    lacking = islice((number for number in expected if number not in have), _MAX_GAPS)
    return [
        _lacking(
            "NAM01",
            f"{name} lacks {dataset.label}{f' {number}' if number > 0 else ''}, but has {dataset.label} {max(have)}",
            name,
            folder_of(entries[0].file),
            _others(others, name, dataset.label, number),
        )
        for number in lacking
    ]


def _missing_slices(
    dataset: Dataset,
    name: str,
    entries: Sequence[CaseFile],
    wanted: Sequence[str],
    numbers: Sequence[int],
    others: OtherEndings,
) -> list[Finding]:
    """Slices run from 1 to the last without gaps, each with all its files."""
    have = {(entry.role, entry.number) for entry in entries}
    file = folder_of(entries[0].file)
    found: list[Finding] = []
    last = numbers[-1]
    while any(_others(others, name, role, last + 1) for role in wanted):
        last += 1
    for number in range(1, last + 1):
        if len(found) == _MAX_GAPS:
            message = f"{name} has a slice {last} and lacks more below it"
            found.append(Finding("SLC01", message, name, file, _FETCH_OR_REMOVE))
            break
        lacking = [dataset.role_name(role) for role in wanted if (role, number) not in have]
        there = [o for role in wanted if (role, number) not in have for o in _others(others, name, role, number)]
        if len(lacking) == len(wanted):
            found.append(_lacking("SLC01", f"{name} slice {number} missing", name, file, there))
        elif lacking:
            message = f"{name} slice {number} lacks {', '.join(lacking)}"
            found.append(_lacking("NAM01", message, name, file, there))
    if numbers[0] < 1:
        found.append(Finding("SLC01", f"{name} has a slice {numbers[0]}; slices are numbered from 1", name, file))
    return found


def folder_of(file: SourceFile) -> str:
    """The folder of a file as messages show it; the file itself where it lies in none."""
    return file.shown.removesuffix(file.name).rstrip("/") or file.shown
