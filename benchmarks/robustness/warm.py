"""A second process that has imported torch and nnU-Net, for the commands that need them.

Forking it costs six times what forking a process without torch does, so the other commands do without.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

import child

VERBS = ("plan", "estimate", "doctor")


class Warm:
    """Started at the first command that needs it; ends with the process that started it."""

    def __init__(self) -> None:
        self._line: Connection | None = None

    def run_command(self, argv: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> child.Ending:
        """As ``child.run_command``."""
        if self._line is None:
            self._line, other = Pipe()
            if os.fork() == 0:
                self._line.close()
                _serve(other)
            other.close()
        self._line.send((argv, cwd, environment, log))
        ending: child.Ending = self._line.recv()
        return ending


def _serve(line: Connection) -> None:
    try:
        child.warm_up()
        gc.freeze()  # no child touches what is shared only to look for garbage
        while True:
            line.send(child.run_command(*line.recv()))
    finally:
        os._exit(0)
