"""Part 5: do the trainers learn as nnU-Net does? Hippocampus of the Medical Segmentation Decathlon, nnU-Net's default
plans, fold 0, epochs of 250 iterations, one trainer after the other in rounds until the time is out.

Every epoch is a row at once, and a line of curves.csv. Run by run.sh; the data lies in .carry/Task04_Hippocampus.
"""

from __future__ import annotations

import campaign  # first: its clock starts before torch is imported

import csv  # isort: skip
import os
import sys
import time
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any

import torch
from children import Children, end_orderly_on_termination, reason
from entry import Circumstances, run_command
from hippocampus import ID, as_msd_writes_it, write_toy
from machine import write_facts
from nnunetv2.run.run_training import get_trainer_from_args
from nnunetv2.training.logging.nnunet_logger import MetaLogger
from subjects import trainers
from training import as_nnunet_trains

LIMIT = 300
DATA = Path(__file__).resolve().parents[2] / ".carry" / "Task04_Hippocampus"
CONFIGURATION, PLANS, CHANNELS = "3d_fullres", "nnUNetPlans", 1
TOY_SUFFIX, TOY_ROUNDS = "_3epochs_2its_1vits", 2
# Pseudo Dice after so many epochs: nnU-Net 2.x, 3d_fullres, PlainConvUNet, mean of five folds, from the progress.csv
# that automl/AutoNNUnet publishes of its baseline.
PUBLISHED = {5: 0.8698, 10: 0.8782}
COLUMNS = (
    "trainer",
    "epoch",
    "pseudo_dice_per_class",
    "pseudo_dice",
    "ema",
    "train_loss",
    "val_loss",
    "learning_rate",
    "seconds",
)


def prepare(run: campaign.Run, children: Children) -> bool:
    """Conversion, plans and preprocessing with nnU-Net's commands. False if there is no data, or one failed."""
    if run.toy:
        source = write_toy(run.work / "download")
    elif DATA.is_dir():
        source = DATA
    else:
        run.table.skip("Hippocampus", "", f"{DATA} is not there")
        return False
    raw = as_msd_writes_it(source, run.work)
    processes = 1 if run.toy else max(1, campaign.cores() - 2)
    steps = (
        f"nnUNetv2_convert_MSD_dataset -i {raw} -overwrite_id {ID} -np {processes}",
        # extracts the fingerprint, for nnU-Net's planner too
        f"nnunet_ext plan -d {ID} -a PlainConvUNet -c {CONFIGURATION} --no_pp -np {processes}",
        f"nnUNetv2_plan_experiment -d {ID}",
        f"nnUNetv2_preprocess -d {ID} -c {CONFIGURATION} -np {processes}",
    )
    for command in steps:
        name = " ".join(command.split()[: 2 if command.startswith("nnunet_ext") else 1])
        if not run.begins("Hippocampus", name, name, 5):
            return False
        begun, seconds = time.monotonic(), run.left()
        log = run.work / "prepare.log"
        code = children.call(run_command, (command.split(), Circumstances(run.work, threads=run.toy)), seconds, log)
        run.table.check("Hippocampus", name, "ends well", code == 0, "" if code == 0 else reason(code, seconds))
        if code != 0:
            print(log.read_text(encoding="utf-8", errors="replace")[-2000:], flush=True)
            return False
        run.table.add("Hippocampus", name, "whole command", time.monotonic() - begun, "s")
    return True


class Learner:
    """One trainer, an epoch at a time, through its own methods; what nnU-Net prints goes to a file."""

    def __init__(self, run: campaign.Run, name: str) -> None:
        self._log = run.work / f"{name}.log"
        self.name = name
        with self._quiet():
            self._trainer: Any = get_trainer_from_args(
                str(ID), CONFIGURATION, 0, name, PLANS, device=torch.device(run.device)
            )
            self._trainer.disable_checkpointing = True
            self._trainer.on_train_start()

    def _quiet(self) -> Any:
        return redirect_stdout(self._log.open("a", encoding="utf-8"))

    @property
    def epoch(self) -> int:
        """Of the next epoch, from 1."""
        return int(self._trainer.current_epoch) + 1

    def train_an_epoch(self) -> dict[str, Any]:
        """As in ``nnUNetTrainer.run_training``. Returns a line of the curves."""
        trainer = self._trainer
        with self._quiet():
            trainer.on_epoch_start()
            trainer.on_train_epoch_start()
            batches = range(trainer.num_iterations_per_epoch)
            trainer.on_train_epoch_end([trainer.train_step(next(trainer.dataloader_train)) for _ in batches])
            with torch.no_grad():
                trainer.on_validation_epoch_start()
                batches = range(trainer.num_val_iterations_per_epoch)
                trainer.on_validation_epoch_end(
                    [trainer.validation_step(next(trainer.dataloader_val)) for _ in batches]
                )
            trainer.on_epoch_end()
        return self._line()

    def _line(self) -> dict[str, Any]:
        def last(key: str) -> Any:
            return self._trainer.logger.get_value(key, step=-1)

        return {
            "trainer": self.name,
            "epoch": self.epoch - 1,
            "pseudo_dice_per_class": " ".join(f"{dice:.4f}" for dice in last("dice_per_class_or_region")),
            "pseudo_dice": float(last("mean_fg_dice")),
            "ema": float(last("ema_fg_dice")),
            "train_loss": float(last("train_losses")),
            "val_loss": float(last("val_losses")),
            "learning_rate": float(self._trainer.optimizer.param_groups[0]["lr"]),
            "seconds": last("epoch_end_timestamps") - last("epoch_start_timestamps"),
        }

    def end(self) -> None:
        """Ends the processes of augmentation."""
        with self._quiet():
            self._trainer.on_train_end()


def write_line(run: campaign.Run, line: dict[str, Any]) -> None:
    """Into curves.csv and the table, on the disk before the next epoch begins."""
    file = run.out / "curves.csv"
    new = not file.is_file()
    with file.open("a", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        if new:
            writer.writeheader()
        writer.writerow({key: f"{value:.6g}" if isinstance(value, float) else value for key, value in line.items()})
        stream.flush()
        os.fsync(stream.fileno())
    setting = f"epoch {line['epoch']}"
    run.table.add(line["trainer"], setting, "pseudo Dice", line["pseudo_dice"], "", line["pseudo_dice_per_class"])
    run.table.add(line["trainer"], setting, "training loss", line["train_loss"], "")
    run.table.add(line["trainer"], setting, "epoch", line["seconds"], "s")
    published = PUBLISHED.get(line["epoch"])
    if published is not None:
        note = f"nnU-Net published {published}, mean of five folds; this is fold 0"
        run.table.add(line["trainer"], setting, "pseudo Dice - published", line["pseudo_dice"] - published, "", note)


def learn_in_rounds(run: campaign.Run, learners: list[Learner], rounds: int) -> None:
    """An epoch of each in turn; a trainer that fails is out."""
    for _ in range(rounds):
        for learner in list(learners):
            setting = f"epoch {learner.epoch}"
            if not run.begins(learner.name, setting, learner.name, 15):
                return
            begun = time.monotonic()
            trained = False
            with run.table.attempt(learner.name, setting):
                line = learner.train_an_epoch()
                write_line(run, line)
                trained = True
                print(f"  pseudo Dice {line['pseudo_dice']:.4f}, {line['seconds']:.1f} s", flush=True)
            run.took(learner.name, time.monotonic() - begun)
            if not trained:
                learners.remove(learner)


def main() -> int:
    end_orderly_on_termination()
    run = campaign.begin("learning", LIMIT)
    (run.out / "curves.csv").unlink(missing_ok=True)
    campaign.own_folders(run)
    children = Children(write_facts, (run.table.file, run.device))
    if not prepare(run, children):
        return run.exit_code()
    os.environ["nnUNet_n_proc_DA"] = "0" if run.toy else str(max(1, min(12, campaign.cores() - 2)))
    as_nnunet_trains(torch.device(run.device))
    torch.set_num_threads(1)
    MetaLogger.plot_progress_png = lambda *_: None  # a second an epoch
    learners: list[Learner] = []
    for subject, trainer in trainers():
        if subject.image_channels > CHANNELS:
            run.table.skip(trainer, "", f"{subject.name} needs {subject.image_channels} image channels")
            continue
        name = trainer + (TOY_SUFFIX if run.toy else "")
        learner = run.measure(name, "starts", partial(Learner, run, name), "start", 5)
        learners += [] if learner is None else [learner]
    learn_in_rounds(run, learners, TOY_ROUNDS if run.toy else 1000)
    for learner in learners:
        learner.end()
    return run.exit_code()


if __name__ == "__main__":
    sys.exit(main())
