"""The way back: what was converted comes back as it was."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_ext.dataset_conversion.submission import to_submission
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]


def geometry(image: sitk.Image) -> tuple[Any, ...]:
    return image.GetOrigin(), image.GetSpacing(), image.GetDirection(), image.GetPixelIDTypeAsString()


@pytest.mark.parametrize(("dtype", "ending"), [(np.uint8, ".nii.gz"), (np.int16, ".nii"), (np.float32, ".nii.gz")])
def test_brats_labels_come_back_with_name_type_and_geometry(
    tmp_path: Path,
    brats_case: Callable[..., Path],
    brats_label: Callable[..., np.ndarray],
    convert_to: Convert,
    dtype: type,
    ending: str,
) -> None:
    source = tmp_path / "source"
    for number in (1, 2):
        label = brats_label(number, (8, 7, 6)).astype(dtype)
        brats_case(source, f"BraTS20_Training_{number:03d}", seed=number, label=label, ending=ending)
    folder = convert_to("brats2020", source).folder
    written = to_submission("brats2020", folder / "labelsTr", tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    assert [path.name for path in written] == [f"BraTS20_Training_{number:03d}_seg{ending}" for number in (1, 2)]
    for path in written:
        original = sitk.ReadImage(str(next(source.rglob(path.name))))
        back = sitk.ReadImage(str(path))
        np.testing.assert_array_equal(sitk.GetArrayFromImage(back), sitk.GetArrayFromImage(original))
        assert geometry(back) == geometry(original)


@pytest.mark.parametrize("target", ["2d", "3d"])
def test_lgg_masks_come_back(tmp_path: Path, lgg: Path, convert_to: Convert, target: str) -> None:
    folder = convert_to("lgg", lgg, choices={"as": target}).folder
    written = to_submission("lgg", folder / "labelsTr", tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    assert len(written) == 65
    for path in written:
        original = np.asarray(Image.open(next(lgg.rglob(path.name))))
        back = np.asarray(Image.open(path))
        assert back.dtype == original.dtype
        np.testing.assert_array_equal(back, original, err_msg=path.name)


@pytest.fixture
def validation(tmp_path: Path, brats_case: Callable[..., Path], convert_to: Convert) -> Path:
    """Predictions for the two test cases of a converted BraTS 2020."""
    for number in (1, 2):
        brats_case(tmp_path / "train", f"BraTS20_Training_{number:03d}", seed=number)
        brats_case(tmp_path / "valid", f"BraTS20_Validation_{number:03d}", seed=10 + number, label=False)
    folder = convert_to("brats2020", tmp_path / "train", tmp_path / "valid").folder
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for number in (1, 2):
        shutil.copy(
            folder / "labelsTr" / f"BraTS20_Training_{number:03d}.nii.gz",
            predictions / f"BraTS20_Validation_{number:03d}.nii.gz",
        )
    (predictions / "plans.json").write_text("{}")
    return predictions


def submit(predictions: Path, **options: Any) -> list[Path]:
    return to_submission(
        "brats2020", predictions, predictions.parent / "out", raw=predictions.parent / "nnUNet_raw", **options
    )


def test_test_cases_get_the_names_of_the_challenge(validation: Path) -> None:
    written = submit(validation)
    assert [path.name for path in written] == [f"BraTS20_Validation_{number:03d}.nii.gz" for number in (1, 2)]
    values = np.unique(sitk.GetArrayFromImage(sitk.ReadImage(str(written[0]))))
    assert set(values) == {0, 1, 2, 4}


def test_a_missing_prediction_is_an_error_unless_a_part_is_wanted(validation: Path) -> None:
    (validation / "BraTS20_Validation_002.nii.gz").unlink()
    with pytest.raises(UserError, match="NAM01: no prediction for BraTS20_Validation_002"):
        submit(validation)
    assert not (validation.parent / "out").exists()
    assert len(submit(validation, partial=True)) == 1


def test_predictions_of_something_else_are_refused(validation: Path, nifti: Callable[..., bytes]) -> None:
    path = validation / "BraTS20_Validation_001.nii.gz"
    for array, message in (
        (np.full((8, 7, 6), 7, np.uint8), "LAB01: .*Validation_001.nii.gz holds 7, which is no label"),
        (np.ones((8, 7, 5), np.uint8), r"GEO02: .*has shape \(8, 7, 5\), the case has \(8, 7, 6\)"),
    ):
        path.write_bytes(gzip.compress(nifti(array)))
        with pytest.raises(UserError, match=message):
            submit(validation)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match="GZ01"):
        submit(validation)
    for other in validation.iterdir():
        other.unlink()
    with pytest.raises(UserError, match="NAM01: no prediction for a case of this dataset"):
        submit(validation)


def test_a_dataset_that_was_not_converted_is_named(tmp_path: Path, validation: Path) -> None:
    with pytest.raises(UserError, match="LAY01: no conversion of brats2021 with id 521"):
        to_submission("brats2021", validation, tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    with pytest.raises(UserError, match="OUT01: predictions and output are the same folder"):
        to_submission("brats2020", validation, validation, raw=tmp_path / "nnUNet_raw")


def test_a_lossy_label_map_has_no_way_back(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    from nnunet_ext.dataset_conversion.datasets.brats import BRATS2021, LABELS_2017_TO_2021

    labels = replace(LABELS_2017_TO_2021, forward={0: 0, 1: 1, 2: 1, 4: 3})
    target = replace(BRATS2021.default_target, labels=labels)
    folder = convert_to(replace(BRATS2021, targets={"3d": target}), brats2021).folder
    with pytest.raises(UserError, match="LAB01: the label map is lossy"):
        to_submission("brats2021", folder / "labelsTr", tmp_path / "out", raw=tmp_path / "nnUNet_raw")


def test_nothing_that_exists_is_overwritten(validation: Path) -> None:
    target = validation.parent / "out" / "BraTS20_Validation_002.nii.gz"
    target.parent.mkdir()
    target.write_bytes(b"mine")
    with pytest.raises(UserError, match=r"OUT01: .*BraTS20_Validation_002.nii.gz exists already"):
        submit(validation)
    assert target.read_bytes() == b"mine"
    assert [path.name for path in target.parent.iterdir()] == [target.name], "a file was written before the refusal"
