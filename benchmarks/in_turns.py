"""CPU times of several calls that take turns within one process, and the ratios of such times."""

from __future__ import annotations

import ctypes
import random
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

Name = TypeVar("Name")


def keep_freed_memory() -> None:
    """Keep freed memory in this process, as PyTorch does on a GPU: otherwise each map of 32 MiB or more is fetched from
    the system and given back every time, which costs more than to compute it. Nothing happens without glibc."""
    trim_threshold, mmap_maximum = -1, -4  # of mallopt(3)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(mmap_maximum, 0)
        mallopt(trim_threshold, 2**31 - 1)


def seconds_of(call: Callable[[], Any]) -> float:
    """CPU seconds of this process, which other processes on the machine lengthen little."""
    start = time.process_time()
    call()
    return time.process_time() - start


def in_turns(calls: Mapping[Name, Callable[[], Any]], turns: int) -> dict[Name, list[float]]:
    """Seconds of each call, one a turn, after one turn to warm up; the order changes from turn to turn."""
    found: dict[Name, list[float]] = {name: [] for name in calls}
    order = random.Random(0)
    for turn in range(turns + 1):
        for name in order.sample(list(calls), len(calls)):
            seconds = seconds_of(calls[name])
            if turn:
                found[name].append(seconds)
    return found


class Ratio(NamedTuple):
    """Median of the turns' own ratios, and the quartiles; with fewer than four turns the least and the largest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: list[float], base: list[float]) -> Ratio:
        ratios = [value / other for value, other in zip(values, base, strict=True)]
        low, high = min(ratios), max(ratios)
        if len(ratios) >= 4:
            low, _, high = statistics.quantiles(ratios, n=4)
        return cls(statistics.median(ratios), low, high)

    def __str__(self) -> str:
        digits = 1 if self.median >= 10 else 2 if self.median >= 0.1 else 3
        return f"{self.median:.{digits}f} ({self.low:.{digits}f}-{self.high:.{digits}f})"
