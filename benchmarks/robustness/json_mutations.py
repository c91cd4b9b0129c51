"""Mutations of a JSON file: its values, its keys, its text."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

from odd_values import VALUES, odd_bytes, shown


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A JSON file (or the lines of one) with one mutation, and what it was."""
    how = rng.choice(("value",) * 8 + ("text", "text", "bytes"))
    if how == "bytes":
        return odd_bytes(data, rng)
    if how == "text":
        return _as_text(data, rng)
    lines = data.splitlines()
    try:
        document = json.loads(data)
    except ValueError:  # a journal: one document a line
        number = rng.randrange(len(lines))
        changed, told = _changed(json.loads(lines[number]), rng)
        lines[number] = json.dumps(changed).encode()
        return b"\n".join(lines) + b"\n", f"line {number}: {told}"
    changed, told = _changed(document, rng)
    return json.dumps(changed).encode(), told


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from _places(item, (*path, key))


def _changed(document: Any, rng: random.Random) -> tuple[Any, str]:
    document, told = copy.deepcopy(document), []
    for _ in range(rng.choice((1, 1, 1, 2))):
        every = list(_places(document))
        if not every or rng.random() < 0.03:
            document = copy.deepcopy(rng.choice(VALUES))
            told.append(f"all is {shown(document)}")
            continue
        # Each depth is equally likely: a list of thousand numbers would else be all that is hit.
        depth = rng.choice(sorted({len(path) for path in every}))
        *above, key = rng.choice([path for path in every if len(path) == depth])
        parent = document
        for step in above:
            parent = parent[step]
        how = rng.choice(("drop", "replace", "replace", "replace", "double", "rename"))
        value = copy.deepcopy(rng.choice(VALUES))
        where = shown("/".join(map(str, (*above, key))))
        if how == "drop":
            del parent[key]
        elif how == "rename" and isinstance(parent, dict):
            name = value if isinstance(value, str) else "other"
            parent[name] = parent.pop(key)
        elif how == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[key]))
        else:
            parent[key] = value
            how = f"becomes {shown(value)}"
        told.append(f"{where} {how}")
    return document, "; ".join(told)


def _as_text(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    depth = rng.choice((100, 5000, 200_000))
    return rng.choice(
        (
            (b"[" * depth, f"{depth} open brackets"),
            (b"[" * depth + b"]" * depth, f"{depth} brackets"),
            (b'{"a":' * depth + b"0" + b"}" * depth, f"{depth} objects"),
            (b"\xef\xbb\xbf" + data, "byte order mark"),
            (data.decode().encode("utf-16"), "UTF-16"),
            (data.replace(b"0", b"NaN", 1), "NaN for a 0"),
            (data.replace(b"1", b"1" * 5000), "very long numbers"),
            (data.replace(b"1", b"1e999", 1), "1e999"),
            (data.replace(b'"', b'"\\ud800', 3), "half a character"),
            (data.replace(b"{", b'{"labels": 1, "labels": 2, "train": 3,', 1), "keys twice"),
            (data.replace(b",", b",,", 1), "two commas"),
            (data + data, "twice"),
            (data + b" " * 10_000_000, "ten million blanks"),
        )
    )
