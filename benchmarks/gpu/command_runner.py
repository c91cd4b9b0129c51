"""One command after another in a process of its own: what it is told, what it printed, and whether it ended well.

Part of commands.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import campaign
from children import Children, reason
from entry import Circumstances, run_command

# processes that augment, of each training
AUGMENTATION = 4


@dataclass(frozen=True)
class Ended:
    """A command that ended, or was ended at the deadline.

    Attributes:
        code: exit code; None: at the deadline.
        output: all that it printed.
        seconds: that it took.
    """

    code: int | None
    output: str
    seconds: float

    @property
    def why(self) -> str:
        """Why it failed; empty if it did not."""
        return "" if self.code == 0 else reason(self.code, self.seconds)

    @property
    def said(self) -> str:
        """The line in which it says why it failed: of its errors the last."""
        errors = [line for line in self.output.splitlines() if "Error" in line]
        return errors[-1][:300] if errors and self.code is not None else self.why


@dataclass(frozen=True)
class CommandRunner:
    """Starts commands one at a time and keeps what they printed.

    Attributes:
        run, children: of this part.
        plans: name of those that trainers share.
    """

    run: campaign.Run
    children: Children
    plans: str

    @property
    def device(self) -> str:
        return self.run.device

    def command(self, words: Sequence[str], log: Path, **circumstances: Any) -> Ended:
        """One command, with ``Circumstances`` of its own; the log keeps what it prints."""
        before = log.stat().st_size if log.is_file() else 0
        begun = time.monotonic()
        training = words[0] == "nnUNetv2_train"
        augmentation = (0 if self.run.toy else AUGMENTATION) if training else 1  # planners divide by it
        how = Circumstances(self.run.work, augmentation, threads=self.run.toy, **circumstances)
        code = self.children.call(run_command, (list(words), how), self.run.left(), log)
        output = log.read_bytes()[before:].decode(errors="replace") if log.is_file() else ""
        if code not in (0, -9):
            print("\n".join(["", *output.splitlines()[-15:]]), flush=True)
        return Ended(code, output, time.monotonic() - begun)

    def checked(self, subject: str, setting: str, words: Sequence[str], log: Path) -> bool:
        """Whether a command ended well; rows with its time and that."""
        done = self.command(words, log)
        self.run.table.check(subject, setting, "ends well", done.code == 0, done.why)
        if done.code == 0:
            self.run.table.add(subject, setting, "whole command", done.seconds, "s")
        return done.code == 0
