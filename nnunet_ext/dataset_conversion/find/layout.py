"""Which dataset is this? Decided by the names of files, never by the names of folders."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.grammar import (
    CaseFile,
    Root,
    compiled,
    patterns_of,
    read_name,
    under_other_endings,
)
from nnunet_ext.dataset_conversion.find.sources import Index
from nnunet_ext.errors import UserError

#: Levels of folders that a download may have beyond those of its usual tree.
EXTRA_LEVELS = 4


@dataclass
class Matched:
    """The files of a source as one grammar sees them."""

    dataset: Dataset
    cases: dict[str, list[CaseFile]] = field(default_factory=dict)
    tables: list[SourceFile] = field(default_factory=list)
    sizes: list[SourceFile] = field(default_factory=list)
    unknown: list[SourceFile] = field(default_factory=list)
    too_deep: list[str] = field(default_factory=list)

    @property
    def complete(self) -> list[str]:
        """Cases with all their images."""
        wanted = {image.role for image in self.dataset.images}
        return [case for case, entries in self.cases.items() if wanted <= {entry.role for entry in entries}]

    @property
    def labelled(self) -> list[str]:
        """Cases with a label."""
        label = self.dataset.label
        return [case for case, entries in self.cases.items() if any(entry.role == label for entry in entries)]

    @property
    def explained(self) -> frozenset[tuple[int, str]]:
        """All files of cases: number of the source and path."""
        return frozenset((entry.file.source, entry.file.path) for entries in self.cases.values() for entry in entries)


def match(dataset: Dataset, files: Iterable[SourceFile]) -> Matched:
    """Sort files into cases, tables and unknown ones by a dataset's grammar."""
    matched = Matched(dataset)
    patterns = patterns_of(dataset)
    known = [compiled(extra) for extra in dataset.extras]
    tables = [compiled(table.name) for table in dataset.tables]
    for file in files:
        parts = file.path.replace("!/", "/").split("/")
        entry = read_name(file, parts, patterns)
        if entry is not None:
            if depth_of(file) > dataset.depth + EXTRA_LEVELS:
                matched.too_deep.append(file.folder)
            else:
                matched.cases.setdefault(entry.case, []).append(entry)
        elif dataset.sizes and compiled(dataset.sizes).fullmatch(file.name):
            matched.sizes.append(file)
        elif any(table.fullmatch(as_csv(file.name)) for table in tables):
            matched.tables.append(file)
        elif not any(extra.fullmatch(file.name) for extra in known):
            matched.unknown.append(file)
    _set_roots(matched)
    return matched


def as_csv(name: str) -> str:
    """The name that a table would have if a spreadsheet were exported."""
    return re.sub(r"\.xlsx?$", ".csv", name, flags=re.IGNORECASE)


def depth_of(file: SourceFile) -> int:
    """Number of folders above a file; archives do not count."""
    return sum(not part.endswith("!") for part in file.path.split("/")[:-1])


def _set_roots(matched: Matched) -> None:
    """Set the root of every file: its folder, or the folder above that where its folder holds a single case."""
    cases_of: dict[Root, set[str]] = {}
    for case, entries in matched.cases.items():
        for entry in entries:
            cases_of.setdefault((entry.file.source, entry.file.folder), set()).add(case)
    for case, entries in matched.cases.items():
        matched.cases[case] = [
            replace(entry, root=(entry.file.source, _root(entry.file.folder, cases_of, entry.file.source)))
            for entry in entries
        ]


def _root(folder: str, cases_of: dict[Root, set[str]], source: int) -> str:
    alone = len(cases_of[source, folder]) == 1
    return folder.rpartition("/")[0] if alone and not folder.endswith("!") else folder


def find(dataset: Dataset, index: Index, shown: str, others: Sequence[Dataset]) -> Matched:
    """The cases of a named dataset.

    Args:
        dataset: the dataset that the user named.
        index: the files.
        shown: the sources, for messages.
        others: all other known datasets, to say which of them it looks like.

    Raises:
        UserError: LAY01 if there is no file of a case at all.
    """
    matched = match(dataset, index.files)
    if matched.cases:
        return matched
    for other in others:
        if match(other, index.files).complete:
            raise UserError(
                f"this looks like {other.name}, not {dataset.name}",
                file=shown,
                remedy=f"nnunet_ext convert {other.name}",
                code="LAY01",
            )
    raise _no_layout([dataset], index, shown)


def detect(datasets: Sequence[Dataset], index: Index, shown: str) -> Matched:
    """The dataset that explains the files best.

    Of two datasets with complete cases, one explains more than the other if it takes every file that the other takes
    and some besides: a mask, for example, that the other leaves over. Where both take the same files, the one that sees
    more cases with labels explains more, and then the one that leaves fewer other files unexplained. Two datasets in
    one source take files that the other leaves over, each of them, and so none is better.

    Raises:
        UserError: LAY02 if no dataset explains more than all others, LAY01 if none has complete cases.
    """
    candidates = [match(dataset, index.files) for dataset in datasets]
    complete = [matched for matched in candidates if matched.complete]
    if not complete:
        raise _no_layout(datasets, index, shown)
    for matched in complete:
        if all(_explains_more(matched, other) for other in complete if other is not matched):
            return matched
    names = " and ".join(matched.dataset.name for matched in complete)
    raise UserError(f"{names} both match", file=shown, remedy="name one of them instead of auto", code="LAY02")


def _explains_more(one: Matched, other: Matched) -> bool:
    """Whether one grammar explains the files better than another, as ``detect`` tells."""
    if one.explained != other.explained:
        return one.explained > other.explained
    if len(one.labelled) != len(other.labelled):
        return len(one.labelled) > len(other.labelled)
    return len(one.unknown) < len(other.unknown)


def _no_layout(datasets: Sequence[Dataset], index: Index, shown: str) -> UserError:
    """LAY01 with the nearest grammars and what each of them misses."""
    deep = [*index.too_deep, *(folder for dataset in datasets for folder in match(dataset, index.files).too_deep)]
    nearest = sorted((match(dataset, index.files) for dataset in datasets), key=lambda m: -len(m.cases))[:3]
    reasons = [reason for matched in nearest if (reason := _what_is_missing(matched))]
    what = f"no known layout in {len(index.files)} files"
    if reasons:
        what += "; nearest: " + "; ".join(reasons)
    if deep:
        remedy = f"folders are nested too deep: give {deep[0]} or a folder just above it"
    elif len(datasets) == 1:
        remedy = f"expected {datasets[0].layout}"
    else:
        remedy = "'nnunet_ext info NAME' shows the expected names"
    others = (other for dataset in datasets for other in under_other_endings(dataset, index.files).values())
    if not reasons and (other := next(others, None)) is not None:
        what += f"; {other.file.shown} has another ending than {other.expected}"
    return UserError(what, file=shown, remedy=remedy, code="LAY01")


def _what_is_missing(matched: Matched) -> str:
    if not matched.cases:
        return ""
    have = {entry.role for entries in matched.cases.values() for entry in entries}
    missing = [matched.dataset.role_name(image.role) for image in matched.dataset.images if image.role not in have]
    return f"{matched.dataset.name} ({len(matched.cases)} cases, none with {', '.join(missing) or 'all images'})"
