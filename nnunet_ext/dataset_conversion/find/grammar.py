"""What the name of a file says: of which case it is and which file of the case."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.description import Dataset, Pattern

_ENDINGS = (".nii.gz", ".tif", ".png", ".jpg")  # of the files of all datasets
_LONGEST_ENDING = len(".nii.gz.backup")

#: Number of a source, and a folder in it.
Root = tuple[int, str]


@dataclass(frozen=True)
class CaseFile:
    """A file of a case, and what its name says of it.

    Args:
        file: the file.
        case: name of the case.
        role: which file of the case this is, such as ``flair`` or ``seg``.
        number: of the slice or part; -1 where the name has none.
        stacked: whether the number is that of a slice.
        split, group, stratum, variant: as the grammar tells; empty where it does not.
        root: the folder that holds all cases, of which this one may have a folder of its own: ``data`` for
            ``data/case_1/case_1_seg.nii.gz`` and for ``data/case_1_seg.nii.gz``.
    """

    file: SourceFile
    case: str
    role: str
    number: int
    stacked: bool
    split: str
    group: str
    stratum: str
    root: Root = (0, "")
    variant: str = ""


#: Expression, number of components of a path that it matches, and what it says.
CompiledPattern = tuple[re.Pattern[str], int, Pattern]


@cache
def compiled(regex: str) -> re.Pattern[str]:
    # Without ASCII a dotless i or a Kelvin sign is a letter of the alphabet, too; names with these are of no release.
    return re.compile(regex, re.IGNORECASE | re.ASCII)


def patterns_of(dataset: Dataset) -> list[CompiledPattern]:
    """The grammar of a dataset, without the names that stand in for others."""
    return [
        (compiled(pattern.regex), pattern.regex.count("/") + 1, pattern)
        for pattern in dataset.patterns
        if not pattern.fallback
    ]


def read_name(file: SourceFile, parts: Sequence[str], patterns: Sequence[CompiledPattern]) -> CaseFile | None:
    """What the components of a path say of a file; None if it is of no case."""
    for regex, count, pattern in patterns:
        found = regex.fullmatch("/".join(parts[-count:]))
        if found is None:
            continue
        groups = found.groupdict()
        number = groups.get("slice") or groups.get("part") or "-1"
        return CaseFile(
            file,
            groups["case"],
            (groups.get("role") or pattern.role).lower(),
            int(number),
            bool(groups.get("slice")),
            pattern.split,
            groups.get("group") or "",
            groups.get("stratum") or "",
            variant=(groups.get("variant") or "").lower(),
        )
    return None


@dataclass(frozen=True)
class OtherEnding:
    """A file, and the name that it would have were it the file of a case that it is named after."""

    file: SourceFile
    expected: str


def under_other_endings(dataset: Dataset, files: Iterable[SourceFile]) -> dict[tuple[str, str, int], OtherEnding]:
    """Files that would be files of cases if they ended otherwise: ``x_t1.mha`` where ``x_t1.nii.gz`` is expected.

    Returns:
        Name of the case in small letters, role and number -> the first such file.
    """
    patterns = patterns_of(dataset)
    found: dict[tuple[str, str, int], OtherEnding] = {}
    for file in files:
        folders, name = file.path.replace("!/", "/").split("/")[:-1], file.name
        stems = [
            name[: dot.start()] for dot in re.finditer(r"\.|$", name) if dot.start() + _LONGEST_ENDING >= len(name)
        ]
        for stem, ending in product(stems, _ENDINGS):
            entry = read_name(file, [*folders, stem + ending], patterns)
            if entry is not None:
                found.setdefault((entry.case.casefold(), entry.role, entry.number), OtherEnding(file, stem + ending))
                break
    return found
