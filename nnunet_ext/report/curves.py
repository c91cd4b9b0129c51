"""Training curves of many folds and configurations in one figure, read from the logs nnU-Net writes.

The text logs are used rather than checkpoints: they exist while a training runs, and reading them executes nothing.
Column names are those of nnU-Net's own logger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file
from nnunet_ext.report.style import LIGHT, save
from nnunet_ext.shown import plot_text

#: bytes of a training log; 1000 epochs take a quarter of a MB
MAX_LOG_BYTES = 1 << 26
NUMBER = r"[-+]?(?:\d+\.?\d*(?:e[-+]?\d+)?|nan|inf)"
TIMESTAMP = r"^\S+ \S+: +"
EPOCH = re.compile(TIMESTAMP + r"Epoch (\d{1,9})\s*$")
VALUES = {
    "lrs": re.compile(TIMESTAMP + rf"Current learning rate: ({NUMBER})"),
    "train_losses": re.compile(TIMESTAMP + rf"train_loss ({NUMBER})"),
    "val_losses": re.compile(TIMESTAMP + rf"val_loss ({NUMBER})"),
    "epoch_seconds": re.compile(TIMESTAMP + rf"Epoch time: ({NUMBER})"),
}
PSEUDO_DICE = re.compile(TIMESTAMP + r"Pseudo dice \[(.*)\]")
# NumPy 2 prints its scalars with their type.
SCALAR = re.compile(r"np\.float\d+\(([^()]*)\)")


def read_training_log(fold: Path) -> pd.DataFrame:
    """One row an epoch of a ``fold_N`` folder: losses, learning rate, seconds, mean pseudo Dice.

    Several logs (a training that was continued) are joined; the last word on an epoch counts. An epoch that has not
    ended is left out. ``mean_fg_dice`` is over random patches of the validation fold: not a Dice per case.

    Raises:
        UserError: the folder holds no training log, none with a finished epoch, or one that is no log.
    """
    found_logs = [path for path in fold.glob("training_log_*.txt") if path.exists()]
    logs = sorted(found_logs, key=lambda path: path.stat().st_mtime_ns)
    if not logs:
        raise UserError("no training_log_*.txt in this folder", file=fold, remedy="name a fold_N folder of a training")
    epochs: dict[int, dict[str, float]] = {}
    for log in logs:
        row: dict[str, float] = {}
        for line in read_regular_file(log, MAX_LOG_BYTES).decode("utf-8", errors="replace").splitlines():
            if found := EPOCH.match(line):
                row = epochs[int(found[1])] = {}
            for column, pattern in VALUES.items():
                if found := pattern.match(line):
                    row[column] = float(found[1])
            if found := PSEUDO_DICE.match(line):
                row["mean_fg_dice"] = pd.to_numeric(
                    pd.Series(SCALAR.sub(r"\1", found[1]).split(",")), errors="coerce"
                ).mean()
    table = pd.DataFrame.from_dict(epochs, orient="index").rename_axis("epoch").sort_index()
    finished = table.dropna(subset=["epoch_seconds"]) if "epoch_seconds" in table else table.iloc[:0]
    if finished.empty:
        raise UserError("no finished epoch in the training log", file=logs[-1])
    return finished.reset_index()


def read_model(model: Path) -> pd.DataFrame:
    """The logs of all ``fold_N`` folders of a ``TRAINER__PLANS__CONFIGURATION`` folder, with a column ``fold``."""
    folds = sorted(path for path in model.glob("fold_*") if path.is_dir())
    if not folds:
        raise UserError("no fold_N folders here", file=model, remedy="name a TRAINER__PLANS__CONFIGURATION folder")
    tables = [read_training_log(fold).assign(fold=fold.name.removeprefix("fold_")) for fold in folds]
    return pd.concat(tables, ignore_index=True)


def training_curves(models: Mapping[str, pd.DataFrame], title: str = "") -> Figure:
    """A row of panels a model: losses on the left, pseudo Dice on the right; folds thin, their mean bold.

    Args:
        models: title of a row -> table of ``read_model``.
        title: of the whole figure.
    """
    figure = Figure(figsize=(9.0, 0.6 + 2.9 * len(models)), layout="constrained", facecolor=LIGHT["figure"])
    axes = figure.subplots(len(models), 2, squeeze=False, sharex="row")
    losses = (("train_losses", "training", LIGHT["training"]), ("val_losses", "validation", LIGHT["validation"]))
    dice = (("mean_fg_dice", "", LIGHT["dice"]),)
    for (name, table), (left, right) in zip(models.items(), axes, strict=True):
        for axis, columns, label in ((left, losses, "loss"), (right, dice, "pseudo Dice")):
            for column, legend, colour in columns:
                for _, fold in table.groupby("fold"):
                    axis.plot(fold["epoch"], fold[column], color=colour, linewidth=0.8, alpha=0.35)
                mean = table.groupby("epoch")[column].mean()
                axis.plot(mean.index, mean, color=colour, linewidth=2.2, label=legend)
            axis.set_title(plot_text(f"{name}: {label}"), fontsize=10, loc="left")
            axis.set_xlabel("epoch", fontsize=9)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
            axis.tick_params(labelsize=8)
            axis.grid(color=LIGHT["grid"], linewidth=0.6)
            axis.spines[["top", "right"]].set_visible(False)
        left.legend(frameon=False, fontsize=8)
        right.set_ylim(0, 1)
    folds = max(table["fold"].nunique() for table in models.values())
    figure.suptitle(f"{plot_text(title)}\nthin: single folds ({folds}), bold: their mean".strip(), fontsize=10)
    return figure


def write_training_curves(models: Mapping[str, pd.DataFrame], path: Path, title: str = "") -> Path:
    """Draw ``training_curves`` into a PNG file."""
    return save(training_curves(models, title), path)
