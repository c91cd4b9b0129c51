"""Repeated files: a case that lies in two sources, in two folders of one download, or twice in one folder."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.grammar import CaseFile, Root
from nnunet_ext.dataset_conversion.find.layout import Matched
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import gz
from nnunet_ext.progress import Progress

_MAX_CONTENT_BYTES = 1 << 32


def settle(matched: Matched, closed_archives: frozenset[str], findings: list[Finding]) -> dict[str, list[CaseFile]]:
    """Of all files for one role of a case (and one slice, or one part of a mask), the one that is used."""
    cases_in: dict[Root, set[str]] = defaultdict(set)
    by_case: dict[str, dict[Root, list[CaseFile]]] = {}
    for name, entries in matched.cases.items():
        by_root: dict[Root, list[CaseFile]] = defaultdict(list)
        for entry in entries:
            by_root[entry.root].append(entry)
            cases_in[entry.root].add(name)
        by_case[name] = {root: _one_per_role(matched.dataset, name, own, findings) for root, own in by_root.items()}
    settled = {name: next(iter(roots.values())) for name, roots in by_case.items() if len(roots) == 1}
    whole_trees: dict[tuple[Root, Root], str] = {}
    with Progress("comparing copies", len(by_case) - len(settled)) as progress:
        for name, roots in by_case.items():
            if len(roots) > 1:
                settled[name] = _merge(matched.dataset, name, roots, cases_in, closed_archives, whole_trees, findings)
                progress.step()
    findings += [_repeated_tree(first, second, difference) for (first, second), difference in whole_trees.items()]
    return settled


def _merge(
    dataset: Dataset,
    name: str,
    by_root: Mapping[Root, list[CaseFile]],
    cases_in: Mapping[Root, set[str]],
    closed_archives: frozenset[str],
    whole_trees: dict[tuple[Root, Root], str],
    findings: list[Finding],
) -> list[CaseFile]:
    """The files of a case that lies under several roots: those of the best root, and what only the others have.

    A repeated case becomes a finding. Where two roots of one source hold exactly the same cases, the download holds the
    whole tree twice, which is one finding and not one a case: it becomes an entry of ``whole_trees``, pair of roots ->
    the first difference between them, empty if there is none.
    """
    roots = sorted(by_root, key=lambda root: _preference(dataset, root, by_root[root]))
    kept = {_slot(entry): entry for entry in by_root[roots[0]]}
    for root in roots[1:]:
        twice = [entry for entry in by_root[root] if _slot(entry) in kept]
        for entry in by_root[root]:
            kept.setdefault(_slot(entry), entry)
        if not twice:
            continue
        differing = next(
            (entry for entry in twice if not _same(kept[_slot(entry)].file, entry.file, closed_archives)), None
        )
        first = kept[_slot(twice[0])].root
        if first[0] == root[0] and cases_in[first] == cases_in[root] and len(cases_in[root]) > 1:
            known = whole_trees.setdefault((first, root), "")
            if differing is not None and not known:
                other = kept[_slot(differing)].file
                whole_trees[first, root] = f"{differing.file.shown} differs from {other.shown}"
        else:
            findings.append(_repeated_case(name, twice[0], differing))
    return list(kept.values())


def _slot(entry: CaseFile) -> tuple[str, int]:
    return entry.role, entry.number


def _preference(dataset: Dataset, root: Root, entries: Sequence[CaseFile]) -> tuple[bool, int, bool, int, str]:
    """Complete before incomplete; then the earlier source, files before archives, shallow before deep."""
    have = {entry.role for entry in entries}
    complete = all(image.role in have for image in dataset.images)
    return not complete, root[0], "!" in root[1], root[1].count("/"), root[1]


def _one_per_role(dataset: Dataset, name: str, entries: list[CaseFile], findings: list[Finding]) -> list[CaseFile]:
    """Settle files of one role within one root."""
    slots: dict[tuple[str, int], list[CaseFile]] = defaultdict(list)
    for entry in sorted(entries, key=lambda entry: (not entry.file.name.lower().endswith(".gz"), entry.file.path)):
        slots[_slot(entry)].append(entry)
    for (role, number), found in slots.items():
        if len(found) == 1:
            continue
        second, what = found[1].file, dataset.role_name(role)
        if found[0].stacked:
            message, remedy = f"{name} has slice {number} twice", "remove one of the two files"
            findings.append(Finding("SLC01", message, name, second.shown, remedy))
        elif all(_same(found[0].file, other.file, frozenset()) for other in found[1:]):
            message = f"{name} holds {what} twice with equal content; one is used"
            findings.append(Finding("DUP01", message, name, second.shown))
        else:
            remedy = f"keep it or {found[0].file.name}"
            findings.append(Finding("NAM02", f"{name}: two files for {what}", name, second.shown, remedy))
    return [found[0] for found in slots.values()]


def _same(first: SourceFile, second: SourceFile, closed_archives: frozenset[str]) -> bool:
    """Whether two files hold the same bytes, compressed or not."""
    if first.location in closed_archives or second.location in closed_archives:
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
    for piece in gz.pieces(parts, _MAX_CONTENT_BYTES, file.shown) if compressed else parts:
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


def _repeated_case(name: str, again: CaseFile, differing: CaseFile | None) -> Finding:
    if differing is None:
        return Finding("DUP01", f"{name} occurs twice with equal content; one is used", name, again.file.shown)
    return Finding(
        "DUP02",
        f"{name} occurs twice with different content",
        name,
        differing.file.shown,
        "remove one of the two, or --allow DUP02 to keep the first",
    )
