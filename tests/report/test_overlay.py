"""The overlay: which cases it shows, which slice, and that tiles hold what their titles say."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk
from matplotlib.image import imread

from nnunet_ext.errors import UserError
from nnunet_ext.report.overlay import CaseView, fullest_slice, load_view, overlay, worst_median_best, write_overlay

DATASET = {
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "file_ending": ".nii.gz",
}


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


def test_the_slice_shown_is_where_the_regions_cover_most():
    reference = np.zeros((5, 4, 4), np.uint8)
    reference[1, :3] = 1
    reference[3, :2] = 3
    regions = [(1, 2, 3), (2, 3), (3,)]
    assert fullest_slice(reference, regions) == 3
    assert fullest_slice(reference, [(1,)]) == 1
    assert fullest_slice(np.zeros((5, 4, 4)), regions) == 2


def view(shape=(4, 20, 24)):
    rng = np.random.default_rng(0)
    reference = np.zeros(shape, np.uint8)
    reference[..., 5:15, 5:15] = 1
    reference[..., 8:12, 8:12] = 3
    prediction = np.roll(reference, 2, axis=-1)
    dice = {"whole tumor": 0.8, "tumor core": 0.5, "enhancing tumor": math.nan}
    return CaseView(
        "worst: case 7",
        {"FLAIR": rng.normal(100, 20, shape)},
        reference,
        {"2d": prediction, "ensemble": reference},
        {"2d": dice, "ensemble": dice},
    )


@pytest.mark.parametrize("shape", [(4, 20, 24), (20, 24)])
def test_titles_scores_and_legend_are_on_the_figure(shape):
    figure = overlay([view(shape), view(shape)], DATASET, "title")
    assert [axis.get_title() for axis in figure.axes[:4]] == ["FLAIR", "reference", "2d", "ensemble"]
    assert figure.axes[2].get_xlabel() == "WT 0.80   TC 0.50   ET -"
    assert figure.axes[0].get_ylabel() == "worst: case 7"
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == ["whole tumor (WT)", "tumor core (TC)", "enhancing tumor (ET)"]


def test_names_are_text_in_the_figure_and_no_mathematics(tmp_path):
    names = ["$\\frac", "$x$", "a\x1b[2J\u202eb"]
    dataset = {"labels": dict(zip(names, ([1, 2, 3], [2, 3], 3), strict=True)), "file_ending": ".nii.gz"}
    case = view()
    hostile = CaseView(
        "worst: $\\frac$",
        {"$\\frac$": case.images["FLAIR"]},
        case.reference,
        {"$\\bad{$": case.reference},
        {"$\\bad{$": dict.fromkeys(names, 0.5)},
    )
    figure = overlay([hostile], dataset, "$\\frac$")
    shown = [text.get_text() for text in figure.legends[0].get_texts()]
    assert shown[2] == "a\\x1b[2J\\u202eb"
    assert write_overlay([hostile], dataset, tmp_path / "overlay.png", "$\\frac$").is_file()


def test_a_dataset_without_a_label_is_told():
    with pytest.raises(UserError, match="names no label"):
        overlay([view()], {"labels": {"background": 0, "ignore": 1}})


def test_inner_regions_are_painted_over_outer_ones():
    figure = overlay([view()], DATASET)
    fill = figure.axes[1].images[1].get_array()
    outer, inner, outside = fill[6, 6], fill[9, 9], fill[0, 0]
    assert not np.array_equal(outer, inner)
    assert outside[3] == 0
    assert outer[3] == inner[3] > 0.3


def test_an_empty_image_and_an_empty_reference_still_draw(tmp_path):
    empty = np.zeros((3, 16, 16))
    case = CaseView("best", {"T1": empty}, empty.astype(np.uint8), {"2d": empty.astype(np.uint8)}, {"2d": {}})
    path = write_overlay([case], DATASET, tmp_path / "overlay.png")
    picture = imread(path)
    assert picture[..., :3].mean() < 0.3, "the frame of an MR picture must be dark"
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.png"]


def test_a_case_is_read_from_nnunets_folders(tmp_path):
    labels = np.arange(4, dtype=np.uint8).reshape(1, 2, 2)
    for name in ("labels/a.nii.gz", "predicted/a.nii.gz", "images/a_0000.nii.gz"):
        (tmp_path / name).parent.mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / name))
    scores = pd.DataFrame({"case": ["a", "b"], "region": "whole tumor", "Dice": [0.25, 0.75]})
    arguments = {
        "references": tmp_path / "labels",
        "predictions": {"2d": tmp_path / "predicted"},
        "tables": {"2d": scores},
        "dataset": DATASET,
    }
    loaded = load_view("best", "a", images={"T1": tmp_path / "images" / "a_0000.nii.gz"}, **arguments)
    assert np.array_equal(loaded.predictions["2d"], labels)
    assert loaded.dice == {"2d": {"whole tumor": 0.25}}
    with pytest.raises(UserError, match="a_0001"):
        load_view("best", "a", images={"T1": tmp_path / "images" / "a_0001.nii.gz"}, **arguments)
