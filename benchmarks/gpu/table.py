"""One CSV file of everything that is measured. A row is on the disk before the next measurement begins.

A row is a number with its unit, a check (unit ``check``, value 1 or 0) or something left out (unit ``skipped``, no
value, the reason in the note). Several processes may write: each row is appended in one go.

Run: python benchmarks/gpu/table.py ROWS.csv PART WHY    adds a check of that part that failed
"""

from __future__ import annotations

import csv
import io
import math
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

COLUMNS = ("part", "subject", "setting", "quantity", "value", "unit", "note")
CHECK, SKIPPED = "check", "skipped"
Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """The rows of one part in the file that all parts share."""

    file: Path
    part: str

    def begin(self) -> None:
        """Rows that an earlier run of this part left are removed, so that what the file holds is of one run a part."""
        kept = [row for row in read(self.file) if row["part"] != self.part]
        beside = self.file.with_name(self.file.name + ".new")
        beside.write_text(_lines([dict(zip(COLUMNS, COLUMNS, strict=True)), *kept]), encoding="utf-8")
        beside.replace(self.file)

    def add(self, subject: str, setting: str, quantity: str, value: float, unit: str, note: str = "") -> None:
        """
        Raises:
            ValueError: the value is no finite number.
        """
        if not math.isfinite(value):
            raise ValueError(f"{quantity} is {value}")
        self._append(subject, setting, quantity, f"{value:.6g}", unit, note)

    def text(self, subject: str, quantity: str, note: str) -> None:
        """A fact that is no number."""
        self._append(subject, "", quantity, "", "text", note)

    def check(self, subject: str, setting: str, quantity: str, passed: bool, note: str = "") -> None:
        if not passed:
            print(f"FAILED: {subject} {setting}: {quantity}: {note}", flush=True)
        self._append(subject, setting, quantity, str(int(passed)), CHECK, note)

    def skip(self, subject: str, setting: str, why: str) -> None:
        print(f"left out: {subject} {setting}: {why}", flush=True)
        self._append(subject, setting, "", "", SKIPPED, why)

    @contextmanager
    def attempt(self, subject: str, setting: str) -> Iterator[None]:
        """A measurement that fails becomes a check that failed, with the first line of the error; its trace goes to
        the log, and the next measurement follows."""
        try:
            yield
        except Exception as error:
            traceback.print_exc()
            self.check(subject, setting, "measured", False, first_line(error))

    def _append(self, *cells: str) -> None:
        row = dict(zip(COLUMNS, (self.part, *cells), strict=True))
        descriptor = os.open(self.file, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            # a process that was killed while it wrote may have left half a line
            size = os.fstat(descriptor).st_size
            torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
            os.write(descriptor, (("\n" if torn else "") + _lines([row])).encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def first_line(error: BaseException) -> str:
    """Kind of an error and the first line of its text."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def read(file: Path) -> list[Row]:
    """All whole rows; none where there is no file."""
    if not file.is_file():
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        rows = [dict(zip(COLUMNS, row, strict=True)) for row in csv.reader(stream) if len(row) == len(COLUMNS)]
    return [row for row in rows if row["part"] != "part"]


def failures(rows: list[Row]) -> list[Row]:
    """The checks that failed."""
    return [row for row in rows if row["unit"] == CHECK and row["value"] != "1"]


def _lines(rows: list[Row]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    # a cell is one line, whatever an error says
    writer.writerows({key: " ".join(value.split()) for key, value in row.items()} for row in rows)
    return stream.getvalue()


if __name__ == "__main__":
    Table(Path(sys.argv[1]), sys.argv[2]).check("", "", "the part ran to its end", False, sys.argv[3])
