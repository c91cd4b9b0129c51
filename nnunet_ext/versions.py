"""Version strings as numbers that can be compared."""

from __future__ import annotations

import re


def numbers(version: str) -> tuple[int, ...]:
    """Leading numbers of a version string: ``"2.15.0+cu130"`` -> ``(2, 15, 0)``. The text may be foreign."""
    parts = []
    for part in version.split("+", 1)[0].split(".", 9)[:9]:
        if not re.fullmatch("[0-9]{1,9}", part):
            break
        parts.append(int(part))
    return tuple(parts)
