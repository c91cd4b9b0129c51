"""Worst, median and best case side by side: images, reference, predictions, the Dice under each tile."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.evaluate import foreground
from nnunet_ext.evaluation.images import read_image, read_label_map
from nnunet_ext.evaluation.metrics import DICE, Metric
from nnunet_ext.report.style import DARK, REGIONS, save
from nnunet_ext.shown import plot_text

OPACITY = 0.6
TILE = 1.9  # inches across


@dataclass(frozen=True)
class CaseView:
    """What one row of the figure shows, all arrays (Z, Y, X) or (Y, X) of one shape.

    ``images``: column title -> intensities. ``predictions``: column title -> label map. ``dice``: column title ->
    region -> Dice (NaN where undefined).
    """

    title: str
    images: Mapping[str, np.ndarray]
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]
    dice: Mapping[str, Mapping[str, float]]


def worst_median_best(table: pd.DataFrame, metric: Metric = DICE) -> dict[str, str]:
    """``worst``, ``median``, ``best`` -> case, by a metric's mean over regions; fewer entries if there are fewer cases.

    Args:
        table: of ``evaluate_folder``, one policy. A case whose metric is undefined in all regions is not chosen.
        metric: that orders the cases.
    """
    means = table.groupby("case")[metric.name].mean().dropna()
    means = means.sort_values(kind="stable", ascending=metric.higher_is_better)
    if means.empty:
        raise ValueError(f"no case of the table has a defined {metric.name}")
    chosen: dict[str, str] = {}
    for name, position in (("worst", 0), ("best", len(means) - 1), ("median", (len(means) - 1) // 2)):
        if means.index[position] not in chosen.values():
            chosen[name] = str(means.index[position])
    return {name: chosen[name] for name in ("worst", "median", "best") if name in chosen}


def fullest_slice(reference: np.ndarray, regions: Sequence[Sequence[int]]) -> int:
    """Index along axis 0 where the regions together cover most; nested regions count once each."""
    covered = sum(np.isin(reference, values).sum(axis=tuple(range(1, reference.ndim))) for values in regions)
    return int(np.argmax(covered)) if np.any(covered) else len(reference) // 2


def _plane(volume: np.ndarray, index: int) -> np.ndarray:
    return volume[index] if volume.ndim == 3 else volume


def _window(image: np.ndarray) -> tuple[float, float]:
    # Percentiles of the tissue: skull-stripped images are mostly exact zeros.
    tissue = image[image != 0]
    if not tissue.size:
        return 0.0, 1.0
    low, high = np.percentile(tissue, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def _frame(axis: Axes, shape: tuple[int, ...]) -> None:
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_facecolor("black")
    axis.set_xlim(-0.5, shape[1] - 0.5)
    axis.set_ylim(shape[0] - 0.5, -0.5)


def _show_labels(axis: Axes, plane: np.ndarray, regions: Mapping[str, Sequence[int]]) -> None:
    fill = np.zeros((*plane.shape, 4))
    for colour, values in zip(REGIONS, regions.values(), strict=False):
        fill[np.isin(plane, values)] = (*to_rgb(colour), OPACITY)
    axis.imshow(fill, interpolation="nearest")


def _show_outline(axis: Axes, plane: np.ndarray, values: Sequence[int]) -> None:
    mask = np.isin(plane, values)
    if mask.any() and not mask.all():
        axis.contour(mask.astype(float), levels=[0.5], colors="white", linewidths=0.9)


def _dice_line(dice: Mapping[str, float], short: Mapping[str, str]) -> str:
    values = {region: "-" if np.isnan(value) else f"{value:.2f}" for region, value in dice.items()}
    return plot_text("   ".join(f"{short[region]} {value}" for region, value in values.items()))


def _initials(regions: Sequence[str]) -> dict[str, str]:
    initials = ["".join(word[0].upper() for word in name.replace("_", " ").split()) for name in regions]
    unambiguous = len(set(initials)) == len(initials) and all(len(word) > 1 for word in initials)
    return dict(zip(regions, initials if unambiguous else regions, strict=True))


def overlay(views: Sequence[CaseView], dataset: Mapping, title: str = "") -> Figure:
    """One row a case: its images, the reference, each prediction with the reference's outline in white.

    Regions are painted in the order of the dataset.json, so inner ones lie on outer ones; the slice shown is the one
    where the reference covers most.

    Args:
        views: rows from top to bottom, all with the same columns.
        dataset: content of dataset.json, for names and label values.
        title: of the whole figure.

    Raises:
        UserError: the dataset has no label to show.
    """
    regions = foreground(dataset)
    if not regions:
        raise UserError("the dataset.json names no label but background and ignore")
    short = _initials(list(regions))
    outermost = next(iter(regions.values()))
    first = views[0]
    columns = [*first.images, "reference", *first.predictions]
    rows, width = first.reference.shape[-2:]
    figure = Figure(
        figsize=(0.4 + TILE * len(columns), 0.75 + (TILE * rows / width + 0.15) * len(views)),
        facecolor=DARK["figure"],
        layout="constrained",
    )
    axes = figure.subplots(len(views), len(columns), squeeze=False)
    for view, row in zip(views, axes, strict=True):
        index = fullest_slice(view.reference, list(regions.values())) if view.reference.ndim == 3 else 0
        reference = _plane(view.reference, index)
        backdrop = _plane(next(iter(view.images.values())), index)
        for axis, column in zip(row, columns, strict=True):
            image = _plane(view.images[column], index) if column in view.images else backdrop
            low, high = _window(image)
            axis.imshow(image, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            _frame(axis, image.shape)
            if column == "reference":
                _show_labels(axis, reference, regions)
                axis.set_xlabel("Dice over the whole case:", fontsize=7, color=DARK["muted"])
            elif column in view.predictions:
                _show_labels(axis, _plane(view.predictions[column], index), regions)
                _show_outline(axis, reference, outermost)
                axis.set_xlabel(_dice_line(view.dice[column], short), fontsize=7, color=DARK["text"])
        row[0].set_ylabel(plot_text(view.title), fontsize=8, color=DARK["text"])
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(plot_text(column), fontsize=9, color=DARK["text"])
    handles: list[Patch | Line2D] = [
        Patch(facecolor=colour, label=plot_text(name if short[name] == name else f"{name} ({short[name]})"))
        for colour, name in zip(REGIONS, regions, strict=False)
    ]
    handles.append(
        Line2D(
            [], [], color="white", linewidth=1.2, label=plot_text(f"outline of the reference ({next(iter(regions))})")
        )
    )
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        labelcolor=DARK["text"],
    )
    if title:
        figure.suptitle(plot_text(title), fontsize=10, color=DARK["text"])
    return figure


def load_view(
    title: str,
    case: str,
    *,
    images: Mapping[str, Path],
    references: Path,
    predictions: Mapping[str, Path],
    tables: Mapping[str, pd.DataFrame],
    dataset: Mapping,
) -> CaseView:
    """Read one case from folders laid out as nnU-Net does.

    Args:
        title: label of the row.
        case: name without channel and ending.
        images: column title -> image file.
        references: folder of label maps.
        predictions: column title -> folder of label maps.
        tables: the same column titles -> table of ``evaluate_folder``, one policy.
        dataset: content of dataset.json.
    """
    ending = dataset["file_ending"]
    scores = {
        column: table[table["case"] == case].set_index("region")[DICE.name].to_dict()
        for column, table in tables.items()
    }
    return CaseView(
        title=title,
        images={column: read_image(path)[0] for column, path in images.items()},
        reference=read_label_map(references / f"{case}{ending}")[0],
        predictions={column: read_label_map(folder / f"{case}{ending}")[0] for column, folder in predictions.items()},
        dice=scores,
    )


def write_overlay(views: Sequence[CaseView], dataset: Mapping, path: Path, title: str = "") -> Path:
    """Draw ``overlay`` into a PNG file."""
    return save(overlay(views, dataset, title), path)
