"""What a figure shows of one case, read from nnU-Net's folders, and which cases it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.images import read_label_map
from nnunet_ext.evaluation.metrics import DICE, Metric
from nnunet_ext.evaluation.regions import foreground
from nnunet_ext.report.cuts import Cut, cut, default_axis, fullest_slice, whole_picture
from nnunet_ext.report.grid import Grid, read_shown_image, read_shown_shape


@dataclass(frozen=True)
class CaseView:
    """One case of a figure. Label maps are (Z, Y, X) or (Y, X) of one shape; images may hold three colours after that.

    Attributes:
        title: such as ``worst: case 7``.
        images: column title -> intensities.
        reference: label map.
        predictions: column title -> label map.
        dice: column title -> region -> Dice over the whole case (NaN where undefined).
        grid: of all of them; cubes of 1 mm in an unknown orientation if not given.
        axis: array axis to cut across; ``cuts.default_axis`` of the grid if not given.
    """

    title: str
    images: Mapping[str, np.ndarray]
    reference: np.ndarray
    predictions: Mapping[str, np.ndarray]
    dice: Mapping[str, Mapping[str, float]]
    grid: Grid | None = None
    axis: int | None = None

    def shown_cut(self, dataset: Mapping) -> Cut:
        """The plane to show: where the regions of the reference cover most."""
        grid = self.grid or Grid((1.0,) * self.reference.ndim)
        if self.reference.ndim == 2:
            return whole_picture(grid)
        axis = default_axis(grid) if self.axis is None else self.axis
        index = fullest_slice(self.reference, list(foreground(dataset).values()), axis)
        return cut(grid, self.reference.shape, index, axis)


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
        title: of the case in the figure.
        case: name without channel and ending.
        images: column title -> image file; the first one's grid is taken for all.
        references: folder of label maps.
        predictions: column title -> folder of label maps.
        tables: the same column titles -> table of ``evaluate_folder``, one policy.
        dataset: content of dataset.json.

    Raises:
        UserError: a file is missing or unreadable, or its shape is not that of the first image.
    """
    label_map = f"{case}{dataset['file_ending']}"
    reference = read_label_map(references / label_map)[0]
    # Of headers: what has another size may be too large to read.
    for path in (*images.values(), *(folder / label_map for folder in predictions.values())):
        shape = read_shown_shape(path)
        if shape != reference.shape:
            raise UserError(f"its shape {shape} is not that of its reference {reference.shape}", file=path)
    shown = {column: read_shown_image(path) for column, path in images.items()}
    _, grid = next(iter(shown.values()))
    predicted = {column: read_label_map(folder / label_map)[0] for column, folder in predictions.items()}
    return CaseView(
        title=title,
        images={column: array for column, (array, _) in shown.items()},
        reference=reference,
        predictions=predicted,
        dice={
            column: table[table["case"] == case].set_index("region")[DICE.name].to_dict()
            for column, table in tables.items()
        },
        grid=grid,
    )
