"""What the downloads of all datasets have in common: studies, each of several files, and a few tables."""

from __future__ import annotations

import csv
import io
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnunet_ext.phantoms.tumour import PARTS


@dataclass(frozen=True)
class Study:
    """One scan session and where its files go.

    Attributes:
        name: as in the file names of the dataset.
        prefixes: text put before each file name; several where the download holds the files several times.
        images: what seeds the pixels; the name if empty. Equal in two releases that share the scan.
        brain: what seeds the anatomy; the name if empty. Equal for scans of one patient.
        parts: tumour labels that may occur.
        labelled: whether the label map is part of the download.
        oddities: deviations by name, read by the dataset's own writer.
    """

    name: str
    prefixes: tuple[str, ...]
    images: str = ""
    brain: str = ""
    parts: frozenset[int] = PARTS
    labelled: bool = True
    oddities: Mapping[str, str] = field(default_factory=dict)

    def generators(self, seed: int) -> tuple[np.random.Generator, np.random.Generator]:
        """Generators of the images and of the brain, independent of all other studies and of how many there are."""
        images, brain = self.images or self.name, self.brain or self.name
        return _generator(seed, f"images {images}"), _generator(seed, f"brain {brain}")


def _generator(seed: int, key: str) -> np.random.Generator:
    return np.random.default_rng([seed, zlib.crc32(key.encode())])


Files = list[tuple[str, bytes]]
"""Destinations (see ``packing``) and contents."""


@dataclass(frozen=True)
class Download:
    """All of one synthetic download.

    Attributes:
        studies: in the order in which they are written.
        write: turns a study, a seed and a shape (z, y, x) into files. A function of a module: worker processes call it.
        tables: destination -> text files that describe the studies.
        tables_of_images: from studies, seed and shape (z, y, x), the tables that tell something of the images.
    """

    studies: tuple[Study, ...]
    write: Callable[[Study, int, tuple[int, int, int]], Files]
    tables: Mapping[str, bytes]
    tables_of_images: Callable[[Sequence[Study], int, tuple[int, int, int]], Mapping[str, bytes]] | None = None


@dataclass(frozen=True)
class PhantomDataset:
    """The phantoms of one dataset.

    Attributes:
        download: lays out a number of cases in a layout, with or without quirks.
        layouts: names of the layouts; the first is the default.
        shape: (z, y, x) voxels if none is asked for; for pictures z means nothing.
        max_cases: cases of the real dataset.
        appearances: in how many ways its images can look.
        own_findings: codes of findings that a phantom has for its size, or as the real download has, and that are no
            quirk; ``nnunet_ext convert`` does not tell them.
    """

    download: Callable[[int, str, bool], Download]
    layouts: tuple[str, ...]
    shape: tuple[int, int, int]
    max_cases: int
    appearances: int = 1
    own_findings: tuple[str, ...] = ("CNT01", "SPL03")


def csv_bytes(rows: Iterable[Sequence[str]], delimiter: str = ",", line_end: str = "\n") -> bytes:
    """A csv file in memory."""
    text = io.StringIO()
    csv.writer(text, delimiter=delimiter, lineterminator=line_end).writerows(rows)
    return text.getvalue().encode()
