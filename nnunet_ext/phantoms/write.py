"""Writes a whole synthetic download."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets import DATASETS as DESCRIBED
from nnunet_ext.dataset_conversion.reporting.phantom_source import MARK, mark
from nnunet_ext.errors import UserError
from nnunet_ext.files import write_folder_atomically
from nnunet_ext.lookup import did_you_mean, plain
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study
from nnunet_ext.phantoms.packing import Packer
from nnunet_ext.progress import with_progress

#: of one image; drawing a phantom takes some tens of bytes for each
MAX_VOXELS = 4 * 155 * 240 * 240


def _rows() -> dict[str, PhantomDataset]:
    """The phantoms of every dataset of the table: they are in the file here that is named as the dataset's own."""
    families = dict.fromkeys(row.partition(":")[0].rpartition(".")[2] for row in DESCRIBED.values())
    found: dict[str, PhantomDataset] = {}
    for family in families:
        found |= importlib.import_module(f"nnunet_ext.phantoms.{family}").PHANTOMS
    return {name: found[name] for name in DESCRIBED}


#: name of a dataset -> how its download is made up
DATASETS: Mapping[str, PhantomDataset] = MappingProxyType(_rows())


def _find(dataset: str) -> PhantomDataset:
    for name, row in DATASETS.items():
        if plain(name) == plain(dataset):
            return row
    raise UserError(
        f"no phantoms for dataset '{dataset}'",
        remedy=did_you_mean(dataset, DATASETS, f"known are {', '.join(DATASETS)}"),
    )


def _with_appearance(study: Study, appearance: int) -> Study:
    """The study as another scanner would have it: of another patient, so that appearances share no image."""
    images, brain = (f"{key or study.name}, appearance {appearance}" for key in (study.images, study.brain))
    return replace(study, images=images, brain=brain, oddities={**study.oddities, "appearance": str(appearance)})


def _contents(download: Download, seed: int, shape: tuple[int, int, int], processes: int) -> Iterator[Files]:
    write = partial(_call, download.write, seed=seed, shape=shape)
    if processes == 1:
        yield from map(write, download.studies)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        # A few cases ahead of the writer at a time: full-size cases are some ten megabytes each.
        ahead = 2 * processes
        running = [pool.submit(write, study) for study in download.studies[:ahead]]
        for study in (*download.studies[ahead:], *[None] * min(ahead, len(download.studies))):
            yield running.pop(0).result()
            if study is not None:
                running.append(pool.submit(write, study))


def _call(
    write: Callable[[Study, int, tuple[int, int, int]], Files],
    study: Study,
    *,
    seed: int,
    shape: tuple[int, int, int],
) -> Files:
    return write(study, seed, shape)


def write_phantoms(
    dataset: str,
    out: str | Path,
    *,
    cases: int = 8,
    seed: int = 0,
    shape: tuple[int, int, int] | None = None,
    layout: str | None = None,
    quirks: bool = True,
    processes: int = 1,
    appearance: int = 1,
) -> Path:
    """Write a synthetic download of a dataset.

    The same arguments give the same bytes, whatever ``processes`` is. Case ``k`` does not depend on how many there are.

    Args:
        dataset: name as in ``DATASETS``; case, ``-`` and ``_`` do not matter.
        out: folder to write, absent or empty.
        cases: number of labelled cases (for lgg patients, for busi pictures with a lesion).
        seed: non-negative.
        shape: (z, y, x) voxels a case, at least 12 an axis, ``MAX_VOXELS`` in all; the dataset's default if not given.
        layout: one of the dataset's layouts; the first if not given.
        quirks: with the oddities of the real download.
        processes: worker processes (spawned: a script that asks for more than one needs a main guard).
        appearance: which of the dataset's appearances; 2 (busi) is that of another machine.

    Returns:
        ``out``: what to hand to ``nnunet_ext convert -i``.

    Raises:
        UserError: unknown dataset or layout, impossible number or shape, or ``out`` exists with content.
    """
    row = _find(dataset)
    out = Path(out)
    layout = row.layouts[0] if layout is None else layout
    if layout not in row.layouts:
        raise UserError(f"{dataset} has no layout '{layout}'", remedy=f"known are {', '.join(row.layouts)}")
    if not 1 <= cases <= row.max_cases:
        raise UserError(f"cannot write {cases} cases of {dataset}", remedy=f"ask for 1 to {row.max_cases}")
    if not 1 <= appearance <= row.appearances:
        known = "1" if row.appearances == 1 else f"1 to {row.appearances}"
        raise UserError(f"{dataset} has no appearance {appearance}", remedy=f"known: {known}")
    if shape is not None and math.prod(shape) > MAX_VOXELS:
        raise UserError(
            f"a phantom of {' x '.join(map(str, shape))} voxels would not fit into memory",
            remedy=f"ask for {MAX_VOXELS:,} voxels at most; a case of BraTS has 155 x 240 x 240",
        )
    if seed < 0 or processes < 1:
        raise UserError(f"seed {seed} with {processes} processes", remedy="the seed starts at 0, processes at 1")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError("phantoms are written to a new or empty folder only", file=out, remedy="choose another one")

    download = row.download(cases, layout, quirks)
    if appearance > 1:
        download = replace(download, studies=tuple(_with_appearance(study, appearance) for study in download.studies))
    try:
        with write_folder_atomically(out) as folder, Packer(folder) as packer:
            files = _contents(download, seed, shape or row.shape, processes)
            for study_files in with_progress(files, f"{dataset} phantoms", len(download.studies)):
                for destination, content in study_files:
                    packer.add(destination, content)
            tables = dict(download.tables)
            if download.tables_of_images is not None:
                tables |= download.tables_of_images(download.studies, seed, shape or row.shape)
            for destination, content in tables.items():
                packer.add(destination, content)
            packer.add(MARK, mark(row.own_findings))
    except OSError as error:
        reason = error.strerror or str(error)
        raise UserError(f"cannot write phantoms: {reason}", file=out, remedy="check space and permission") from error
    return out
