"""Labels that arithmetic has moved off whole numbers are rounded and reported; others are refused with their value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from nnunet_ext.dataset_conversion.cases.labels import relabel
from nnunet_ext.dataset_conversion.cases.whole_numbers import STEP, whole_numbers
from nnunet_ext.dataset_conversion.datasets.brats import LABELS_2017_TO_2021 as BRATS
from nnunet_ext.label_rounding import rounding_bound

LABEL = np.random.default_rng(0).choice([0, 0, 0, 1, 2, 4], 500)
EXPECTED = np.array([0, 2, 1, 3, 3])[LABEL]
Stored = tuple[np.ndarray, float, float]


def resaved(dtype: str) -> Stored:
    """As nibabel saves floats in an integer type: slope and intercept use its whole range."""
    header = nibabel.Nifti1Header()
    header.set_data_shape((LABEL.size, 1, 1))
    header.set_data_dtype(np.dtype(dtype))
    image = nibabel.Nifti1Image(LABEL.reshape(-1, 1, 1).astype(np.float64), np.eye(4), header)
    data = image.to_bytes()
    read = nibabel.Nifti1Image.from_bytes(data)
    return np.asarray(read.dataobj.get_unscaled()).reshape(-1), float(read.dataobj.slope), float(read.dataobj.inter)


def values_of(stored: Stored) -> np.ndarray:
    return stored[0] * stored[1] + stored[2]


def near(value: float, dtype: str = "f8") -> Stored:
    label = LABEL.astype(dtype)
    label[LABEL == 1] = value
    return label, 1.0, 0.0


ROUNDED: dict[str, Callable[[], Stored]] = {
    "resaved with 16 bits": lambda: resaved("i2"),
    "resaved with 8 bits": lambda: resaved("u1"),
    "resaved with 8 bits, then as floats": lambda: (values_of(resaved("u1")).astype(np.float32), 1.0, 0.0),
    "resaved with 16 bits, then as floats": lambda: (values_of(resaved("i2")).astype(np.float32), 1.0, 0.0),
    "slope 0.99999997": lambda: (LABEL.astype(np.uint8), 0.99999997, 0.0),
    "slope 1/60": lambda: ((60 * LABEL).astype(np.int16), float(np.float32(1 / 60)), 0.0),
    "0.9999": lambda: near(0.9999),
    "0.9999 in single precision": lambda: near(0.9999, "f4"),
    "background off 0": lambda: (LABEL + 1e-6, 1.0, 0.0),
    "half precision": lambda: ((LABEL / 3).astype(np.float16), 3.0, 0.0),
}


@pytest.mark.parametrize("what", ROUNDED)
def test_labels_that_arithmetic_moved_are_rounded_and_reported(what: str) -> None:
    mapped, counts, findings = relabel(*(lambda s: (s[0], BRATS, "case", "file", s[1], s[2]))(ROUNDED[what]()))
    assert mapped is not None, findings
    np.testing.assert_array_equal(mapped, EXPECTED)
    assert counts == {value: int((value == EXPECTED).sum()) for value in (1, 2, 3)}
    assert [(finding.code, finding.severity) for finding in findings] == [("DT03", "info")]
    assert "are rounded" in findings[0].message


REFUSED: dict[str, tuple[Callable[[], Stored], str]] = {
    "interpolated": (lambda: near(0.25), "0.25: it is 0.25 off a whole number"),
    "just beyond": (lambda: near(1.0101), "1.0101: it is 0.01"),
    "more than 16 bits explain": (
        lambda: ((np.where(LABEL == 1, 1.001, LABEL) / 6.1e-5).round().astype(np.int32), 6.1e-5, 0.0),
        "storage as int32 with slope 6.1e-05 explains no more than 3.1",
    ),
    "a coarse grid": (lambda: (np.where(LABEL == 1, 3, 0).astype(np.uint8), 0.3, 0.0), "0.9"),
    "NaN": (lambda: near(np.nan), "the value nan"),
    "infinite": (lambda: near(-np.inf), "the value -inf"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_other_fractions_are_refused_and_shown(what: str) -> None:
    make, text = REFUSED[what]
    stored, slope, inter = make()
    mapped, _, (finding,) = relabel(stored, BRATS, "case", "file", slope, inter)
    assert mapped is None
    assert finding.code == "DT01"
    assert text in finding.message


def test_whole_values_of_a_whole_slope_are_as_before() -> None:
    mapped, _, findings = relabel((LABEL // 1 * 2).astype(np.int16), BRATS, "case", "file", 0.5, 0.0)
    np.testing.assert_array_equal(mapped, EXPECTED)
    assert [finding.code for finding in findings] == ["DT02"]


def test_the_bound_is_half_a_step_and_never_more_than_a_hundredth() -> None:
    assert rounding_bound(4, 4 / 65535) == pytest.approx(2 / 65535, rel=0.1)
    assert rounding_bound(4, 4 / 255) == pytest.approx(2 / 255, rel=1e-3)
    assert rounding_bound(4) == pytest.approx(2 / 255, rel=1e-3)
    assert rounding_bound(200) == pytest.approx(0.01, rel=1e-2)


@pytest.mark.parametrize("size", [STEP - 1, STEP, STEP + 1, 2 * STEP + 7])
def test_labels_longer_than_a_step_are_mapped_whole(size: int) -> None:
    stored = np.resize(np.array([4, 0, 0, 1, 2], np.float32), size)
    mapped, counts, _ = relabel(stored, BRATS, "case", "file")
    np.testing.assert_array_equal(mapped, np.array([0, 2, 1, 3, 3])[stored.astype(int)])
    assert sum(counts.values()) == np.count_nonzero(stored)
    assert whole_numbers(stored).values.dtype == np.uint8  # type: ignore[union-attr]


def test_a_resaved_label_is_converted_and_told(
    tmp_path: Path, brats_case: Callable[..., Path], convert_to: Callable[..., Any], nifti: Callable[..., bytes]
) -> None:
    label = np.random.default_rng(1).choice([0, 0, 0, 1, 2, 4], (8, 7, 6))
    moved = nifti((60 * label).astype(np.int16), scl_slope=1 / 60)
    brats_case(tmp_path / "d", "BraTS2021_00000", content={"seg": moved})
    brats_case(tmp_path / "d", "BraTS2021_00002", seed=1)
    done = convert_to("brats2021", tmp_path / "d")
    assert [finding.case for finding in done.all_findings if finding.code == "DT03"] == ["BraTS2021_00000"]
    written = nibabel.load(done.folder / "labelsTr" / "BraTS2021_00000.nii.gz")
    np.testing.assert_array_equal(np.asarray(written.dataobj), np.array([0, 2, 1, 3, 3])[label])
