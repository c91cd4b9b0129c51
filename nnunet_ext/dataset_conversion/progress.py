"""One progress bar, on stderr, and a line a minute where nobody watches."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from tqdm import tqdm

from nnunet_ext.shown import printable

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """A bar while stderr is a terminal; otherwise one line every 60 s."""

    def __init__(self, what: str, total: int, unit: str = "case", scale: bool = False) -> None:
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
