"""What is mutated: phantom downloads, finished and half-finished conversions, predictions, a planned dataset."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from box import DOWNLOAD, PREDICTIONS, PREPROCESSED, RAW, RESULTS, TABLES, Box, remove
from child import call

GOLDEN = Path(__file__).resolve().parents[2] / "tests" / "golden" / "migration"
#: dataset -> cases, (z, y, x)
_PHANTOMS = {
    "brats2021": (3, (12, 14, 16)),
    "brats2020": (3, (12, 14, 16)),
    "brats2019": (3, (12, 14, 16)),
    "busi": (4, (1, 40, 48)),
    "kvasir-seg": (4, (1, 40, 48)),
    "lgg": (2, (12, 16, 18)),
}
DATASETS = tuple(_PHANTOMS)
DATASET_ID = {name: 137 + number for number, name in enumerate(DATASETS)}
#: what making one may take on a busy machine
_SECONDS = 300


def prepare(box: Box, name: str, log: Path) -> None:
    """Makes a subject once: ``NAME``, ``finished:NAME``, ``half:NAME`` or ``planned``."""
    if box.has(name):
        return
    state, _, dataset = name.rpartition(":")
    if name == "planned":
        prepare(box, "finished:brats2021", log)
        box.fill("finished:brats2021")
        _plan(box)
    elif state:
        prepare(box, dataset, log)
        box.fill(dataset)
        _do(box, lambda: _convert(box, dataset, half=state == "half"), log, 130 if state == "half" else 0)
        if state == "finished":
            _predict(box)
    else:
        box.clear()
        _do(box, lambda: _phantom(box, dataset), log, 0)
        _tables(box)
        # The second copy of the slices: a difference between the two would be all that is ever found.
        remove(box.here / DOWNLOAD / "lgg-mri-segmentation")
    box.keep(name)


def folder_of(box: Box) -> Path:
    """The converted dataset."""
    (folder,) = sorted(path for path in (box.here / RAW).iterdir() if path.is_dir())
    return folder


def convert_arguments(box: Box, dataset: str) -> list[str]:
    """What is typed to convert the download."""
    source = os.fspath(box.here / DOWNLOAD)
    return ["convert", dataset, "-i", source, "-d", str(DATASET_ID[dataset]), "-np", "1", "--splits", "2"]


def _do(box: Box, work: Callable[[], int], log: Path, code: int) -> None:
    ending = call(work, box.here, box.environment(), log, _SECONDS)
    if ending.code != code:
        raise RuntimeError(f"a subject cannot be made: exit {ending.code} {ending.err[-2000:]}")


def _phantom(box: Box, dataset: str) -> int:
    from nnunet_ext.phantoms import write_phantoms

    cases, shape = _PHANTOMS[dataset]
    write_phantoms(dataset, box.here / DOWNLOAD, cases=cases, seed=1, shape=shape)
    return 0


def _convert(box: Box, dataset: str, half: bool) -> int:
    from nnunet_ext.cli import main
    from nnunet_ext.dataset_conversion.cases import case_forms

    original, done = case_forms.run, []

    def run(task: object) -> object:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(task)
        return original(task)

    if half:
        case_forms.run = run
    return main(convert_arguments(box, dataset))


def _predict(box: Box) -> None:
    """Perfect predictions, as ``nnUNetv2_predict`` leaves them."""
    folder, predictions = folder_of(box), box.here / PREDICTIONS
    shutil.copytree(folder / "labelsTr", predictions)
    shutil.copyfile(folder / "dataset.json", predictions / "dataset.json")


def _plan(box: Box) -> None:
    folder = box.here / PREPROCESSED / folder_of(box).name
    shutil.copytree(GOLDEN / "plans", folder)
    shutil.copyfile(folder_of(box) / "splits_final.json", folder / "splits_final.json")
    shutil.copytree(GOLDEN / "training", box.here / RESULTS / folder.name, ignore=shutil.ignore_patterns("*.npz"))


def _tables(box: Box) -> None:
    """A table of groups and folds that name no case of the download yet; inputs fill in the names."""
    (box.here / TABLES / "groups.csv").write_text("case,group\n")
    (box.here / TABLES / "splits.json").write_text("[]")
