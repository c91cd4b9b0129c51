"""Folders of test cases, which nothing but the lack of any label tells from training cases."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.grammar import CaseFile, Root


def trees_without_labels(
    dataset: Dataset, entries: Mapping[str, Sequence[CaseFile]], labelled: Collection[str]
) -> dict[Root, dict[str, CaseFile]]:
    """Folders that hold test cases although no name says so.

    A folder counts as one if no case in it has a label, if cases with labels lie elsewhere, neither above nor below it,
    and if its dataset is published with test cases whose names do not tell them from training cases. Everywhere else a
    missing label is a mistake of the download. Example: of ``training/`` with labels and ``validation/`` without any,
    ``validation/`` is a folder of test cases; a single case without a label in ``training/`` is an error.

    Args:
        dataset: which it is.
        entries: the files by case.
        labelled: cases whose label was found under a name that the grammar does not know.

    Returns:
        Folder -> its cases, each with one of its files.
    """
    if dataset.official_split is not None:  # it names the test cases, so that folders tell nothing
        return {}
    if not dataset.test_cases or any(pattern.split == "test" for pattern in dataset.patterns):
        return {}
    trees: dict[Root, dict[str, CaseFile]] = {}
    known: set[Root] = set()
    for case, found in entries.items():
        own = {_tree(dataset, entry): entry for entry in found}
        for tree, entry in own.items():
            trees.setdefault(tree, {})[case] = entry
        if case in labelled or any(entry.role == dataset.label for entry in found):
            known |= set(own)
    if not known:
        return {}
    return {
        tree: cases
        for tree, cases in trees.items()
        if not any(_contains(tree, other) or _contains(other, tree) for other in known)
        and not (len(cases) == 1 and _is_one_case(dataset, next(iter(cases.values()))))
        and not any(_is_graded(dataset, entry) for entry in cases.values())
    }


def _contains(outer: Root, inner: Root) -> bool:
    return outer[0] == inner[0] and (not outer[1] or f"{inner[1]}/".startswith(f"{outer[1]}/"))


def _tree(dataset: Dataset, entry: CaseFile) -> Root:
    """The root, or what is above it where the root is one stratum or one case (a folder or an archive of its own)."""
    source, folder = entry.root
    parts = folder.split("/") if folder else []
    strata = {name.casefold() for name in dataset.strata_folders}
    while parts and (parts[-1].casefold() in strata or _names_case(dataset, parts[-1])):
        parts.pop()
    return source, "/".join(parts)


def _names_case(dataset: Dataset, part: str) -> bool:
    return re.fullmatch(dataset.case_name, part.partition(".")[0], re.IGNORECASE) is not None


def _is_graded(dataset: Dataset, entry: CaseFile) -> bool:
    """Whether a folder above the file, perhaps the source itself, names a stratum: test data are not sorted by it."""
    strata = {name.casefold() for name in dataset.strata_folders}
    return any(part.casefold() in strata for part in Path(entry.file.location).parts[:-1])


def _is_one_case(dataset: Dataset, entry: CaseFile) -> bool:
    """Whether the source itself is the folder or the archive of one case."""
    outermost = entry.file.folder.partition("/")[0]
    if not outermost:
        outermost = Path(entry.file.location).parent.name
    elif not outermost.endswith("!"):
        return False
    return _names_case(dataset, outermost)
