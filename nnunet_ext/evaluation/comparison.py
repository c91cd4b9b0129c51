"""Methods side by side: the same cases, region by region and metric by metric, and what can be said of it.

The tests of all pairs of methods are adjusted together (Holm), for each region and metric: the more methods, the larger
a difference has to be. Several regions and metrics are as many questions; the one that decides is to be chosen before
looking. Where cases belong together, such as slices of a patient, the unit is the group: its value is the mean over its
cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.metrics import Metric
from nnunet_ext.evaluation.statistics import (
    FEWEST_PAIRS,
    SEED,
    Paired,
    bootstrap,
    holm,
    interval,
    paired,
    rank_stability,
    ranks,
)

ALPHA = 0.05
#: name of the mean over the regions of a case
FOREGROUND = "mean of regions"


@dataclass(frozen=True)
class Standing:
    """One method in one region and metric.

    Attributes:
        method, region, metric: names.
        units: with a value for every method.
        mean, deviation, median: over them; ``deviation`` is that of a sample.
        low, high: bootstrap interval of the mean.
        mean_rank: 1 where it is the best everywhere.
        first: share of bootstrap draws in which its mean rank is the best.
    """

    method: str
    region: str
    metric: str
    units: int
    mean: float
    deviation: float
    median: float
    low: float
    high: float
    mean_rank: float
    first: float


@dataclass(frozen=True)
class Difference:
    """The second method against the first, in one region and metric.

    Attributes:
        first, second, region, metric: names.
        found: the numbers.
        p: adjusted over all pairs of this region and metric; None where there is no difference to test.
        higher_is_better: of the metric.
    """

    first: str
    second: str
    region: str
    metric: str
    found: Paired
    p: float | None
    higher_is_better: bool

    @property
    def beyond_noise(self) -> bool:
        """Whether the adjusted test and the interval of the mean difference both say so."""
        excludes_zero = self.found.low > 0 or self.found.high < 0
        return self.p is not None and self.p < ALPHA and excludes_zero

    @property
    def better(self) -> str:
        """The method that is better beyond noise; empty where none is."""
        if not self.beyond_noise:
            return ""
        return self.second if (self.found.mean > 0) == self.higher_is_better else self.first

    def verdict(self) -> str:
        """In words."""
        if self.better:
            other = self.first if self.better == self.second else self.second
            return f"{self.better} is better than {other} (adjusted p {self.p:.2g})"
        if self.found.test.pairs and not self.found.can_tell:
            return (
                f"no difference beyond noise: with {self.found.test.pairs} differing units no test can reach "
                f"p {ALPHA:g}, which takes {FEWEST_PAIRS}"
            )
        if self.p is None:
            return "no difference"
        return f"no difference beyond noise (adjusted p {self.p:.2g})"


@dataclass(frozen=True)
class Comparison:
    """Everything that a comparison found, regions and metrics in the order they were given."""

    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]
    left_out: Mapping[tuple[str, str], int]  # (region, metric) -> units without a value for every method


def compare(
    tables: Mapping[str, pd.DataFrame],
    metrics: Mapping[str, Metric],
    groups: Mapping[str, str] | None = None,
    seed: int = SEED,
) -> Comparison:
    """Compare methods over the same cases.

    Args:
        tables: name of a method -> one row a case and region, with the columns ``case``, ``region`` and the metrics'.
        metrics: column -> metric.
        groups: case -> what it belongs to; every case by itself unless given.
        seed: of the bootstrap.

    Raises:
        UserError: fewer than two methods, methods with other cases or regions, or a case without a group.
    """
    if len(tables) < 2:
        raise UserError("one method alone cannot be compared", remedy="name two or more")
    _check_same_cases(tables)
    first = next(iter(tables.values()))
    regions = list(dict.fromkeys(first["region"]))
    if groups is not None and (strangers := sorted(set(first["case"]) - set(groups))):
        raise UserError(f"{len(strangers)} cases have no group, such as {strangers[0]}")
    standings: list[Standing] = []
    differences: list[Difference] = []
    left_out: dict[tuple[str, str], int] = {}
    names = list(tables)
    for column, metric in metrics.items():
        for region in [*regions, FOREGROUND] if len(regions) > 1 else regions:
            values = _values(tables, column, region, groups)
            complete = ~np.isnan(values).any(axis=1)
            left_out[region, column] = int((~complete).sum())
            if not complete.any():
                continue
            kept = values[complete]
            standings += _standings(names, region, column, kept, metric.higher_is_better, seed)
            differences += _differences(names, region, column, values, metric.higher_is_better, seed)
    return Comparison(tuple(standings), tuple(differences), left_out)


def _differences(
    names: Sequence[str], region: str, column: str, values: np.ndarray, higher_is_better: bool, seed: int
) -> list[Difference]:
    """Of every pair of methods, whose tests are adjusted together."""
    pairs = list(combinations(range(len(names)), 2))
    found = [paired(values[:, a], values[:, b], higher_is_better, seed) for a, b in pairs]
    adjusted = iter(holm([each.test.p for each in found if each.test.p is not None]))
    return [
        Difference(
            names[a],
            names[b],
            region,
            column,
            each,
            None if each.test.p is None else next(adjusted),
            higher_is_better,
        )
        for (a, b), each in zip(pairs, found, strict=True)
    ]


def _check_same_cases(tables: Mapping[str, pd.DataFrame]) -> None:
    (first_name, first), *others = tables.items()
    cases, regions = set(first["case"]), set(first["region"])
    for name, table in others:
        here = set(table["case"])
        if here != cases:
            missing, more = sorted(cases - here), sorted(here - cases)
            example = f"{missing[0]} is in {first_name} alone" if missing else f"{more[0]} is in {name} alone"
            raise UserError(
                f"{first_name} and {name} were not evaluated on the same cases: {len(missing) + len(more)} differ, "
                f"such as {example}",
                remedy="predict the same cases with both, or evaluate those that both have in folders of their own",
            )
        if set(table["region"]) != regions:
            raise UserError(f"{first_name} and {name} were evaluated for other regions")


def _values(
    tables: Mapping[str, pd.DataFrame], column: str, region: str, groups: Mapping[str, str] | None
) -> np.ndarray:
    """(units, methods); a unit's value is the mean over its cases that have one. ``FOREGROUND``: over regions first."""
    columns = []
    for table in tables.values():
        chosen = table if region == FOREGROUND else table[table["region"] == region]
        of_case = chosen.groupby("case")[column].mean()
        if groups is not None:
            of_case = of_case.groupby(of_case.index.map(groups)).mean()
        columns.append(of_case.sort_index())
    return np.column_stack([each.to_numpy(float) for each in columns])


def _standings(
    names: Sequence[str], region: str, column: str, values: np.ndarray, higher_is_better: bool, seed: int
) -> list[Standing]:
    each_rank = ranks(values, higher_is_better)
    firsts = rank_stability(each_rank, seed)
    found = []
    for index, name in enumerate(names):
        of_method = values[:, index]
        low, high = interval(bootstrap(of_method, seed=seed))
        found.append(
            Standing(
                name,
                region,
                column,
                len(of_method),
                float(of_method.mean()),
                float(of_method.std(ddof=1)) if len(of_method) > 1 else 0.0,
                float(np.median(of_method)),
                low,
                high,
                float(each_rank[:, index].mean()),
                float(firsts[index]),
            )
        )
    return found
