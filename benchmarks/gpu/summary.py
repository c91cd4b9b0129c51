"""What the table says, for people: printed and written to summary.md. Imports no torch.

Run: python benchmarks/gpu/summary.py OUT [--quiet]    exit code 1 if a check failed
"""

from __future__ import annotations

import sys
from pathlib import Path

from fit import as_comment, measured_points
from table import CHECK, SKIPPED, Row, failures, read

PARTS = ("machine", "smoke", "memory", "steps", "commands", "learning")
TITLES = {
    "machine": "Machine",
    "smoke": "Smoke: forward, backward and step; outputs beside the CPU's",
    "memory": "Memory: computed without the constant, and measured, GB",
    "steps": "Steps: medians, in brackets the quartiles (of fewer than four values the least and the largest)",
    "commands": "Commands of nnU-Net",
    "learning": "Learning: Hippocampus, fold 0",
}
PUBLISHED = (
    "nnU-Net published a pseudo Dice of 0.8698 after 5 epochs and 0.8782 after 10 (PlainConvUNet, 3d_fullres, mean of "
    "five folds, from automl/AutoNNUnet)."
)


def summary(rows: list[Row]) -> str:
    """In Markdown."""
    checks = [row for row in rows if row["unit"] == CHECK]
    failed = failures(rows)
    lines = ["# The campaign on this machine", "", f"{len(checks)} checks, {len(failed)} failed.", ""]
    if failed:
        lines += ["## Failed", "", *(f"- {_place(row)}: {row['quantity']}: {row['note']}" for row in failed), ""]
    for part in PARTS:
        own = [row for row in rows if row["part"] == part]
        if own:
            lines += [f"## {TITLES[part]}", "", *_part(own), ""]
        if own and part == "memory":
            lines += _constants(rows)
        if own and part == "learning":
            lines += [PUBLISHED, ""]
    skipped = [row for row in rows if row["unit"] == SKIPPED]
    if skipped:
        lines += ["## Left out", "", *(f"- {_place(row)}: {row['note']}" for row in skipped), ""]
    return "\n".join(lines)


def _place(row: Row) -> str:
    return ", ".join(filter(None, (row["part"], row["subject"], row["setting"])))


def _part(rows: list[Row]) -> list[str]:
    texts = [f"- {row['subject']}: {row['note']}" for row in rows if row["unit"] == "text"]
    numbers = [row for row in rows if row["unit"] not in (CHECK, SKIPPED, "text")]
    passed = sum(row["unit"] == CHECK and row["value"] == "1" for row in rows)
    return _join(texts, [f"{passed} checks passed."] if passed else [], *_tables(numbers))


def _join(*blocks: list[str]) -> list[str]:
    """With an empty line between."""
    full = [block for block in blocks if block]
    return [line for number, block in enumerate(full) for line in ([""] * (number > 0) + block)]


def _tables(rows: list[Row]) -> list[list[str]]:
    """A line a subject and setting, a column a quantity; a table for those that have the same quantities."""
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        quantity = f"{row['quantity']}, {row['unit']}" if row["unit"] else row["quantity"]
        spread = f" ({row['note']})" if row["note"].endswith(" values") else ""
        cells.setdefault((row["subject"], row["setting"]), {})[quantity] = row["value"] + spread
    tables: dict[tuple[str, ...], list[str]] = {}
    for place, found in cells.items():
        head = (*("subject", "setting"), *found)
        start = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
        tables.setdefault(tuple(found), start).append(f"| {' | '.join([*place, *found.values()])} |")
    return list(tables.values())


def _constants(rows: list[Row]) -> list[str]:
    """For ``nnunet_ext/planning/gpu.py``."""
    points, contexts = measured_points(rows)
    if not points:
        return []
    facts = {row["subject"]: row["note"] for row in rows if row["part"] == "machine"}
    card = ", ".join(
        [facts.get("device", "?"), *(f"{name} {facts[name]}" for name in ("driver", "torch", "cuDNN") if name in facts)]
    )
    said = "" if facts.get("device") != "the CPU" else " (of a CPU, so of no use there)"
    return [f"For `nnunet_ext/planning/gpu.py`{said}:", "", "```", as_comment(points, contexts, card), "```", ""]


def main() -> int:
    out = Path(sys.argv[1])
    rows = read(out / "rows.csv")
    text = summary(rows)
    (out / "summary.md").write_text(text, encoding="utf-8")
    if "--quiet" not in sys.argv[2:]:
        print(text)
    return 1 if failures(rows) or not rows else 0


if __name__ == "__main__":
    sys.exit(main())
