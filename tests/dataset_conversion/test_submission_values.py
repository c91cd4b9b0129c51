"""Predictions as files of others: what they hold is read as it is meant, or refused by name."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_ext.dataset_conversion import submission_files
from nnunet_ext.dataset_conversion.submission import to_submission
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]
LABEL = np.random.default_rng(0).integers(0, 4, (8, 7, 6))


@pytest.fixture
def prediction(tmp_path: Path, brats_case: Callable[..., Path], convert_to: Convert) -> Path:
    """Where the only prediction goes, of a converted BraTS 2020 with one test case."""
    for number in (1, 2):
        brats_case(tmp_path / "train", f"BraTS20_Training_{number:03d}", seed=number)
    brats_case(tmp_path / "valid", "BraTS20_Validation_001", seed=10, label=False)
    convert_to("brats2020", tmp_path / "train", tmp_path / "valid")
    (tmp_path / "predictions").mkdir()
    return tmp_path / "predictions" / "BraTS20_Validation_001.nii.gz"


def submit(prediction: Path, dataset: str = "brats2020") -> list[Path]:
    top = prediction.parent.parent
    return to_submission(dataset, prediction.parent, top / "out", raw=top / "nnUNet_raw")


VALUES: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
    "integers": (LABEL.astype(np.uint8), {}),
    "a slope": ((60 * LABEL).astype(np.int16), {"scl_slope": 1 / 60}),
    "a slope and an intercept": ((LABEL - 2).astype(np.int16), {"scl_slope": 1, "scl_inter": 2}),
    "floats moved by arithmetic": (LABEL * 0.9999, {}),
}


@pytest.mark.parametrize("what", VALUES)
def test_values_count_after_slope_and_intercept(prediction: Path, nifti: Callable[..., bytes], what: str) -> None:
    array, fields = VALUES[what]
    prediction.write_bytes(gzip.compress(nifti(array, **fields)))
    (written,) = submit(prediction)
    back = sitk.GetArrayFromImage(sitk.ReadImage(str(written))).transpose()
    np.testing.assert_array_equal(back, np.array([0, 2, 1, 4])[LABEL])


def test_fractions_are_refused_and_shown(prediction: Path, nifti: Callable[..., bytes]) -> None:
    prediction.write_bytes(gzip.compress(nifti(np.where(LABEL == 2, 2.03, LABEL))))
    with pytest.raises(UserError, match=r"DT01: .*Validation_001.nii.gz holds the value 2.03: it is 0.03 off"):
        submit(prediction)


def test_a_folder_and_a_broken_link_are_named(prediction: Path) -> None:
    prediction.mkdir()
    with pytest.raises(UserError, match=r"IO01: .*Validation_001.nii.gz is a folder, where a prediction should be"):
        submit(prediction)
    prediction.rmdir()
    prediction.symlink_to(prediction.parent / "nothing")
    with pytest.raises(UserError, match=r"IO01: .*Validation_001.nii.gz is a link to a file that is not there"):
        submit(prediction)


def test_a_prediction_with_damaged_geometry_is_named(prediction: Path, nifti: Callable[..., bytes]) -> None:
    for fields, text in (
        ({"quatern_b": 2.0, "sform_code": 0}, "GEO06: .*Validation_001.nii.gz has a qform that is no rotation"),
        ({"vox_offset": 1e30}, r"IO01: .*its voxels begin at byte 1e\+30"),
        ({"srow_x": [1, 0.4, 0, 0], "qform_code": 0}, "GEO06: .*axes that are not orthogonal"),
    ):
        prediction.write_bytes(gzip.compress(nifti(LABEL.astype(np.uint8), **fields)))
        with pytest.raises(UserError, match=text):
            submit(prediction)


def test_no_more_is_read_than_the_case_has(prediction: Path, nifti: Callable[..., bytes]) -> None:
    prediction.write_bytes(bytes((1 << 24) + (1 << 21)))
    with pytest.raises(UserError, match="IO01: the file is larger than"):
        submit(prediction)
    prediction.write_bytes(gzip.compress(nifti(LABEL.astype(np.uint8))))
    record = next(prediction.parent.parent.glob("nnUNet_raw/*/provenance.json"))
    text = record.read_text()
    assert "8,\n        7,\n        6" in text
    record.write_text(text.replace("8,\n        7,\n        6", "1024,\n        1024,\n        1024"))
    with pytest.raises(UserError, match=r"SIZ01: the record says .* has 1,073,741,824 voxels; 35,712,000 can be"):
        submit(prediction)


def test_too_little_memory_is_one_line(
    prediction: Path, nifti: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    prediction.write_bytes(gzip.compress(nifti(LABEL.astype(np.uint8))))
    monkeypatch.setattr(submission_files, "_map", no_memory)
    with pytest.raises(UserError, match=r"MEM01: the memory does not suffice for .*Validation_001"):
        submit(prediction)


def test_a_picture_whose_shape_is_in_alpha_is_refused(tmp_path: Path, lgg: Path, convert_to: Convert) -> None:
    folder = convert_to("lgg", lgg).folder
    predictions = tmp_path / "predictions"
    shutil.copytree(folder / "labelsTr", predictions)
    path = sorted(predictions.glob("*.png"))[0]
    shape = np.asarray(Image.open(path)).shape
    alpha = np.zeros(shape, np.uint8)
    alpha[2:4] = 255
    Image.fromarray(np.dstack([*[np.ones(shape, np.uint8)] * 3, alpha])).save(path)
    with pytest.raises(UserError, match=r"LAB03: .*only in alpha"):
        submit(path, "lgg")
    Image.fromarray(np.zeros((5000, 5000), np.uint8)).save(path)
    with pytest.raises(UserError, match=r"GEO02: .*has shape \(5000, 5000\)"):
        submit(path, "lgg")
