"""Times of several calls that take turns, so that whatever slows the machine down hits all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from training import wait


def taking_turns(
    calls: Mapping[str, Callable[[], Any]],
    device: torch.device,
    rounds: int,
    seconds: float,
    repeats: int = 1,
) -> dict[str, list[float]]:
    """Seconds of one call, by name, one for each round.

    Args:
        calls: warmed up already.
        device: that they run on.
        rounds: at most; at least one is made.
        seconds: no round begins that would end later than this from now.
        repeats: of a call within its turn, for calls that are over in no time.
    """
    found: dict[str, list[float]] = {name: [] for name in calls}
    begun = time.perf_counter()
    longest = 0.0
    for _ in range(rounds):
        round_begun = time.perf_counter()
        if longest and round_begun - begun + longest > seconds:
            break
        for name, call in calls.items():
            wait(device)
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            wait(device)
            found[name].append((time.perf_counter() - start) / repeats)
        longest = max(longest, time.perf_counter() - round_begun)
    return found


def spread(values: list[float]) -> str:
    """For a note: how far the values lie apart, by quartiles; of fewer than four, by the least and the largest."""
    low, high = min(values), max(values)
    if len(values) >= 4:
        low, _, high = statistics.quantiles(values, n=4)
    return f"{low:.4g} to {high:.4g}, {len(values)} values"


def ratio(values: list[float], base: list[float]) -> list[float]:
    """Of each round."""
    return [value / other for value, other in zip(values, base, strict=True)]
