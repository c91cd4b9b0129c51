"""Near duplicates: the difference hash, and pairs of hashes."""

from __future__ import annotations

import numpy as np
from PIL import Image

from nnunet_ext.dataset_conversion.folds.duplicates import close_pairs
from nnunet_ext.dataset_conversion.formats.pictures import difference_hash


def _scene(seed: int, size: tuple[int, int] = (90, 120)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 7, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def test_a_hash_holds_one_bit_for_each_neighbour_that_is_brighter() -> None:
    rising = np.repeat(np.arange(0, 252, 28, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(8, axis=0)
    assert rising.shape == (8, 9, 3), "each pixel is one of the hash's"
    assert difference_hash(rising) == "f" * 16
    assert difference_hash(rising[:, ::-1]) == "0" * 16
    assert difference_hash(np.full_like(rising, 100)) == "0" * 16, "equal neighbours count as not brighter"
    one = rising[:, ::-1].copy()
    one[0, 1] = 255  # brighter than its left neighbour: the first bit
    assert difference_hash(one) == "8" + "0" * 15


def test_a_hash_hardly_notices_size_brightness_and_noise() -> None:
    scene = _scene(1)
    other = np.asarray(Image.fromarray(scene).resize((200, 150), Image.Resampling.BICUBIC)).astype(float)
    other = 0.9 * other + 10 + np.random.default_rng(0).normal(0, 3, other.shape)
    hashes = [difference_hash(picture) for picture in (scene, np.clip(other, 0, 255).astype(np.uint8), _scene(2))]
    assert close_pairs(hashes, 4) == [(0, 1)]


def test_pairs_are_those_within_the_distance_and_nothing_is_near_an_empty_hash() -> None:
    hashes = ["0" * 16, "", "f" + "0" * 15, "ff" + "0" * 14, ""]
    assert close_pairs(hashes, 3) == []
    assert close_pairs(hashes, 4) == [(0, 2), (2, 3)], "4 bits and 4 bits apart"
    assert close_pairs(hashes, 8) == [(0, 2), (0, 3), (2, 3)]
