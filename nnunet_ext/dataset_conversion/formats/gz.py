"""Gzip that notices damage.

SimpleITK reads a ``.nii.gz`` that was cut in half, or that has a wrong checksum, without a word. So every stream is
decompressed here to its very end, which checks CRC and length, and is used for everything that needs its content. The
package ``isal`` halves the time; without it the standard library does the same.
"""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
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
# Members of a file are handed over in parts: what follows a member is copied, which for many of them would never end.
_PART = 1 << 14
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
    _check_start(data, file)
    stream = _library.decompressobj(_GZIP)
    content = _expand(stream, data, limit + 1, file)
    if len(content) > limit:
        _read_to_damage(stream, file)
        return content
    if not stream.eof:
        raise _damaged(file, True)
    rest = stream.unused_data
    more = list(_members(parts(rest), limit - len(content), file)) if rest else []
    return b"".join((content, *more)) if more else content


def pieces(data: Iterable[bytes], limit: int, file: str) -> Iterator[bytes]:
    """The content of a gzip file in pieces of at most 1 MiB, for files that need not be held in memory.

    Args:
        data: the file in parts.
        limit: largest content that makes sense.
        file: the name for messages.

    Yields:
        The content; as soon as it exceeds ``limit``, one byte more than that, and no more.

    Raises:
        UserError: as ``decompress``.
    """
    stream = iter(data)
    first = next(stream, b"")
    _check_start(first, file)
    yield from _members(chain((first,), stream), limit, file)


def parts(data: bytes) -> Iterator[bytes]:
    """Bytes in the parts in which ``pieces`` takes them."""
    return (data[start : start + _PART] for start in range(0, len(data), _PART))


def _members(data: Iterable[bytes], limit: int, file: str) -> Iterator[bytes]:
    stream: Any = None
    size = further = 0
    for part in chain(data, (b"",)):
        ends = not part  # what a stream holds back comes with the next call
        while part or (ends and stream is not None):
            if stream is None:
                part = part.lstrip(b"\0")  # padding
                if not part:
                    break
                stream = _library.decompressobj(_GZIP)
            piece = _expand(stream, part, min(_STEP, limit + 1 - size) if size <= limit else _STEP, file)
            if not piece and ends and not stream.eof:
                raise _damaged(file, True)
            if size <= limit:
                size += len(piece)
                yield piece
            else:  # too long, which may be so because it is damaged
                further += 1
                if further == _FURTHER_STEPS or stream.eof:
                    return
            part = stream.unused_data if stream.eof else stream.unconsumed_tail
            if stream.eof:
                stream = None


def _check_start(data: bytes, file: str) -> None:
    if data[:2] != b"\x1f\x8b":
        raise UserError(
            f"{file} is not gzip data", remedy="fetch the file again, or give it its right ending", code="IO01"
        )


def _expand(stream: Any, data: bytes, most: int, file: str) -> bytes:
    try:
        return bytes(stream.decompress(data, most))
    except _ERRORS as error:
        # Some libraries report a stream that ends early as an error of its own.
        raise _damaged(file, "truncated" in str(error) or "end of input" in str(error).lower()) from error


def _read_to_damage(stream: Any, file: str) -> None:
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
    _check_start(data, file)
    try:
        return bytes(_library.decompressobj(_GZIP).decompress(data, count))
    except _ERRORS as error:
        raise _damaged(file, False) from error


def compress(data: bytes) -> bytes:
    """A gzip file without a time stamp, so that equal content gives equal bytes.

    The bytes are equal on one machine; isal, zlib and zlib-ng, and versions of each, compress one content differently.
    That is why ``provenance.json`` has checksums of the content.
    """
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
