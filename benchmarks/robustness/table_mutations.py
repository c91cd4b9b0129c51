"""Mutations of a table: cells, rows, columns, separators, encodings."""

from __future__ import annotations

import csv
import io
import random

from odd_values import TEXTS, odd_bytes, shown


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A csv file with one mutation, and what it was."""
    how = rng.choice(
        ("cell", "cell", "cell", "head", "row", "column", "doubled", "text", "text", "encoding", "bytes", "large")
    )
    if how == "bytes":
        return odd_bytes(data, rng)
    if how == "text":
        return _as_text(data, rng)
    if how == "encoding":
        name = rng.choice(("utf-8-sig", "utf-16", "utf-32", "latin-1", "cp500"))
        return (data.decode() + "é,ü\n").encode(name, "replace"), f"written as {name}"
    if how == "large":
        return data + b"\n".join([data.splitlines()[-1]] * rng.choice((1000, 50_000))), "a row many times"
    rows = list(csv.reader(io.StringIO(data.decode())))
    row = 0 if how == "head" else rng.randrange(len(rows))
    column = rng.randrange(max(len(rows[row]), 1))
    value = rng.choice((*TEXTS, rng.choice(rng.choice(rows) or [""])))
    if how in ("cell", "head") and rows[row]:
        rows[row][column] = value
        how = f"cell {row}, {column} is {shown(value)}"
    elif how == "row":
        del rows[row]
    elif how == "column":
        rows = [cells[:column] + cells[column + 1 :] for cells in rows]
    elif how == "doubled":
        rows.insert(row, rows[row] * rng.choice((1, 2)))
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "surrogatepass"), how


def _as_text(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    how, old, new = rng.choice(
        (
            ("semicolons", b",", b";"),
            ("tabs", b",", b"\t"),
            ("no separator", b",", b""),
            ("old line ends", b"\n", b"\r"),
            ("no line ends", b"\n", b""),
            ("open quotes", b",", b',"'),
            ("NUL", b",", b",\0"),
            ("a huge cell", b",", b"," + b"x" * 200_000),
            ("blank lines", b"\n", b"\n\n\n"),
            ("blanks", b",", b" , "),
        )
    )
    return data.replace(old, new), how
