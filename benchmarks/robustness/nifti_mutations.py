"""Mutations of a NIfTI file: header fields, voxels, and the bytes behind them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

import numpy as np
from odd_values import FLOATS, INTEGERS, odd_bytes

#: field -> offset, struct code, how many
FIELDS = {
    "sizeof_hdr": (0, "i", 1),
    "dim_info": (39, "B", 1),
    "dim": (40, "h", 8),
    "intent_code": (68, "h", 1),
    "datatype": (70, "h", 1),
    "bitpix": (72, "h", 1),
    "slice_start": (74, "h", 1),
    "pixdim": (76, "f", 8),
    "vox_offset": (108, "f", 1),
    "scl_slope": (112, "f", 1),
    "scl_inter": (116, "f", 1),
    "slice_code": (122, "B", 1),
    "xyzt_units": (123, "B", 1),
    "cal_max": (124, "f", 1),
    "qform_code": (252, "h", 1),
    "sform_code": (254, "h", 1),
    "quatern": (256, "f", 3),
    "qoffset": (268, "f", 3),
    "srow": (280, "f", 12),
    "magic": (344, "B", 4),
    "extension": (348, "B", 4),
}
_LIMITS = {"i": (-(2**31), 2**31 - 1), "h": (-(2**15), 2**15 - 1), "B": (0, 255)}
_LIKELY = ("dim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter", "srow", "quatern")
_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    32: "c8",
    128: "V3",
}


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """An uncompressed NIfTI file with one mutation, and what it was."""
    return rng.choice((_fields, _fields, _fields, _voxels, _voxels, _type, _extension, _swapped, odd_bytes))(data, rng)


def _fields(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    changed, told = bytearray(data), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice((*FIELDS, *_LIKELY, *_LIKELY))
        offset, code, count = FIELDS[name]
        index = rng.randrange(count)
        value: float = rng.choice(FLOATS) if code == "f" else rng.choice(INTEGERS)
        if code != "f":
            low, high = _LIMITS[code]
            value = min(max(int(value), low), high)
        struct.pack_into("<" + code, changed, offset + index * struct.calcsize(code), value)
        told.append(f"{name}[{index}]={value}")
    return bytes(changed), f"header: {', '.join(told)}"


def _voxels(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    code = struct.unpack_from("<h", data, 70)[0]
    values = np.frombuffer(data[352:], np.dtype(_TYPES.get(code, "u1")).newbyteorder("<")).copy()
    how, change = rng.choice(_VOXELS)
    with np.errstate(all="ignore"):
        change(values, rng)
    return data[:352] + values.tobytes(), f"voxels: {how}"


def _set(value: float) -> Callable[[np.ndarray, random.Random], None]:
    def change(values: np.ndarray, rng: random.Random) -> None:
        at = rng.randrange(max(values.size, 1))
        values[at : at + rng.choice((1, 50))] = np.array([value]).astype(values.dtype)

    return change


def _all(value: float) -> Callable[[np.ndarray, random.Random], None]:
    def change(values: np.ndarray, rng: random.Random) -> None:
        values[:] = np.array([value]).astype(values.dtype)

    return change


def _noise(values: np.ndarray, rng: random.Random) -> None:
    values.view("u1")[:] = np.frombuffer(rng.randbytes(values.nbytes), "u1")


_VOXELS: tuple[tuple[str, Callable[[np.ndarray, random.Random], None]], ...] = (
    *((f"some are {value}", _set(value)) for value in (float("nan"), float("inf"), -1, 3, 4, 5, 200, 1e30, 0.5, 1.004)),
    *((f"all are {value}", _all(value)) for value in (0, 1, 4, 7, 255, float("nan"), float("inf"), 1e38)),
    ("noise", _noise),
)


def _type(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """Another data type with voxels to match: an honest file."""
    old = np.frombuffer(data[352:], np.dtype(_TYPES.get(struct.unpack_from("<h", data, 70)[0], "u1")))
    code = rng.choice(tuple(_TYPES))
    kind = np.dtype(_TYPES[code])
    values = np.zeros(old.size, kind) if kind.kind == "V" else old.astype(kind)
    changed = bytearray(data[:352])
    struct.pack_into("<hh", changed, 70, code, kind.itemsize * 8)
    return bytes(changed) + values.tobytes(), f"type: {code} ({kind})"


def _extension(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    size = rng.choice((0, 7, 8, 16, 32, -16, 2**31 - 1, 1_000_000))
    changed = bytearray(data[:352])
    changed[348] = 1
    struct.pack_into("<f", changed, 108, rng.choice((352.0, 368.0, 1_000_352.0)))
    block = struct.pack("<ii", size, rng.choice((0, 4, 6, -1))) + bytes(8)
    return bytes(changed) + block + data[352:], f"extension of {size} bytes"


def _swapped(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    changed = bytearray(data)
    for offset, code, count in FIELDS.values():
        if code != "B":
            values = struct.unpack_from(f"<{count}{code}", data, offset)
            struct.pack_into(f">{count}{code}", changed, offset, *values)
    if rng.random() < 0.5:
        return bytes(changed), "big-endian header, little-endian voxels"
    kind = np.dtype(_TYPES.get(struct.unpack_from("<h", data, 70)[0], "u1"))
    return bytes(changed[:352]) + np.frombuffer(data[352:], kind).byteswap().tobytes(), "big-endian"
