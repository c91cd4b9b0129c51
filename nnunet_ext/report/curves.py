"""Training curves of many folds and configurations in one figure, read from the logs nnU-Net writes.

The text logs are used rather than checkpoints: they exist while a training runs, and reading them executes nothing.
Column names are those of nnU-Net's own logger.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file
from nnunet_ext.report.captions import shortened, wrapped
from nnunet_ext.report.style import LIGHT, Dash, save, series_style
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
# column of a log -> what its axis says
PANELS = (
    ("train_losses", "training loss"),
    ("val_losses", "validation loss"),
    ("mean_fg_dice", "pseudo Dice (validation patches)"),
)
BOLD, THIN = 2.2, 0.8  # points


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


def training_curves(models: Mapping[str, pd.DataFrame], title: str = "", together: bool = False) -> Figure:
    """Panels of training loss, validation loss and pseudo Dice; folds by name, their mean in bold.

    All losses have one range, all pseudo Dice too, and all panels one range of epochs, so that heights can be compared
    between panels. The mean is drawn over epochs that every fold has finished.

    Args:
        models: name -> table of ``read_model``.
        title: of the whole figure.
        together: all models on one axis, such as two trainers: a colour each, folds thin. Otherwise a row of panels
            each, a colour a fold.
    """
    rows = 1 if together else len(models)
    figure = Figure(figsize=(11.0, 1.0 + 2.6 * rows), layout="constrained", facecolor=LIGHT["figure"])
    axes = figure.subplots(rows, len(PANELS), squeeze=False, sharex=True)
    handles: dict[str, Line2D] = {}
    if together:
        for number, (name, table) in enumerate(models.items()):
            colour, dash = series_style(number)
            folds = ", ".join(_folds(table))
            handles[f"{name} (fold {folds})"] = _sample(colour, dash, BOLD)
            for axis, (column, _) in zip(axes[0], PANELS, strict=True):
                for _, fold in table.groupby("fold"):
                    _line(axis, fold.set_index("epoch")[column], colour, dash, THIN, 0.4)
                _line(axis, mean_of_folds(table, column), colour, dash, BOLD)
    else:
        fold_styles = {fold: series_style(number) for number, fold in enumerate(_folds(*models.values()))}
        handles = {f"fold {fold}": _sample(*style, 1.2) for fold, style in fold_styles.items()}
        if len(fold_styles) > 1:
            handles["mean of the folds"] = _sample(LIGHT["mean"], "-", BOLD)
        for (name, table), row in zip(models.items(), axes, strict=True):
            for axis, (column, _) in zip(row, PANELS, strict=True):
                for fold_name, fold in table.groupby("fold"):
                    _line(axis, fold.set_index("epoch")[column], *fold_styles[str(fold_name)], 1.2)
                if table["fold"].nunique() > 1:
                    _line(axis, mean_of_folds(table, column), LIGHT["mean"], "-", BOLD)
            row[0].set_title(plot_text(shortened(name, 110)), fontsize=10, loc="left")
    _finish(axes, list(models.values()))
    figure.legend(
        handles=list(handles.values()),
        labels=[plot_text(shortened(label, 120)) for label in handles],
        loc="outside lower center",
        ncols=1 if together else min(len(handles), 8),
        frameon=False,
        fontsize=8,
    )
    if title:
        figure.suptitle(wrapped(title, figure.get_figwidth(), 10), fontsize=10)
    return figure


def mean_of_folds(table: pd.DataFrame, column: str) -> pd.Series:
    """Mean over folds by epoch, for the epochs that all folds of the table have."""
    by_epoch = table.groupby("epoch")[column]
    return by_epoch.mean()[by_epoch.size() == table["fold"].nunique()]


def _folds(*tables: pd.DataFrame) -> list[str]:
    names = {str(fold) for table in tables for fold in table["fold"]}
    return sorted(names, key=lambda name: (not name.isdecimal(), int(name) if name.isdecimal() else 0, name))


def _sample(colour: str, dash: Dash, width: float) -> Line2D:
    return Line2D([], [], color=colour, linestyle=dash, linewidth=width)


def _line(axis: Axes, values: pd.Series, colour: str, dash: Dash, width: float, alpha: float = 1.0) -> None:
    # A single epoch is no line, so it is a point.
    marker = "o" if len(values) == 1 else None
    axis.plot(
        values.index, values, color=colour, linestyle=dash, linewidth=width, alpha=alpha, marker=marker, markersize=3
    )


def _range(tables: Sequence[pd.DataFrame]) -> tuple[float, float]:
    losses = np.concatenate([table[["train_losses", "val_losses"]].to_numpy(dtype=float).ravel() for table in tables])
    losses = losses[np.isfinite(losses)]
    if not losses.size:
        return 0.0, 1.0
    margin = 0.05 * (float(np.ptp(losses)) or 1.0)
    return float(losses.min()) - margin, float(losses.max()) + margin


def _finish(axes: np.ndarray, tables: Sequence[pd.DataFrame]) -> None:
    losses, last = _range(tables), max(table["epoch"].max() for table in tables)
    for axis, (column, words) in zip(axes.flat, PANELS * len(axes), strict=True):
        axis.set_ylabel(words, fontsize=9)
        axis.set_ylim(*((0.0, 1.0) if column == "mean_fg_dice" else losses))
        axis.set_xlabel("epoch", fontsize=9)
        axis.set_xlim(-0.5, last + 0.5)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axis.tick_params(labelsize=8, labelbottom=True)
        axis.grid(color=LIGHT["grid"], linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)


def write_training_curves(
    models: Mapping[str, pd.DataFrame], path: Path, title: str = "", together: bool = False
) -> Path:
    """Draw ``training_curves`` into a PNG file."""
    return save(training_curves(models, title, together), path)
