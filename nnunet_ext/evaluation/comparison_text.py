"""What a comparison found as text for the screen, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nnunet_ext import __version__
from nnunet_ext.evaluation.columns import Columns
from nnunet_ext.evaluation.comparison import ALPHA, Comparison, Difference
from nnunet_ext.evaluation.metrics import POLICIES, Metric, brats_column
from nnunet_ext.evaluation.statistics import DRAWS, LEVEL
from nnunet_ext.shown import csv_cell, printable, text_table


def metric_columns(columns: Columns, policy: str) -> dict[str, Metric]:
    """Column of a table of cases -> metric, under a policy on empty masks."""
    twins = policy == "brats"
    return {
        brats_column(metric) if twins and metric.follows_policy else metric.name: metric for metric in columns.metrics()
    }


def as_text(found: Comparison, policy: str, grouped: bool) -> str:
    """Two tables, and a sentence for each pair of methods."""
    unit = "groups" if grouped else "cases"
    standings = [("metric", "region", "method", unit, "mean", "SD", "median", "95 % of the mean", "rank", "first in")]
    standings += [
        (
            each.metric,
            each.region,
            each.method,
            str(each.units),
            _number(each.mean),
            _number(each.deviation),
            _number(each.median),
            f"{_number(each.low)} to {_number(each.high)}",
            f"{each.mean_rank:.2f}",
            f"{100 * each.first:.0f} %",
        )
        for each in found.standings
    ]
    pairs = [("metric", "region", "pair", "mean difference", "95 %", "won/equal/lost", "effect", "p", "adjusted p")]
    pairs += [
        (
            each.metric,
            each.region,
            f"{each.second} - {each.first}",
            _signed(each.found.mean),
            f"{_signed(each.found.low)} to {_signed(each.found.high)}",
            f"{each.found.wins}/{each.found.ties}/{each.found.losses}",
            f"{each.found.test.effect:+.2f}",
            _probability(each.found.test.p),
            _probability(each.p),
        )
        for each in found.differences
    ]
    lines = [text_table(standings, right=range(3, 10)), "", text_table(pairs, right=range(3, 9)), ""]
    lines += [
        printable(f"{each.metric}, {each.region}, {each.second} - {each.first}: {each.verdict()}")
        for each in found.differences
    ]
    lines += ["", f"empty masks: {POLICIES[policy]}", _how(found)]
    left_out = {key: count for key, count in found.left_out.items() if count}
    lines += [
        printable(f"{region}, {metric}: {count} {unit} without a value in one method are left out for all")
        for (region, metric), count in left_out.items()
    ]
    return "\n".join(lines)


def as_json(
    found: Comparison,
    policy: str,
    seed: int,
    groups: Mapping[str, str] | None,
    summaries: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Plain data: the numbers, and how they were found."""
    return {
        "version": __version__,
        "policy": policy,
        "unit": "case" if groups is None else "group",
        "bootstrap": {"draws": DRAWS, "seed": seed, "level": LEVEL},
        "alpha": ALPHA,
        "adjusted_over": "the pairs of methods in a region and metric",
        "methods": {name: {"cases": summary["cases"]} for name, summary in summaries.items()},
        "standings": [asdict(each) for each in found.standings],
        "differences": [_difference(each) for each in found.differences],
        "left_out": [
            {"region": region, "metric": metric, "units": count} for (region, metric), count in found.left_out.items()
        ],
    }


def as_table(found: Comparison) -> str:
    """CSV, one row a pair of methods, region and metric."""
    rows = [_difference(each) for each in found.differences]
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(list(rows[0]) if rows else [])
    writer.writerows([csv_cell(value) for value in row.values()] for row in rows)
    return stream.getvalue()


def _difference(each: Difference) -> dict[str, Any]:
    found, test = each.found, each.found.test
    return {
        "metric": each.metric,
        "region": each.region,
        "first": each.first,
        "second": each.second,
        "units": found.units,
        "mean_difference": found.mean,
        "median_difference": found.median,
        "low": found.low,
        "high": found.high,
        "wins": found.wins,
        "ties": found.ties,
        "losses": found.losses,
        "effect": test.effect,
        "statistic": test.statistic,
        "method": test.method,
        "p": test.p,
        "adjusted_p": each.p,
        "better": each.better,
        "verdict": each.verdict(),
    }


def _how(found: Comparison) -> str:
    methods = ", ".join(sorted({each.found.test.method for each in found.differences if each.found.test.p is not None}))
    return (
        f"p: Wilcoxon signed-rank, two-sided, differences of zero left out ({methods or 'none'}); adjusted over the "
        "pairs of a region and metric (Holm), not over these: choose the one that decides before looking; "
        f"intervals: {DRAWS:,} bootstrap draws; rank 1 is best; 'first in': share of draws"
    )


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}"


def _probability(p: float | None) -> str:
    return "-" if p is None else f"{p:.2g}"
