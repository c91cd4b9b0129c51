"""Scores of several models in one CSV file that a spreadsheet opens: means first, rounded, policies in words."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nnunet_ext.evaluation.metrics import MAIN_METRICS, Metric
from nnunet_ext.files import write_atomically
from nnunet_ext.shown import csv_cell

# Values of the column ``kind``. Only rows of cases name a case, only rows of cases and regions name a region.
OVER_REGIONS, OVER_CASES, CASE = "mean over cases, then over regions", "mean over cases", "case"
TEXT = ("model", "kind", "case", "region", "policy", "empty masks")
DECIMALS = {"": 4, "mm": 2}


def empty_mask_rule(policy: str, metrics: tuple[Metric, ...] = MAIN_METRICS) -> str:
    """What each metric counts under a policy where a mask holds no voxel, in words."""

    def said(value: float, decimals: int) -> str:
        return "left out" if math.isnan(value) else f"{round(value, decimals):g}"

    def counts(state: str) -> str:
        values = [(metric, getattr(metric.empty[policy], state)) for metric in metrics]
        return ", ".join(f"{metric.name} {said(value, DECIMALS[metric.unit])}" for metric, value in values)

    both, prediction, reference = counts("both"), counts("prediction"), counts("reference")
    if prediction == reference:
        return f"both: {both}; one: {prediction}"
    return f"both: {both}; prediction: {prediction}; reference: {reference}"


def _column(metric: Metric) -> str:
    return f"{metric.name} [{metric.unit}]" if metric.unit else metric.name


def score_rows(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows of the file, unrounded: for each model means over cases and regions, means over cases, then cases.

    Values that are undefined under a policy are left out of its means; ``cases`` says how many cases gave a Dice.

    Args:
        tables: model -> table of ``evaluate_folder``.
    """
    names = [metric.name for metric in MAIN_METRICS]
    parts = []
    for model, table in tables.items():
        groups = table.groupby(["policy", "region"], sort=False)
        by_region = groups[names].mean().assign(cases=groups[names[0]].count()).reset_index()
        overall = by_region.groupby("policy", sort=False)[names].mean().reset_index()
        for kind, rows in ((OVER_REGIONS, overall), (OVER_CASES, by_region), (CASE, table)):
            parts.append(rows.assign(model=model, kind=kind))
    rows = pd.concat(parts, ignore_index=True)
    rows["empty masks"] = rows["policy"].map(empty_mask_rule)
    rest = [name for name in rows.columns if name not in (*TEXT, "cases", *names)]
    return rows[[*TEXT[:-1], "cases", *names, *rest, TEXT[-1]]]


def write_scores(tables: Mapping[str, pd.DataFrame], path: Path) -> Path:
    """Write ``score_rows`` rounded: shares of 1 to four decimals, mm to two. Undefined values are empty cells."""
    rows = score_rows(tables)
    for metric in MAIN_METRICS:
        rows[metric.name] = rows[metric.name].round(DECIMALS[metric.unit])
    for column in rows.columns:
        if column.startswith("voxels_") or column == "cases":
            rows[column] = rows[column].astype("Int64")
        elif not pd.api.types.is_numeric_dtype(rows[column]):
            rows[column] = rows[column].map(csv_cell, na_action="ignore")
    text = io.StringIO()
    rows.rename(columns={metric.name: _column(metric) for metric in MAIN_METRICS}).to_csv(text, index=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        stream.write(text.getvalue().encode())
    return path


def read_scores(path: Path) -> dict[str, pd.DataFrame]:
    """Model -> its rows of cases in a file of ``write_scores``, with the columns of ``evaluate_folder``."""
    # Names stay the text they are: a region may be called NA, a case 001.
    numbers = {column: [""] for column in pd.read_csv(path, nrows=0).columns if column not in TEXT}
    rows = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=numbers)
    rows = rows[rows["kind"] == CASE].rename(columns={_column(metric): metric.name for metric in MAIN_METRICS})
    rows = rows.drop(columns=["kind", "cases", "empty masks"])
    return {str(model): table.drop(columns="model") for model, table in rows.groupby("model", sort=False)}
