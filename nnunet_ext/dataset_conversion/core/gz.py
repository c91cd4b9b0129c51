"""Gzip that notices damage.

SimpleITK reads a ``.nii.gz`` that was cut in half, or that has a wrong checksum, without a word. So every stream is
decompressed here to its very end, which checks CRC and length, and is used for everything that needs its content. The
package ``isal`` halves the time; without it the standard library does the same.
"""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import numpy as np

from nnunet_ext.errors import UserError

_isal: Any
try:
    from isal import igzip, isal_zlib

    _isal = isal_zlib
except ImportError:  # isal is optional
    _isal = None

# How far a stream is followed beyond the size it should have: far enough for any damaged image, not for a bomb.
_STEP, _FURTHER_STEPS = 1 << 20, 64
_GZIP = 31  # zlib's number for a gzip header, the largest window and a checked trailer
_ERRORS: tuple[type[Exception], ...] = (zlib.error,) if _isal is None else (zlib.error, _isal.error)
_library: Any = zlib if _isal is None else _isal


def decompress(data: bytes, limit: int, file: str) -> bytes:
    """The content of a gzip file of one or more members.

    Args:
        data: the whole file.
        limit: largest content that makes sense; what exceeds it is not expanded.
        file: the name for messages.

    Returns:
        The content; one byte more than ``limit`` if there is more, so that the caller can tell.

    Raises:
        UserError: IO01 if this is no gzip data; GZ01 if it ends early or fails its CRC or length check.
    """
    if data[:2] != b"\x1f\x8b":
        raise UserError(
            f"{file} is not gzip data", remedy="fetch the file again, or give it its right ending", code="IO01"
        )
    content: list[bytes] = []
    size = 0
    while True:
        stream = _library.decompressobj(_GZIP)
        try:
            piece = stream.decompress(data, limit + 1 - size)
        except _ERRORS as error:
            # Some libraries report a stream that ends early as an error of its own.
            raise _damaged(file, "truncated" in str(error) or "end of input" in str(error).lower()) from error
        content.append(piece)
        size += len(piece)
        if size > limit:
            _look_for_damage(stream, file)
            break
        if not stream.eof:
            raise _damaged(file, True)
        data = stream.unused_data.lstrip(b"\0")
        if not data:
            break
        if data[:2] != b"\x1f\x8b":
            raise _damaged(file, False)
    return content[0] if len(content) == 1 else b"".join(content)


def _look_for_damage(stream: Any, file: str) -> None:
    """Read on without keeping anything: a stream that is longer than it should be may be so because it is damaged."""
    for _ in range(_FURTHER_STEPS):
        if stream.eof:
            return
        try:
            if not stream.decompress(stream.unconsumed_tail, _STEP) and not stream.eof:
                raise _damaged(file, True)
        except _ERRORS as error:
            raise _damaged(file, False) from error


def _damaged(file: str, early: bool) -> UserError:
    what = "ends early" if early else "is damaged: its CRC or length check fails"
    return UserError(f"{file} {what}", remedy="fetch the file again", code="GZ01")


def first_bytes(data: bytes, count: int, file: str) -> bytes:
    """The first ``count`` bytes of the content, from the first bytes of a gzip file.

    Raises:
        UserError: IO01 if this is no gzip data; GZ01 if the content begins with damage.
    """
    if data[:2] != b"\x1f\x8b":
        raise UserError(
            f"{file} is not gzip data", remedy="fetch the file again, or give it its right ending", code="IO01"
        )
    try:
        return bytes(_library.decompressobj(_GZIP).decompress(data, count))
    except _ERRORS as error:
        raise _damaged(file, False) from error


def compress(data: bytes) -> bytes:
    """A gzip file without a time stamp, so that equal content gives equal bytes."""
    if _isal is not None:
        return bytes(igzip.compress(data, 1, mtime=0))
    return gzip.compress(data, 1, mtime=0)


def digest(voxels: np.ndarray) -> str:
    """A fingerprint to find equal images: number of bytes and the CRC-32 of either half.

    Images of different scenes differ in both halves, so that they agree by chance once in 2^64 pairs.
    """
    middle = voxels.size // 2
    parts = (voxels[:middle], voxels[middle:])
    return "-".join([str(voxels.nbytes), *(f"{_library.crc32(part):08x}" for part in parts)])
