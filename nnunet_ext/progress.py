"""One progress bar for all long work, on stderr, and a line a minute where nobody watches."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from nnunet_ext.shown import printable

_SECONDS_BETWEEN_LINES = 60.0

Item = TypeVar("Item")


class Progress:
    """A bar with the time left while stderr is a terminal; otherwise one line every 60 s.

    Args:
        what: that is done, such as ``"evaluate"``.
        total: number of units; with 0 nothing is shown.
        unit: what is counted.
        scale: shorten large numbers, such as bytes, to k, M, G.
    """

    def __init__(self, what: str, total: int, unit: str = "case", scale: bool = False) -> None:
        from tqdm import tqdm  # light commands import this module and show no bar

        what = printable(what)  # it may name a file
        self._what, self._total, self._unit, self._done = what, total, unit, 0
        self._terminal = sys.stderr.isatty()
        self._bar = tqdm(
            desc=what,
            total=total,
            unit=unit,
            unit_scale=scale,
            disable=not self._terminal or total == 0,
            file=sys.stderr,
        )
        self._start = self._last = time.monotonic()

    def step(self, count: int = 1) -> None:
        """``count`` more units are done."""
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if not self._terminal and now - self._last >= _SECONDS_BETWEEN_LINES:
            self._last = now
            left = (now - self._start) / max(self._done, 1) * max(self._total - self._done, 0)
            print(
                f"{self._what}: {self._done}/{self._total} {self._unit}, about {left / 60:.0f} min left",
                file=sys.stderr,
            )

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()


def with_progress(items: Iterable[Item], what: str, total: int, unit: str = "case") -> Iterator[Item]:
    """The items one by one, counted as done when the next one is asked for. Arguments as of ``Progress``."""
    with Progress(what, total, unit) as progress:
        for item in items:
            yield item
            progress.step()
