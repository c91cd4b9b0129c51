"""The status line of the demo: which step runs, how many are left, and about how long they take.

Times are known beforehand from a quiet machine, and corrected by how long the finished steps took here.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import TextIO

# How many seconds' worth of work must be done before this machine's own pace outweighs the expected one.
TRUST_AFTER = 10.0


def seconds_left(expected_done: float, expected_left: float, elapsed: float) -> float:
    """Expected seconds of the rest, scaled by how long the part already done took on this machine.

    Args:
        expected_done: seconds the finished part takes on a quiet machine.
        expected_left: the same for the rest.
        elapsed: seconds the finished part took here.
    """
    return expected_left * (elapsed + TRUST_AFTER) / (expected_done + TRUST_AFTER)


def rounded(seconds: float) -> str:
    """``75 -> "1 min 20 s"``: to ten seconds, as an estimate deserves."""
    tens = max(10, round(seconds / 10) * 10)
    minutes, rest = divmod(tens, 60)
    return f"{minutes} min {rest} s" if minutes and rest else f"{minutes} min" if minutes else f"{rest} s"


class StatusLine:
    """Prints the line: refreshed every second on a terminal, otherwise once at the start of a step and after each part.

    Args:
        steps: title and expected seconds of each step, in order.
        stream: where to print; standard error if not given.
        clock: seconds, increasing.
    """

    def __init__(
        self,
        steps: Sequence[tuple[str, float]],
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._steps = steps
        self._stream = sys.stderr if stream is None else stream
        self._clock = clock
        self._start = clock()
        self._checkpoint = self._start
        self._step = -1
        self._parts = (0, 1)
        self._lock = threading.Lock()
        self._live = self._stream.isatty()
        self._stop = threading.Event()

    def __enter__(self) -> StatusLine:
        if self._live:
            threading.Thread(target=self._refresh, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        with self._lock:
            self._clear()

    @property
    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return self._clock() - self._start

    def begin_step(self, parts: int = 1) -> None:
        """The next step starts; it consists of equal parts."""
        with self._lock:
            self._step += 1
            self._parts = (0, parts)
            self._checkpoint = self._clock()
        self._show()

    def part_done(self) -> None:
        """One part of the running step is finished."""
        with self._lock:
            self._parts = (self._parts[0] + 1, self._parts[1])
            self._checkpoint = self._clock()
        if self._parts[0] < self._parts[1]:
            self._show()

    def line(self) -> str:
        """The text of the line now."""
        title, expected = self._steps[self._step]
        done, parts = self._parts
        finished = sum(seconds for _, seconds in self._steps[: self._step]) + expected * done / parts
        left = sum(seconds for _, seconds in self._steps) - finished
        rest = seconds_left(finished, left, self._checkpoint - self._start)
        rest = max(0.0, rest - (self._clock() - self._checkpoint))
        count = f", {done} of {parts} done" if parts > 1 else ""
        after = len(self._steps) - self._step - 1
        return (
            f"[step {self._step + 1} of {len(self._steps)}] {title}{count}; "
            f"{after} more step{'s' * (after != 1)}, about {rounded(rest)} left"
        )

    def say(self, text: str) -> None:
        """Print to standard output, above the line where there is one."""
        with self._lock:
            self._clear()
            print(text, flush=True)

    def _clear(self) -> None:
        if self._live:
            self._stream.write("\r\033[K")
            self._stream.flush()

    def _show(self) -> None:
        text = self.line()
        with self._lock:
            self._stream.write(f"\r\033[K{text}" if self._live else f"{text}\n")
            self._stream.flush()

    def _refresh(self) -> None:
        while not self._stop.wait(1.0):
            if self._step >= 0:
                self._show()
