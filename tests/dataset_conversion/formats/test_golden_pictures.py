"""What the version of a library decides is what it was: hashes, and so folds, are the same on every machine."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "golden" / "pictures"
GOLDEN = json.loads((FOLDER / "pictures.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def make() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_golden_pictures", FOLDER / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("what", [name for name in GOLDEN if name != "jpegs"])
def test_hashes_reduced_and_decoded_pictures_headers_and_floats_are_those_of_the_golden_file(
    make: ModuleType, what: str
) -> None:
    assert make.measured(GOLDEN["jpegs"])[what] == GOLDEN[what]


def test_the_hash_is_that_of_the_rule_in_its_docstring(make: ModuleType) -> None:
    """Grey values and the Lanczos window in double precision: bits may differ where neighbours are nearly equal."""
    import numpy as np

    from nnunet_ext.dataset_conversion.formats import pictures

    def window(size: int, target: int) -> np.ndarray:
        scale = size / target
        centres = (np.arange(target) + 0.5) * scale
        distance = (np.arange(size) + 0.5 - centres[:, None]) / scale
        weights = np.where(np.abs(distance) < 3, np.sinc(distance) * np.sinc(distance / 3), 0.0)
        return weights / weights.sum(axis=1, keepdims=True)

    for number in range(6):
        pixels = make.scene(number).astype(np.int64)
        grey = (pixels @ np.array([19595, 38470, 7471]) + 32768) // 65536
        small = window(grey.shape[0], 8) @ grey @ window(grey.shape[1], 9).T
        sure = np.abs(small[:, 1:] - small[:, :-1]) > 1.5
        bits = np.unpackbits(np.frombuffer(bytes.fromhex(pictures.difference_hash(make.scene(number))), np.uint8))
        np.testing.assert_array_equal(bits.reshape(8, 8)[sure], (small[:, 1:] > small[:, :-1])[sure])
        assert sure.mean() > 0.5
