"""Which files a case lacks: images and labels, numbered masks, slices."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.layout import CaseFile

# Slices and parts of one case that are missed one by one: a file may be named as the billionth slice.
_MAX_GAPS = 50
_FETCH_OR_REMOVE = "fetch the case again, or remove it"


def missing_files(
    dataset: Dataset, name: str, entries: Sequence[CaseFile], split: str, candidates: int
) -> list[Finding]:
    """Findings NAM01 and SLC01 for what a case should have and has not; none for a whole case.

    Args:
        dataset: what its cases consist of.
        name: of the case.
        entries: its files, at least one.
        split: ``"train"`` or ``"test"``; a test case needs no label.
        candidates: number of files under odd names that could be its label, for the message.
    """
    wanted = [image.role for image in dataset.images] + ([dataset.label] if split == "train" else [])
    numbers = sorted({entry.number for entry in entries if entry.stacked})
    if numbers:
        return _missing_slices(dataset, name, entries, wanted, numbers)
    have = {entry.role for entry in entries}
    lacking = [dataset.role_name(role) for role in wanted if role not in have]
    if not lacking:
        return _missing_parts(dataset, name, entries)
    if have == {dataset.label}:
        return [Finding("NAM01", f"{name}: {dataset.label} without image", name, entries[0].file.shown)]
    which = f" ({candidates} candidates)" if candidates else ""
    return [
        Finding(
            "NAM01",
            f"{name} lacks {', '.join(lacking)}{which}",
            name,
            folder_of(entries[0].file),
            _FETCH_OR_REMOVE,
        )
    ]


def _missing_parts(dataset: Dataset, name: str, entries: Sequence[CaseFile]) -> list[Finding]:
    """Several masks of one case: the first has no number, the others run from 1 without gaps."""
    have = {entry.number for entry in entries if entry.role == dataset.label}
    if not have:
        return []
    expected = chain((-1,), range(1, max(have) + 1))
    lacking = islice((number for number in expected if number not in have), _MAX_GAPS)
    return [
        Finding(
            "NAM01",
            f"{name} lacks {dataset.label}{f' {number}' if number > 0 else ''}, but has {dataset.label} {max(have)}",
            name,
            folder_of(entries[0].file),
            _FETCH_OR_REMOVE,
        )
        for number in lacking
    ]


def _missing_slices(
    dataset: Dataset, name: str, entries: Sequence[CaseFile], wanted: Sequence[str], numbers: Sequence[int]
) -> list[Finding]:
    """Slices run from 1 to the last without gaps, each with all its files."""
    have = {(entry.role, entry.number) for entry in entries}
    file = folder_of(entries[0].file)
    found: list[Finding] = []
    for number in range(1, numbers[-1] + 1):
        if len(found) == _MAX_GAPS:
            message = f"{name} has a slice {numbers[-1]} and lacks more below it"
            found.append(Finding("SLC01", message, name, file, _FETCH_OR_REMOVE))
            break
        lacking = [dataset.role_name(role) for role in wanted if (role, number) not in have]
        if len(lacking) == len(wanted):
            found.append(Finding("SLC01", f"{name} slice {number} missing", name, file, _FETCH_OR_REMOVE))
        elif lacking:
            message = f"{name} slice {number} lacks {', '.join(lacking)}"
            found.append(Finding("NAM01", message, name, file, _FETCH_OR_REMOVE))
    if numbers[0] < 1:
        found.append(Finding("SLC01", f"{name} has a slice {numbers[0]}; slices are numbered from 1", name, file))
    return found


def folder_of(file: SourceFile) -> str:
    """The folder of a file as messages show it; the file itself where it lies in none."""
    return file.shown.removesuffix(file.name).rstrip("/") or file.shown
