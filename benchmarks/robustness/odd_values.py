"""Values that programs trip over, and the mutations of raw bytes that every kind of file can suffer."""

from __future__ import annotations

import random
from typing import Any

#: names and texts
TEXTS: tuple[str, ...] = (
    *("", " ", ".", "..", "/", "\\", "-", "--", "-1", "~", "*", "[", "(?", "%s%n", "{0}", "{case.__class__}", "a\0b"),
    *("\n", "a\nb", "\r", "\t", "\x1b[2J", "\u202e", "\u00b2", "\u0663", "\ud800", "e\u0301", "\U0001f9e0", "\ufeff"),
    *("../../outside/mine", "/etc/passwd", "nan", "inf", "1e999", "0x10", "1_0", "00", "None", "null", "true"),
    *("x" * 300, "0" * 5000, "9" * 30, "con", "a/b", "a" * 100_000),
)

#: what may stand in JSON
VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 1.5, 1e308, -1e308, float("nan"), float("inf"), 10**40, 2**31, 2**63, -(2**63)),
    *([], {}, [None], [[[]]], {"": {}}, {"..": ".."}, [0] * 1000, ["../x"], {"0": [1, 2]}, [1, [2, [3, [4, [5]]]]]),
    *TEXTS,
)

#: numbers for the fields of binary headers
INTEGERS: tuple[int, ...] = (0, 1, -1, 2, 3, 5, 7, 8, 127, 128, 255, 256, 348, 540, 32767, -32768, 65535, 2**31 - 1)
FLOATS: tuple[float, ...] = (
    *(0.0, -0.0, 1.0, -1.0, 0.5, 1e-3, 1e-30, 1e-45, 1e30, 3.4e38, -3.4e38, 352.0, 353.0, 1e9, 0.99999994, 2.0),
    *(float("nan"), float("inf"), float("-inf")),
)

BYTE_MUTATIONS = ("flip", "flips", "cut", "zeros", "insert", "append", "repeat", "empty", "one byte", "noise", "swap")


def odd_bytes(data: bytes, rng: random.Random, how: str | None = None) -> tuple[bytes, str]:
    """The data with one mutation that knows nothing of its form, and what it was."""
    how = how or rng.choice(BYTE_MUTATIONS)
    size = len(data)
    at, length = rng.randrange(size + 1), min(size, rng.choice((1, 2, 4, 16, 100, 1000)))
    if how == "flip":
        data = _flipped(data, rng, 1)
    elif how == "flips":
        data = _flipped(data, rng, rng.choice((2, 8, 64)))
    elif how == "cut":
        at = rng.choice((at, size - 1 if size else 0, min(size, 10), size // 2))
        data = data[:at]
    elif how == "zeros":
        data = data[:at] + bytes(min(length, size - at)) + data[at + length :]
    elif how == "insert":
        data = data[:at] + rng.randbytes(length or 1) + data[at:]
    elif how == "append":
        data += rng.choice((b"\0", b"\0" * 1000, b"garbage", rng.randbytes(512)))
    elif how == "repeat":
        data += data
    elif how == "empty":
        data = b""
    elif how == "one byte":
        data = rng.randbytes(1)
    elif how == "noise":
        data = rng.randbytes(rng.choice((10, 400, 5000)))
    elif how == "swap":
        data = data[size // 2 :] + data[: size // 2]
    return data, f"bytes: {how}"


def _flipped(data: bytes, rng: random.Random, times: int) -> bytes:
    changed = bytearray(data)
    for _ in range(times if changed else 0):
        # Headers are where a flipped bit means something: half of them hit the first kilobyte.
        at = rng.randrange(min(len(changed), 1024) if rng.random() < 0.5 else len(changed))
        changed[at] ^= 1 << rng.randrange(8)
    return bytes(changed)


def shown(value: object) -> str:
    """A value as it may stand in one line of the record."""
    text = ascii(value)
    return text if len(text) < 80 else f"{text[:70]}... ({len(text)} characters)"
