"""The same case twice: in two sources, in two trees of one download, or in one folder under two names."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.layout import Matched, Place, Root
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import gz
from nnunet_ext.dataset_conversion.progress import Progress

_MOST_CONTENT = 1 << 32


def settle(matched: Matched, sealed: frozenset[str], findings: list[Finding]) -> dict[str, list[Place]]:
    """One file for each role (and slice, and part) of each case."""
    cases_in: dict[Root, set[str]] = defaultdict(set)
    by_case: dict[str, dict[Root, list[Place]]] = {}
    for name, places in matched.cases.items():
        by_root: dict[Root, list[Place]] = defaultdict(list)
        for place in places:
            by_root[place.root].append(place)
            cases_in[place.root].add(name)
        by_case[name] = {root: _one_per_role(matched.dataset, name, own, findings) for root, own in by_root.items()}
    settled = {name: next(iter(roots.values())) for name, roots in by_case.items() if len(roots) == 1}
    whole_trees: dict[tuple[Root, Root], str] = {}
    with Progress("comparing copies", len(by_case) - len(settled)) as progress:
        for name, roots in by_case.items():
            if len(roots) > 1:
                settled[name] = _merge(matched.dataset, name, roots, cases_in, sealed, whole_trees, findings)
                progress.step()
    findings += [_repeated_tree(first, second, difference) for (first, second), difference in whole_trees.items()]
    return settled


def _merge(
    dataset: Dataset,
    name: str,
    by_root: Mapping[Root, list[Place]],
    cases_in: Mapping[Root, set[str]],
    sealed: frozenset[str],
    whole_trees: dict[tuple[Root, Root], str],
    findings: list[Finding],
) -> list[Place]:
    """The files of a case that lies in several places: the best place, and what only the others have.

    Repetitions become findings, or, where two trees of one source hold the same cases, an entry of ``whole_trees`` with
    the first difference.
    """
    roots = sorted(by_root, key=lambda root: _preference(dataset, root, by_root[root]))
    kept = {_slot(place): place for place in by_root[roots[0]]}
    for root in roots[1:]:
        twice = [place for place in by_root[root] if _slot(place) in kept]
        for place in by_root[root]:
            kept.setdefault(_slot(place), place)
        if not twice:
            continue
        differing = next((place for place in twice if not _same(kept[_slot(place)].file, place.file, sealed)), None)
        first = kept[_slot(twice[0])].root
        if first[0] == root[0] and cases_in[first] == cases_in[root] and len(cases_in[root]) > 1:
            known = whole_trees.setdefault((first, root), "")
            if differing is not None and not known:
                other = kept[_slot(differing)].file
                whole_trees[first, root] = f"{differing.file.shown} differs from {other.shown}"
        else:
            findings.append(_repeated_case(name, twice[0], differing))
    return list(kept.values())


def _slot(place: Place) -> tuple[str, int]:
    return place.role, place.number


def _preference(dataset: Dataset, root: Root, places: Sequence[Place]) -> tuple[bool, int, bool, int, str]:
    """Complete before incomplete; then the earlier source, files before archives, shallow before deep."""
    have = {place.role for place in places}
    complete = all(image.role in have for image in dataset.images)
    return not complete, root[0], "!" in root[1], root[1].count("/"), root[1]


def _one_per_role(dataset: Dataset, name: str, places: list[Place], findings: list[Finding]) -> list[Place]:
    """Settle files of one role within one root."""
    slots: dict[tuple[str, int], list[Place]] = defaultdict(list)
    for place in sorted(places, key=lambda place: (not place.file.name.lower().endswith(".gz"), place.file.path)):
        slots[_slot(place)].append(place)
    for (role, number), found in slots.items():
        if len(found) == 1:
            continue
        if found[0].stacked:
            findings.append(
                Finding(
                    "SLC01",
                    f"{name} has slice {number} twice",
                    name,
                    found[1].file.shown,
                    "remove one of the two files",
                )
            )
        elif all(_same(found[0].file, other.file, frozenset()) for other in found[1:]):
            findings.append(
                Finding(
                    "DUP01",
                    f"{name} holds {dataset.role_name(role)} twice with equal content; one is used",
                    name,
                    found[1].file.shown,
                )
            )
        else:
            findings.append(
                Finding(
                    "NAM02",
                    f"{name}: two files for {dataset.role_name(role)}",
                    name,
                    found[1].file.shown,
                    f"keep it or {found[0].file.name}",
                )
            )
    return [found[0] for found in slots.values()]


def _same(first: SourceFile, second: SourceFile, sealed: frozenset[str]) -> bool:
    """Whether two files hold the same bytes, compressed or not."""
    if first.location in sealed or second.location in sealed:
        return first.size == second.size
    zipped = [file.name.lower().endswith(".gz") for file in (first, second)]
    if zipped[0] == zipped[1] and first.size == second.size and read(first) == read(second):
        return True
    if not any(zipped):
        return False
    # Two compressions of one content differ.
    contents = [_digest(file, compressed) for file, compressed in zip((first, second), zipped, strict=True)]
    return contents[0] == contents[1]


def _digest(file: SourceFile, compressed: bool) -> bytes:
    """Of the content, which may be far larger than the file."""
    parts = gz.parts(read(file))
    digest = hashlib.sha256()
    for piece in gz.pieces(parts, _MOST_CONTENT, file.shown) if compressed else parts:
        digest.update(piece)
    return digest.digest()


def _repeated_tree(first: Root, second: Root, difference: str) -> Finding:
    names = [root[1].rsplit("/", 1)[-1] or "the top folder" for root in (first, second)]
    which = names[0] if names[0] == names[1] else f"{first[1] or '.'} and {second[1]}"
    if difference:
        return Finding(
            "LAY05",
            f"the two copies of {which} differ: {difference}",
            file=second[1],
            remedy="give the right one with -i",
        )
    return Finding("LAY04", f"{second[1]} repeats {first[1] or 'the top folder'}; the latter is used")


def _repeated_case(name: str, again: Place, differing: Place | None) -> Finding:
    if differing is None:
        return Finding("DUP01", f"{name} occurs twice with equal content; one is used", name, again.file.shown)
    return Finding(
        "DUP02",
        f"{name} occurs twice with different content",
        name,
        differing.file.shown,
        "remove one of the two, or --allow DUP02 to keep the first",
    )
