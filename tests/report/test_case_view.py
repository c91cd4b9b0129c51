"""Which cases a figure shows, and how one is read from nnU-Net's folders."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_ext.errors import UserError
from nnunet_ext.report.case_view import load_view, worst_median_best

DATASET = {"labels": {"background": 0, "whole tumor": [1, 2, 3]}, "file_ending": ".nii.gz"}


def table(**dice):
    return pd.DataFrame(
        [
            {"case": case, "region": region, "Dice": value}
            for case, values in dice.items()
            for region, value in zip(("x", "y"), values, strict=True)
        ]
    )


def test_worst_median_and_best_go_by_the_mean_over_regions():
    cases = table(a=(0.9, 0.9), b=(0.1, 0.2), c=(0.5, 0.6), d=(0.7, 0.7), e=(0.4, 0.3))
    assert worst_median_best(cases) == {"worst": "b", "median": "c", "best": "a"}


def test_few_cases_are_shown_once_each_and_undefined_ones_never():
    assert worst_median_best(table(a=(0.9, 0.9))) == {"worst": "a"}
    assert worst_median_best(table(a=(0.9, 0.9), b=(0.1, math.nan))) == {"worst": "b", "best": "a"}
    assert worst_median_best(table(a=(0.9, 0.9), b=(math.nan, math.nan))) == {"worst": "a"}
    with pytest.raises(ValueError, match="no case"):
        worst_median_best(table(a=(math.nan, math.nan)))


@pytest.fixture
def arguments(tmp_path):
    labels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    for name in ("labels/a.nii.gz", "predicted/a.nii.gz", "images/a_0000.nii.gz"):
        (tmp_path / name).parent.mkdir()
        image = sitk.GetImageFromArray(labels)
        image.SetSpacing((0.5, 0.8, 5.0))
        sitk.WriteImage(image, str(tmp_path / name))
    scores = pd.DataFrame({"case": ["a", "b"], "region": "whole tumor", "Dice": [0.25, 0.75]})
    return {
        "images": {"T1": tmp_path / "images" / "a_0000.nii.gz"},
        "references": tmp_path / "labels",
        "predictions": {"2d": tmp_path / "predicted"},
        "tables": {"2d": scores},
        "dataset": DATASET,
    }


def test_a_case_is_read_from_nnunets_folders_with_its_grid(arguments):
    loaded = load_view("best", "a", **arguments)
    assert loaded.predictions["2d"].tolist() == [[[0, 1], [2, 3]]]
    assert loaded.dice == {"2d": {"whole tumor": 0.25}}
    shown = loaded.shown_cut(DATASET)
    assert shown.aspect == pytest.approx(0.8 / 0.5)
    assert shown.words() == "axial slice 1 of 1"


def test_a_missing_image_is_named(arguments):
    missing = arguments["images"]["T1"].with_name("a_0001.nii.gz")
    with pytest.raises(UserError, match="a_0001"):
        load_view("best", "a", **{**arguments, "images": {"T1": missing}})


@pytest.mark.parametrize("name", ["images/a_0000.nii.gz", "predicted/a.nii.gz"])
def test_an_image_or_prediction_of_another_shape_is_named(arguments, tmp_path, name):
    sitk.WriteImage(sitk.GetImageFromArray(np.zeros((1, 3, 2), np.uint8)), str(tmp_path / name))
    with pytest.raises(UserError, match="shape") as error:
        load_view("best", "a", **arguments)
    assert name in str(error.value)
