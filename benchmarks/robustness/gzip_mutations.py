"""Mutations of a gzip stream: header, members, checksum, length, and content that is far larger than it looks."""

from __future__ import annotations

import functools
import gzip
import random
import struct
import zlib

from odd_values import odd_bytes

_ZEROS = 1 << 26


@functools.cache
def _compressed_zeros() -> bytes:
    return gzip.compress(bytes(_ZEROS), 6, mtime=0)


def mutate(data: bytes, rng: random.Random) -> tuple[bytes, str]:
    """A gzip file with one mutation, and what it was."""
    how = rng.choice(tuple(_MUTATIONS) * 2 + ("bytes",) * 8 + ("zeros declared", "zeros behind"))
    if how == "bytes":
        return odd_bytes(data, rng)
    if how == "zeros behind":  # a stream of several members is one content
        times = rng.choice((1, 4, 24))
        return data + _compressed_zeros() * times, f"{times * _ZEROS >> 20} MiB of zeros behind the content"
    if how == "zeros declared":
        return _volume_of_zeros(gzip.decompress(data), rng)
    return _MUTATIONS[how](data, rng), how


def _volume_of_zeros(plain: bytes, rng: random.Random) -> tuple[bytes, str]:
    """An honest header of a huge volume, and as many zeros."""
    side = rng.choice((256, 512, 800, 1024))
    header = bytearray(plain[:352])
    struct.pack_into("<8h", header, 40, 3, side, side, side, 1, 1, 1, 1)
    struct.pack_into("<hh", header, 70, 2, 8)
    times, rest = divmod(side**3, _ZEROS)
    packed = gzip.compress(bytes(header), mtime=0) + _compressed_zeros() * times + gzip.compress(bytes(rest), mtime=0)
    return packed, f"{side} x {side} x {side} zeros"


def _flag(data: bytes, rng: random.Random) -> bytes:
    changed = bytearray(data)
    changed[3] = rng.choice((1, 2, 4, 8, 16, 31, 32, 255))
    return bytes(changed)


def _method(data: bytes, rng: random.Random) -> bytes:
    return data[:2] + bytes([rng.choice((0, 7, 9))]) + data[3:]


def _crc(data: bytes, rng: random.Random) -> bytes:
    return data[:-8] + rng.randbytes(4) + data[-4:]


def _length(data: bytes, rng: random.Random) -> bytes:
    return data[:-4] + struct.pack("<I", rng.choice((0, 1, 2**32 - 1, 2**31)))


def _two_members(data: bytes, rng: random.Random) -> bytes:
    plain = gzip.decompress(data)
    at = rng.randrange(len(plain))
    return gzip.compress(plain[:at], mtime=0) + gzip.compress(plain[at:], mtime=0)


def _twice_compressed(data: bytes, rng: random.Random) -> bytes:
    return gzip.compress(data, mtime=0)


def _not_compressed(data: bytes, rng: random.Random) -> bytes:
    return gzip.decompress(data)


def _zlib(data: bytes, rng: random.Random) -> bytes:
    return zlib.compress(gzip.decompress(data))


def _without_end(data: bytes, rng: random.Random) -> bytes:
    return data[: -rng.choice((1, 4, 8, 9, 20))]


def _empty_member(data: bytes, rng: random.Random) -> bytes:
    empty = gzip.compress(b"", mtime=0)
    return rng.choice((empty, empty + data, data + empty, data + empty * 2000))


def _zeros_behind(data: bytes, rng: random.Random) -> bytes:
    return data + bytes(rng.choice((1, 512, 100_000)))


_MUTATIONS = {
    "flag": _flag,
    "method": _method,
    "wrong checksum": _crc,
    "wrong length": _length,
    "two members": _two_members,
    "compressed twice": _twice_compressed,
    "not compressed": _not_compressed,
    "zlib, not gzip": _zlib,
    "end cut off": _without_end,
    "empty member": _empty_member,
    "padding": _zeros_behind,
}
