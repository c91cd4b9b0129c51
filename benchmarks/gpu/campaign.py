"""What every part of the campaign shares: its arguments, its deadline and its rows. Imports no torch."""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from table import Table, failures, read

from nnunet_ext.errors import UserError

# Before torch is imported, which takes seconds of the limit.
BEGUN = time.monotonic()
# What a part keeps for writing its last rows and ending its processes.
RESERVE = 2.0
ResultT = TypeVar("ResultT")


@dataclass
class Run:
    """One run of one part.

    Attributes:
        table: where rows go.
        out: folder of everything that is to be kept.
        work: folder for everything else.
        device: ``cuda`` or ``cpu``.
        toy: tiny sizes, to try the campaign out.
        ends: when the measurements at hand must be over, by the clock that all processes of a machine share.
        limit, part_ends: seconds of the part, and when they are over.
        steps: measurements that the part intends, for the line of progress; 0: as many as there is time for.
    """

    table: Table
    out: Path
    work: Path
    device: str
    toy: bool
    ends: float
    limit: float
    part_ends: float
    steps: int = 0
    done: int = 0
    longest: dict[str, float] = field(default_factory=dict)

    def left(self) -> float:
        """Seconds until the deadline; never below 0."""
        return max(0.0, self.ends - RESERVE - time.monotonic())

    def begins(self, subject: str, setting: str, kind: str, guess: float) -> bool:
        """Say what comes next; where it would not end in time, write a row that it is left out and return False.

        Args:
            subject, setting: of the row.
            kind: measurements of one kind take about as long; the longest so far tells whether another one fits.
            guess: seconds of the first one of its kind.
        """
        self.done += 1
        expected = self.longest.get(kind, guess)
        if expected > self.left():
            self.table.skip(subject, setting, f"{self.left():.0f} s were left, and it takes about {expected:.0f}")
            return False
        count = f"{self.done} of {self.steps}" if self.done <= self.steps else str(self.done)
        left = self.part_ends - time.monotonic()
        print(f"[{self.table.part} {count}, {left:.0f} of {self.limit:.0f} s left] {subject} {setting}", flush=True)
        return True

    @contextmanager
    def share(self, fraction: float) -> Iterator[None]:
        """What is measured inside may take this share of the time that is left."""
        ends = self.ends
        self.ends = time.monotonic() + RESERVE + fraction * self.left()
        try:
            yield
        finally:
            self.ends = ends

    def took(self, kind: str, seconds: float) -> None:
        self.longest[kind] = max(seconds, self.longest.get(kind, 0.0))

    def measure(
        self, subject: str, setting: str, call: Callable[[], ResultT], kind: str, guess: float
    ) -> ResultT | None:
        """One measurement, if it still fits. None if it does not, or fails; either is a row then.

        A network that refuses a plan with a reason of its own is left out, which is no failure.
        """
        if not self.begins(subject, setting, kind, guess):
            return None
        begun = time.monotonic()
        with self.table.attempt(subject, setting):
            try:
                return call()
            except UserError as refusal:
                self.table.skip(subject, setting, str(refusal))
            finally:
                self.took(kind, time.monotonic() - begun)
        return None

    def exit_code(self) -> int:
        """1 if a check of this part failed."""
        failed = failures([row for row in read(self.table.file) if row["part"] == self.table.part])
        print(f"[{self.table.part}] {len(failed)} checks failed, {self.left():.0f} s of the limit left", flush=True)
        return 1 if failed else 0


def begin(part: str, limit: float, arguments: list[str] | None = None) -> Run:
    """Read the command line of a part and remove its earlier rows."""
    parser = argparse.ArgumentParser(description=f"The part '{part}' of the campaign; see run.sh beside this file.")
    parser.add_argument("out", type=Path, metavar="OUT", help="folder of the results")
    parser.add_argument("--limit", type=float, default=limit, metavar="SECONDS", help=f"default {limit:g}")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--toy", action="store_true", help="tiny sizes, to try it out")
    parser.add_argument("--work", type=Path, metavar="DIR", help="for what is not kept (default: a temporary folder)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    work = (options.work or Path(tempfile.mkdtemp(prefix="campaign_"))).resolve()
    work.mkdir(parents=True, exist_ok=True)
    table = Table(options.out.resolve() / "rows.csv", part)
    table.begin()
    # arguments are given where the part is not the whole process, as in tests: the clock starts now
    ends = (BEGUN if arguments is None else time.monotonic()) + options.limit
    return Run(table, options.out.resolve(), work, options.device, options.toy, ends, options.limit, ends)


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0))


def own_folders(run: Run) -> None:
    """nnU-Net's three folders below ``run.work``, and where it finds our trainers without an installation.

    ``nnUNetTrainer_<N>epochs_<N>its_<N>vits`` of benchmarks/stock_trainers is nnU-Net's own trainer, shorter.
    """
    repository = Path(__file__).resolve().parents[2]
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (run.work / name).mkdir(parents=True, exist_ok=True)
        os.environ[name] = str(run.work / name)
    places = (repository / "nnunet_ext" / "_discovery", repository / "benchmarks" / "stock_trainers")
    os.environ["nnUNet_extTrainer"] = os.pathsep.join(map(str, places))
    os.environ["nnUNet_compile"] = "f"
