"""One trainer through nnU-Net's commands: a training that is killed, ``--c``, ``--val --npz``, find_best, predict."""

from __future__ import annotations

import json
import math
import re
import shutil
from pathlib import Path

from command_runner import CommandRunner
from subjects import Subject

EPOCHS, ITERATIONS, TOY_ITERATIONS = 2, 20, 2


def chain(runner: CommandRunner, subject: Subject, trainer: str, dataset: int, configuration: str) -> None:
    """Each command is checked by what it leaves; where one fails, those that need it are left out."""
    run = runner.run
    name = f"{trainer}_{EPOCHS}epochs_{TOY_ITERATIONS if run.toy else ITERATIONS}its_2vits"
    steps = Chain(runner, name, dataset, configuration)
    for setting, step in (
        ("nnUNetv2_train, killed", steps.train_and_kill),
        ("nnUNetv2_train --c", steps.go_on),
        ("nnUNetv2_train --val --npz", steps.validate),
        ("nnUNetv2_find_best_configuration", steps.find_best),
        ("nnUNetv2_predict", steps.predict),
    ):
        wrong = step()
        run.table.check(trainer, setting, "as it should be", not wrong, wrong)
        if wrong:
            run.table.skip(trainer, f"after {setting}", "it failed")
            return


class Chain:
    """The commands of one trainer. Each method returns what is wrong, or nothing.

    Args:
        runner: where they run.
        trainer: with the suffixes that make it short.
        dataset: its id.
        configuration: of the plans.
    """

    def __init__(self, runner: CommandRunner, trainer: str, dataset: int, configuration: str) -> None:
        self._place = runner
        self._model = ["-tr", trainer, "-p", runner.plans]
        self._train = ["nnUNetv2_train", str(dataset), configuration, "0", *self._model, "-device", runner.device]
        self._dataset, self._configuration, self._trainer = dataset, configuration, trainer
        self._log = runner.run.work / f"{trainer}.log"

    @property
    def _results(self) -> Path:
        (folder,) = (self._place.run.work / "nnUNet_results").glob(f"Dataset{self._dataset}_*")
        return folder / f"{self._trainer}__{self._place.plans}__{self._configuration}"

    def train_and_kill(self) -> str:
        done = self._place.command(self._train, self._log, killed_in_epoch=EPOCHS - 1)
        if done.code != -9:
            return f"it was to be killed in its last epoch: {done.why or 'it ended well'}"
        return "" if list(self._results.glob("fold_0/checkpoint_*.pth")) else "it left no checkpoint"

    def go_on(self) -> str:
        done = self._place.command([*self._train, "--c"], self._log)
        if done.code != 0:
            return done.why
        epochs = {int(number) for number in re.findall(r"Epoch (\d+)\s*$", done.output, flags=re.MULTILINE)}
        if epochs != {EPOCHS - 1}:
            return f"it went on with epochs {sorted(epochs)} instead of {EPOCHS - 1}"
        losses = [float(value) for value in re.findall(r"(?:train|val)_loss (\S+)", done.output)]
        if not losses or not all(map(math.isfinite, losses)):
            return f"its losses are {losses}"
        return "" if (self._results / "fold_0/checkpoint_final.pth").is_file() else "it left no final checkpoint"

    def validate(self) -> str:
        validation = self._results / "fold_0" / "validation"
        shutil.rmtree(validation, ignore_errors=True)  # that of the training itself
        done = self._place.command([*self._train, "--val", "--npz"], self._log)
        if done.code != 0:
            return done.why
        dice = json.loads((validation / "summary.json").read_text(encoding="utf-8"))["foreground_mean"]["Dice"]
        if not 0 <= dice <= 1:
            return f"its Dice is {dice}"
        self._place.run.table.add(self._trainer, "nnUNetv2_train --val --npz", "Dice of a phantom", dice, "")
        return "" if list(validation.glob("*.npz")) else "it wrote no probabilities"

    def find_best(self) -> str:
        words = ["nnUNetv2_find_best_configuration", str(self._dataset), "-c", self._configuration, *self._model]
        done = self._place.command([*words, "-f", "0", "-np", "1"], self._log)
        if done.code != 0:
            return done.why
        chosen = self._results / "crossval_results_folds_0" / "postprocessing.pkl"
        return "" if chosen.is_file() else f"there is no {chosen.name}"

    def predict(self) -> str:
        run = self._place.run
        (raw,) = (run.work / "nnUNet_raw").glob(f"Dataset{self._dataset}_*")
        first = min(raw.glob("imagesTr/*_0000.nii.gz")).name.removesuffix("_0000.nii.gz")
        images, predictions = run.work / f"images_{self._trainer}", run.work / f"predictions_{self._trainer}"
        images.mkdir(exist_ok=True)
        for image in raw.glob(f"imagesTr/{first}_*.nii.gz"):
            shutil.copy(image, images)
        where = ["-i", str(images), "-o", str(predictions), "-d", str(self._dataset), "-c", self._configuration]
        # without processes for preparing and writing where two cores are all there is
        processes = ["-npp", "0", "-nps", "0"] if run.toy else ["-npp", "1", "-nps", "1"]
        words = ["nnUNetv2_predict", *where, *self._model, "-f", "0", "-device", self._place.device, *processes]
        done = self._place.command(words, self._log)
        if done.code != 0:
            return done.why
        file = predictions / f"{first}.nii.gz"
        return _unlike(file, raw / "labelsTr" / file.name) if file.is_file() else f"it wrote no {file.name}"


def _unlike(prediction: Path, reference: Path) -> str:
    """What makes a file no prediction of the case that ``reference`` segments."""
    import numpy as np
    import SimpleITK as sitk

    found, expected = (sitk.ReadImage(str(file)) for file in (prediction, reference))
    if found.GetSize() != expected.GetSize() or found.GetSpacing() != expected.GetSpacing():
        return f"size {found.GetSize()} and spacing {found.GetSpacing()} are not the image's"
    labels = set(np.unique(sitk.GetArrayFromImage(found)).tolist())
    return "" if labels <= {0, 1, 2, 3} else f"it holds the labels {sorted(labels)}"
