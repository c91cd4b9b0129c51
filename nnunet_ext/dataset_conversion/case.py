"""Files of a source and the cases they make up. Paths and names, never arrays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class SourceFile:
    """One file of a source: on disk, or a member of an archive.

    Args:
        source: number of the source on the command line, from 0.
        path: name below the source, with ``/``; members of an archive follow its name and ``!/``.
        location: the file on disk: the file itself, or the archive.
        size: bytes.
        member: name inside the archive; empty for a file on disk.
        offset: first byte of the member in an uncompressed tar; -1 otherwise.
        temporary: an extraction that is deleted when the conversion ends.
    """

    source: int
    path: str
    location: str
    size: int
    member: str = ""
    offset: int = -1
    temporary: bool = False

    @property
    def name(self) -> str:
        return self.path.rsplit("/", 1)[-1]

    @property
    def folder(self) -> str:
        """Everything before the name; empty at the top of the source."""
        return self.path.rpartition("/")[0]

    @property
    def linkable(self) -> bool:
        """Whether another name for the same bytes on disk would still be there after the conversion."""
        return not self.member and not self.temporary

    @property
    def shown(self) -> str:
        """The path as a message names it."""
        if self.temporary:
            return self.path
        return f"{self.location}!/{self.member}" if self.member else self.location


@dataclass(frozen=True)
class Case:
    """One case of the download.

    Args:
        id: nnU-Net's case identifier; for slices the stem of the slices' identifiers.
        name: the name in the download.
        split: ``"train"`` or ``"test"``.
        files: role -> its files, in the order of slices or parts; one file for most roles.
        group: patient, or whatever must not be divided between folds.
        stratum: what folds should hold equal shares of; None if unknown.
        aliases: names of the same case in other releases: release -> name.
        numbers: of its slices; empty for a case that is no series.
        published_shape: (x, y) that a table of the download gives; empty if none does.
    """

    id: str
    name: str
    split: str
    files: Mapping[str, tuple[SourceFile, ...]]
    group: str
    stratum: str | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()
    published_shape: tuple[int, ...] = ()

    @property
    def all_files(self) -> list[tuple[str, SourceFile]]:
        return [(role, file) for role, files in self.files.items() for file in files]


def natural_key(text: str) -> list[tuple[int, int, str]]:
    """Sort key in which numbers count as numbers: ``a_9`` comes before ``a_10``."""
    parts = re.split(r"(\d+)", text)
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts if part]


def clean_id(name: str) -> str:
    """An nnU-Net identifier made of letters, digits, ``_`` and ``-`` only."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_")


def slice_id(case: str, number: int) -> str:
    """Identifier of a slice."""
    return f"{case}_s{number:03d}"
