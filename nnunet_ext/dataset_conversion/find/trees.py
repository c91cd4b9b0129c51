"""Which parts of a source hold cases that can only be predicted?"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.layout import Place, Root


def trees_without_labels(
    dataset: Dataset, places: Mapping[str, Sequence[Place]], labelled: Collection[str]
) -> dict[Root, dict[str, Place]]:
    """Parts of the sources that are a set of test cases though no name says so.

    Such a part holds no label at all, lies neither above nor below cases that have labels, and there are such cases. A
    dataset for which no test cases are published has none, and where names tell test cases apart, they alone count. In
    all other places a missing label is a mistake of the download.

    Args:
        dataset: which it is.
        places: the files by case.
        labelled: cases whose label was found under an odd name.

    Returns:
        tree -> its cases, each with one of its files.
    """
    if not dataset.test_cases or any(pattern.split == "test" for pattern in dataset.patterns):
        return {}
    trees: dict[Root, dict[str, Place]] = {}
    known: set[Root] = set()
    for case, found in places.items():
        own = {_tree(dataset, place): place for place in found}
        for tree, place in own.items():
            trees.setdefault(tree, {})[case] = place
        if case in labelled or any(place.role == dataset.label for place in found):
            known |= set(own)
    if not known:
        return {}
    return {
        tree: cases
        for tree, cases in trees.items()
        if not any(_contains(tree, other) or _contains(other, tree) for other in known)
        and not (len(cases) == 1 and _is_one_case(dataset, next(iter(cases.values()))))
        and not any(_is_graded(dataset, place) for place in cases.values())
    }


def _contains(outer: Root, inner: Root) -> bool:
    return outer[0] == inner[0] and (not outer[1] or f"{inner[1]}/".startswith(f"{outer[1]}/"))


def _tree(dataset: Dataset, place: Place) -> Root:
    """The root, or what is above it where the root is one stratum or one case (a folder or an archive of its own)."""
    source, folder = place.root
    parts = folder.split("/") if folder else []
    strata = {name.casefold() for name in dataset.strata_folders}
    while parts and (parts[-1].casefold() in strata or _names_case(dataset, parts[-1])):
        parts.pop()
    return source, "/".join(parts)


def _names_case(dataset: Dataset, part: str) -> bool:
    return re.fullmatch(dataset.case_name, part.partition(".")[0], re.IGNORECASE) is not None


def _is_graded(dataset: Dataset, place: Place) -> bool:
    """Whether a folder above the file, perhaps the source itself, names a stratum: test data are not sorted by it."""
    strata = {name.casefold() for name in dataset.strata_folders}
    return any(part.casefold() in strata for part in Path(place.file.location).parts[:-1])


def _is_one_case(dataset: Dataset, place: Place) -> bool:
    """Whether the source itself is the folder or the archive of one case."""
    outermost = place.file.folder.partition("/")[0]
    if not outermost:
        outermost = Path(place.file.location).parent.name
    elif not outermost.endswith("!"):
        return False
    return _names_case(dataset, outermost)
