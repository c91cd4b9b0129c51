"""Damaged gzip files never pass for whole ones, with either library."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import numpy as np
import pytest

from nnunet_ext.dataset_conversion.formats import gz
from nnunet_ext.errors import UserError

CONTENT = np.random.default_rng(0).integers(0, 50, 700, dtype=np.uint8).tobytes() + bytes(900)


@pytest.fixture(params=["isal", "zlib"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "isal":
        if gz._isal is None:
            pytest.skip("isal is not installed")
    else:
        monkeypatch.setattr(gz, "_isal", None)
        monkeypatch.setattr(gz, "_library", zlib)
        monkeypatch.setattr(gz, "_ERRORS", (zlib.error,))


MAKERS: dict[str, Callable[[bytes], bytes]] = {
    "one member": lambda data: gzip.compress(data, mtime=0),
    "two members": lambda data: gzip.compress(data[:500], mtime=0) + gzip.compress(data[500:], mtime=0),
    "stored": lambda data: gzip.compress(data, 0, mtime=0),
}


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_content_comes_back_whole(make: Callable[[bytes], bytes]) -> None:
    assert gz.decompress(make(CONTENT), len(CONTENT), "a") == CONTENT
    assert gz.decompress(make(CONTENT) + bytes(20), len(CONTENT), "a") == CONTENT, "padding with zeros is legal"


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_every_truncation_is_noticed(make: Callable[[bytes], bytes]) -> None:
    packed = make(CONTENT)
    seam = len(gzip.compress(CONTENT[:500], mtime=0)) if make is MAKERS["two members"] else -1
    for length in range(len(packed)):
        if length == seam:
            continue  # the first member alone is a whole file
        with pytest.raises(UserError) as caught:
            gz.decompress(packed[:length], len(CONTENT), "case_t1.nii.gz")
        assert caught.value.code == ("IO01" if length < 2 else "GZ01"), f"cut to {length} bytes"
        assert "case_t1.nii.gz" in str(caught.value)


def _attempt(data: bytes) -> tuple[str | None, bytes | None]:
    """The error's code or the content."""
    try:
        return None, gz.decompress(data, len(CONTENT), "a")
    except UserError as error:
        return error.code, None


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_no_flipped_bit_changes_the_content_unnoticed(make: Callable[[bytes], bytes]) -> None:
    packed = make(CONTENT)
    noticed = 0
    for place in range(len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 0x10
        code, found = _attempt(bytes(damaged))
        assert code in ("GZ01", "IO01") or found == CONTENT, f"byte {place} flipped, other content and no error"
        noticed += found is None
    assert noticed > 0.9 * len(packed)


@pytest.mark.usefixtures("library")
def test_a_wrong_length_trailer_is_noticed() -> None:
    packed = bytearray(gzip.compress(CONTENT, mtime=0))
    packed[-4] ^= 1
    with pytest.raises(UserError, match="GZ01: a is damaged"):
        gz.decompress(bytes(packed), len(CONTENT), "a")


@pytest.mark.usefixtures("library")
def test_more_content_than_expected_is_not_expanded() -> None:
    bomb = gzip.compress(bytes(30_000_000), mtime=0)
    assert len(gz.decompress(bomb, 1000, "a")) == 1001


@pytest.mark.usefixtures("library")
def test_a_damaged_stream_that_grows_too_long_counts_as_damaged_not_as_long() -> None:
    packed = bytearray(gzip.compress(CONTENT, mtime=0))
    packed[-8] ^= 1  # the CRC
    with pytest.raises(UserError, match="GZ01"):
        gz.decompress(bytes(packed), len(CONTENT) - 100, "a")


@pytest.mark.usefixtures("library")
def test_first_bytes_need_only_the_start_of_a_file() -> None:
    packed = gzip.compress(CONTENT, mtime=0)
    assert gz.first_bytes(packed[:600], 352, "a") == CONTENT[:352]
    with pytest.raises(UserError, match="IO01: a is not gzip data"):
        gz.first_bytes(CONTENT, 352, "a")


@pytest.mark.usefixtures("library")
def test_equal_content_gives_equal_bytes() -> None:
    assert gz.compress(CONTENT) == gz.compress(CONTENT)
    assert gzip.decompress(gz.compress(CONTENT)) == CONTENT
    assert gz.compress(CONTENT)[4:8] == bytes(4), "a time stamp in the header"


def test_digests_tell_images_apart_that_differ_in_either_half() -> None:
    image = np.arange(1000, dtype=np.int16)
    digests = {gz.digest(image)}
    for place in (0, 499, 500, 999):
        other = image.copy()
        other[place] += 1
        digests.add(gz.digest(other))
    assert len(digests) == 5
    assert gz.digest(image) == gz.digest(image.copy())
