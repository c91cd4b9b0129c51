"""The rows of a run as the tables of the page."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from verdict import FAULTS, GOOD

Row = dict[str, Any]


def read(file: Path) -> list[Row]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def table(rows: Iterable[Row]) -> str:
    """A row a kind, a column a class that occurs."""
    rows = list(rows)
    classes = [name for name in (*GOOD, *FAULTS) if name in GOOD or any(row["class"] == name for row in rows)]
    kinds = list(dict.fromkeys(row["kind"] for row in rows))
    lines = [
        "| kind | inputs | " + " | ".join(classes) + " | highest peak, GB | longest, s |",
        "|---" * (len(classes) + 4) + "|",
    ]
    for kind in [*sorted(kinds), "all"]:
        of_kind = [row for row in rows if kind in (row["kind"], "all")]
        counts = Counter(row["class"] for row in of_kind)
        cells = [kind, len(of_kind), *(counts[name] for name in classes)]
        peak, longest = max(row["peak"] for row in of_kind) / 1e9, max(row["seconds"] for row in of_kind)
        lines.append(f"| {' | '.join(map(str, cells))} | {peak:.2f} | {longest:.0f} |")
    return "\n".join(lines)


def faults(rows: Iterable[Row]) -> str:
    """Every input that is a fault, a line each."""
    found = [row for row in rows if row["class"] not in GOOD]
    return "\n".join(
        f"{row['number']} {row['class']} ({row['kind']}): {row['mutation']}: {row['told']}" for row in found
    )
