"""Paired statistics over cases: intervals, tests, ranks. The unit is a case, or a group of cases that belong together.

Sources: F. Wilcoxon, Biometrics Bulletin 1945, doi 10.2307/3001968; S. Holm, Scandinavian Journal of Statistics 1979;
D. S. Kerby, Comprehensive Psychology 2014, doi 10.2466/11.IT.3.1 (effect size); M. Wiesenfarth et al., Scientific
Reports 2021, doi 10.1038/s41598-021-82017-6 (stability of ranks).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import PermutationMethod, rankdata, wilcoxon

DRAWS = 10_000
SEED = 0
#: share of draws that an interval holds
LEVEL = 0.95
#: decimals of differences, so that arithmetic does not break ties
DECIMALS = 6
#: differences that the exact distribution of the signed ranks serves, and those of which all signs can be tried
MOST_EXACT, MOST_PERMUTED = 50, 13
#: fewer differences cannot reach p = 0.05 by the signed-rank test, however they lie
FEWEST_PAIRS = 6
_CHUNK = 1 << 22  # numbers drawn at a time


@dataclass(frozen=True)
class SignedRank:
    """The Wilcoxon signed-rank test, two-sided, zero differences left out.

    Attributes:
        statistic: the smaller of the two sums of ranks.
        p: None where every difference is zero.
        method: ``"exact"``, ``"permutation"`` (all signs, where there are ties), or ``"asymptotic"``.
        pairs: differences that are not zero.
        effect: matched-pairs rank-biserial correlation, from -1 to 1: share of ranks above zero minus share below.
    """

    statistic: float
    p: float | None
    method: str
    pairs: int
    effect: float


def signed_rank(differences: ArrayLike) -> SignedRank:
    """Of paired differences, rounded to ``DECIMALS``; its method depends on their number and on ties alone, whatever
    the release of scipy."""
    rounded = np.round(np.asarray(differences, dtype=float), DECIMALS)
    given = rounded[rounded != 0]
    if not given.size:
        return SignedRank(0.0, None, "exact", 0, 0.0)
    ranks = rankdata(np.abs(given))
    above, below = float(ranks[given > 0].sum()), float(ranks[given < 0].sum())
    ties = len(np.unique(np.abs(given))) < given.size
    name, method = "asymptotic", "asymptotic"
    if not ties and given.size <= MOST_EXACT:
        name = method = "exact"
    elif ties and given.size <= MOST_PERMUTED:
        name, method = "permutation", PermutationMethod(n_resamples=1 << MOST_PERMUTED)
    found = wilcoxon(given, zero_method="wilcox", method=method)
    return SignedRank(float(found.statistic), float(found.pvalue), name, given.size, (above - below) / (above + below))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p values, in the order given: each the largest of ``min(1, (m - j + 1) p_(j))`` up to its own place."""
    order = np.argsort(p_values, kind="stable")
    adjusted, largest = [0.0] * len(order), 0.0
    for place, index in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - place) * float(p_values[index])))
        adjusted[index] = largest
    return adjusted


def bootstrap(
    values: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray] | None = None,
    draws: int = DRAWS,
    seed: int = SEED,
) -> np.ndarray:
    """A statistic of ``draws`` samples with replacement of the rows of ``values``.

    Args:
        values: (n,) or (n, k), a row a unit.
        statistic: of an array (d, n) or (d, n, k), a value or a row for each draw; the mean over n unless given.
        draws, seed: number of samples, and where the generator starts.
    """
    statistic = statistic or (lambda drawn: drawn.mean(axis=1))
    generator = np.random.default_rng(seed)
    count = len(values)
    # All at once where they fit, so that the numbers do not depend on how they are cut.
    step = max(1, _CHUNK // max(1, count))
    parts = [
        statistic(values[generator.integers(0, count, (min(step, draws - start), count))])
        for start in range(0, draws, step)
    ]
    return np.concatenate(parts)


def interval(drawn: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The percentile interval of bootstrap draws."""
    low, high = np.percentile(drawn, [50 * (1 - level), 50 * (1 + level)])
    return float(low), float(high)


@dataclass(frozen=True)
class Paired:
    """One method against another over the same units.

    Attributes:
        units: compared.
        left_out: in which one of them has no value.
        mean, median: of the differences, the second minus the first.
        low, high: bootstrap interval of the mean difference.
        test: the signed-rank test.
        wins, ties, losses: units in which the second is better, equal, worse.
    """

    units: int
    left_out: int
    mean: float
    median: float
    low: float
    high: float
    test: SignedRank
    wins: int
    ties: int
    losses: int

    @property
    def can_tell(self) -> bool:
        """Whether any differences of that number could reach p = 0.05."""
        return self.test.pairs >= FEWEST_PAIRS


def paired(first: ArrayLike, second: ArrayLike, higher_is_better: bool = True, seed: int = SEED) -> Paired:
    """Compare two methods over units in the same order; a unit that is NaN for one of them drops for both.

    Raises:
        ValueError: another number of units, or none left.
    """
    a, b = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    if a.shape != b.shape:
        raise ValueError(f"{len(a)} and {len(b)} units cannot be paired")
    both = ~(np.isnan(a) | np.isnan(b))
    if not both.any():
        raise ValueError("no unit has a value for both")
    difference = np.round(b[both] - a[both], DECIMALS)
    low, high = interval(bootstrap(difference, seed=seed))
    better = difference if higher_is_better else -difference
    return Paired(
        units=int(both.sum()),
        left_out=int((~both).sum()),
        mean=float(difference.mean()),
        median=float(np.median(difference)),
        low=low,
        high=high,
        test=signed_rank(difference),
        wins=int((better > 0).sum()),
        ties=int((better == 0).sum()),
        losses=int((better < 0).sum()),
    )


def ranks(values: np.ndarray, higher_is_better: bool = True) -> np.ndarray:
    """(units, methods) -> rank of each method in each unit, 1 the best, ties averaged. NaN ranks last."""
    worst = -np.inf if higher_is_better else np.inf
    filled = np.where(np.isnan(values), worst, np.round(values, DECIMALS))
    ranked: np.ndarray = rankdata(-filled if higher_is_better else filled, axis=1)
    return ranked


def rank_stability(rank_of_units: np.ndarray, seed: int = SEED, draws: int = DRAWS) -> np.ndarray:
    """(units, methods) ranks -> share of bootstrap draws in which each method has the best mean rank; draws in which
    several do count a part for each."""

    def best(drawn: np.ndarray) -> np.ndarray:
        means = drawn.mean(axis=1)
        first = means == means.min(axis=1, keepdims=True)
        return first / first.sum(axis=1, keepdims=True)

    shares: np.ndarray = bootstrap(rank_of_units, best, draws, seed).mean(axis=0)
    return shares
