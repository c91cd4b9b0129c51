"""Folders of predictions: agreement with nnU-Net's own evaluation, aggregation, and clear errors for unfit folders."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.evaluate import (
    evaluate_case,
    evaluate_folder,
    foreground_mean,
)
from nnunet_ext.evaluation.label_folders import load_dataset_json
from nnunet_ext.evaluation.regions import foreground

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]}


def write(path, labels, spacing=(1.0, 1.0, 1.0)):
    image = sitk.GetImageFromArray(np.asarray(labels))
    image.SetSpacing(tuple(reversed(spacing)))
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def folders(tmp_path):
    """Three random cases; in the last one neither side shows label 3."""
    rng = np.random.default_rng(11)
    for number, highest in enumerate((4, 4, 3)):
        for folder in ("predictions", "references"):
            labels = rng.integers(0, highest, (5, 6, 7)).astype(np.uint8)
            write(tmp_path / folder / f"case_{number}.nii.gz", labels, (2.0, 1.0, 1.0))
    return tmp_path / "predictions", tmp_path / "references"


@pytest.mark.parametrize(
    "labels", [REGIONS, {"background": 0, "one": 1, "two": 2, "three": 3}], ids=["regions", "labels"]
)
def test_overlap_and_means_equal_those_of_nnunet(folders, labels):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    predictions, references = folders
    table = evaluate_folder(predictions, references, {"labels": labels, "file_ending": ".nii.gz"})
    table = table[table["policy"] == "nnunet"].set_index(["case", "region"])
    means = []
    for region, values in foreground({"labels": labels}).items():
        theirs = []
        for reference in sorted(references.iterdir()):
            metrics = compute_metrics(str(reference), str(predictions / reference.name), SimpleITKIO(), [values])[
                "metrics"
            ][values]
            ours = table.loc[(reference.name.removesuffix(".nii.gz"), region)]
            assert ours["Dice"] == pytest.approx(metrics["Dice"], nan_ok=True)
            assert ours["IoU"] == pytest.approx(metrics["IoU"], nan_ok=True)
            assert (ours["voxels_prediction"], ours["voxels_reference"]) == (metrics["n_pred"], metrics["n_ref"])
            theirs.append(metrics["Dice"])
        means.append(np.nanmean(theirs))
    assert foreground_mean(table.reset_index(), "nnunet") == pytest.approx(np.mean(means))


def test_foreground_mean_is_a_mean_of_region_means_not_of_case_means():
    table = pd.DataFrame(
        {"case": ["a", "a", "b", "b"], "region": ["x", "y"] * 2, "policy": "nnunet", "Dice": [0.5, math.nan, 0.7, 1.0]}
    )
    assert foreground_mean(table, "nnunet") == pytest.approx((0.6 + 1.0) / 2)
    with pytest.raises(ValueError, match="brats"):
        foreground_mean(table, "brats")


def test_ignored_voxels_count_on_neither_side(tmp_path):
    reference = write(tmp_path / "r.nii.gz", np.array([[[1, 1, 2, 0]]], dtype=np.uint8))
    prediction = write(tmp_path / "p.nii.gz", np.array([[[1, 1, 1, 0]]], dtype=np.uint8))
    (row,) = evaluate_case(prediction, reference, {"organ": (1,)}, ignore=2, policies=("nnunet",))
    assert row["Dice"] == 1
    assert row["voxels_prediction"] == 2


def test_distances_follow_the_spacing_of_the_file(tmp_path):
    reference, prediction = np.zeros((8, 8, 8), np.uint8), np.zeros((8, 8, 8), np.uint8)
    reference[2], prediction[3] = 1, 1
    pair = [
        write(tmp_path / name, labels, (2.5, 1.0, 1.0))
        for name, labels in (("p.nii.gz", prediction), ("r.nii.gz", reference))
    ]
    assert evaluate_case(*pair, {"plane": (1,)}, policies=("nnunet",))[0]["HD95"] == pytest.approx(2.5)


def test_background_and_ignore_are_no_foreground():
    labels = {"background": 0, "organ": 1, "tumor": [1, 2], "ignore": 3}
    assert foreground({"labels": labels}) == {"organ": (1,), "tumor": (1, 2)}


DATASET = {"labels": REGIONS, "file_ending": ".nii.gz"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda p, r: (p / "case_1.nii.gz").unlink(), "no prediction for 1 case.*case_1"),
        (lambda p, r: (r / "case_1.nii.gz").unlink(), "no reference for 1 case.*case_1"),
        (lambda p, r: write(p / "case_0.nii.gz", np.zeros((5, 6, 8), np.uint8)), "does not fit its reference"),
        (lambda p, r: write(p / "case_0.nii.gz", np.zeros((5, 6, 7), np.uint8)), "does not fit its reference"),
        (lambda p, r: write(p / "case_0.nii.gz", np.full((5, 6, 7), 0.5), (2, 1, 1)), "whole numbers"),
        (lambda p, r: (p / "case_0.nii.gz").write_bytes((p / "case_0.nii.gz").read_bytes()[:60]), "broken gzip"),
    ],
    ids=["missing prediction", "missing reference", "other shape", "other spacing", "fractions", "cut short"],
)
def test_unfit_folders_end_in_one_line_that_names_the_fault(folders, spoil, message):
    spoil(*folders)
    with pytest.raises(UserError, match=message) as error:
        evaluate_folder(*folders, DATASET)
    assert "\n" not in str(error.value)
    assert str(error.value.file) in str(error.value)


def test_a_missing_or_incomplete_dataset_json_is_named(tmp_path):
    with pytest.raises(UserError, match="not found"):
        load_dataset_json(tmp_path / "dataset.json")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"background": 0, "organ": 1}}))
    with pytest.raises(UserError, match="lacks file_ending"):
        load_dataset_json(tmp_path / "dataset.json")


def test_hidden_files_of_other_systems_are_no_cases(tmp_path):
    labels = np.ones((4, 4, 4), np.uint8)
    for folder in ("predictions", "references"):
        write(tmp_path / folder / "case.nii.gz", labels)
    (tmp_path / "references" / "._case.nii.gz").write_bytes(b"Mac OS X")
    dataset = {"labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}
    table = evaluate_folder(tmp_path / "predictions", tmp_path / "references", dataset)
    assert set(table["case"]) == {"case"}
