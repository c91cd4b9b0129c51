"""Means over the cases of an evaluation, as data (``metrics.json``) and as a table for the screen."""

from __future__ import annotations

import importlib.metadata
import math
import platform
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nnunet_ext import __version__
from nnunet_ext.evaluation.columns import Columns
from nnunet_ext.evaluation.metrics import POLICIES, Metric, brats_column
from nnunet_ext.evaluation.sources import Source
from nnunet_ext.shown import text_table

#: grows when a reader of the file must know of it
FORMAT = 1
_POLICY_OF_ALL = "any"


def described_columns(columns: Columns) -> dict[str, dict[str, Any]]:
    """Column -> metric, policy on empty masks, unit, direction, definition and formula.

    The policy is ``any`` where both count the same.
    """
    described = {}
    for metric in columns.metrics():
        about = {
            "metric": metric.name,
            "unit": metric.unit,
            "higher_is_better": metric.higher_is_better,
            "definition": metric.definition,
            "formula": metric.formula,
        }
        if not metric.follows_policy:
            described[metric.name] = {**about, "policy": _POLICY_OF_ALL, "empty_masks": "computed"}
            continue
        for policy, column in (("nnunet", metric.name), ("brats", brats_column(metric))):
            described[column] = {**about, "policy": policy, "empty_masks": _empty(metric, policy)}
    return described


def _empty(metric: Metric, policy: str) -> dict[str, float | None]:
    values = metric.empty[policy]
    assert values is not None
    return {state: _number(value) for state, value in values._asdict().items()}


def summarize(
    table: pd.DataFrame, source: Source, columns: Columns, problems: Mapping[str, str], notes: Iterable[str] = ()
) -> dict[str, Any]:
    """The content of ``metrics.json``: numbers that are undefined are null.

    ``mean`` has for each region and column the mean over cases, the standard deviation of a sample (n - 1), median,
    quartiles (linear between order statistics), extremes, the number n of cases that enter and that of those that are
    undefined there. ``foreground_mean`` is the mean of the means of the regions, as in nnU-Net's ``summary.json``, but
    of the regions that have one: ``regions`` says how many.
    """
    described = described_columns(columns)
    regions = list(dict.fromkeys(table["region"]))
    per_region = {region: table[table["region"] == region] for region in regions}
    mean = {
        region: {column: _statistics(rows[column].to_numpy(dtype=float)) for column in described}
        for region, rows in per_region.items()
    }
    return {
        "format": FORMAT,
        "predictions": str(source.predictions),
        "references": str(source.references),
        "folds": list(source.folds),
        "cases": int(table["case"].nunique()),
        "spacing_unit": "pixels" if columns.pixels else "mm",
        "challenge": columns.challenge or None,
        "policies": dict(POLICIES),
        "foreground_mean": {column: _over_regions(mean, column) for column in described},
        "mean": mean,
        "empty_masks": {
            region: {state: int((rows["empty"] == state).sum()) for state in ("both", "prediction", "reference")}
            for region, rows in per_region.items()
        },
        "columns": described,
        "problems": dict(sorted(problems.items())),
        "notes": list(notes),
        "versions": {
            "nnunet_ext": __version__,
            "python": platform.python_version(),
            **{name: importlib.metadata.version(name) for name in ("numpy", "scipy", "scikit-image", "SimpleITK")},
        },
    }


def _statistics(values: np.ndarray) -> dict[str, float | int | None]:
    known = values[~np.isnan(values)]
    found: dict[str, float] = {}
    if known.size:
        low, median, high = np.percentile(known, (25, 50, 75))
        found = {
            "mean": known.mean(),
            "sd": known.std(ddof=1) if known.size > 1 else math.nan,
            "median": median,
            "q1": low,
            "q3": high,
            "min": known.min(),
            "max": known.max(),
        }
    names = ("mean", "sd", "median", "q1", "q3", "min", "max")
    numbers = {name: _number(found.get(name, math.nan)) for name in names}
    return {**numbers, "n": int(known.size), "undefined": int(values.size - known.size)}


def _over_regions(mean: Mapping[str, Mapping[str, Mapping[str, Any]]], column: str) -> dict[str, Any]:
    means = [columns[column]["mean"] for columns in mean.values() if columns[column]["mean"] is not None]
    return {"mean": float(np.mean(means)) if means else None, "regions": len(means)}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def as_text(summary: Mapping[str, Any]) -> str:
    """A table of means and medians for each region and metric, with both policies and the number of cases."""
    rows = [["region", "metric", "mean", "SD", "median", "n", "undefined", "mean, brats"], *_rows(summary)]
    lines = [text_table(rows, right=range(2, 8)), ""]
    for region, counts in summary["empty_masks"].items():
        if any(counts.values()):
            said = ", ".join(f"{state} {count}" for state, count in counts.items() if count)
            lines.append(f"empty masks of {region}: {said}")
    lines.append("policy: mean, SD, median and n leave undefined cases out, as nnU-Net's summary.json does;")
    lines.append("        'mean, brats' counts them as BraTS does (docs/evaluation.md). Never mix the two.")
    if summary["spacing_unit"] == "pixels":
        lines.append("distances are in pixels: the files know no mm")
    return "\n".join(lines)


def _rows(summary: Mapping[str, Any]) -> Iterator[list[str]]:
    described = summary["columns"]
    shown = [column for column, about in described.items() if about["policy"] != "brats"]
    for region, means in summary["mean"].items():
        for column in shown:
            found = means[column]
            twin = means.get(f"{column}_brats")
            yield [
                region,
                _headed(column, described[column]),
                *(_shown(found[key]) for key in ("mean", "sd", "median")),
                str(found["n"]),
                str(found["undefined"]),
                _shown(twin["mean"]) if twin else "",
            ]
    if len(summary["mean"]) > 1:
        for column in shown:
            over, twin = summary["foreground_mean"][column], summary["foreground_mean"].get(f"{column}_brats")
            mean = _shown(over["mean"])
            headed = _headed(column, described[column])
            yield ["mean of regions", headed, mean, "", "", "", "", _shown(twin["mean"]) if twin else ""]


def _headed(column: str, about: Mapping[str, Any]) -> str:
    return f"{column} [{about['unit']}]" if about["unit"] else column


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}" if abs(value) < 10 else f"{value:.2f}"
