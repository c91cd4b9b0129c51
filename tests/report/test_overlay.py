"""The overlay: every panel holds what its title says, in the colours and proportions that the figure names."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex, to_rgb
from matplotlib.image import imread

from nnunet_ext.errors import UserError
from nnunet_ext.report.case_view import CaseView
from nnunet_ext.report.grid import Grid
from nnunet_ext.report.overlay import overlay, write_overlay
from nnunet_ext.report.style import ERRORS

DATASET = {
    "labels": {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": [3]},
    "file_ending": ".nii.gz",
}
ORGANS = {"labels": {"background": 0, "liver": 1, "spleen": 2, "aorta": 3}, "file_ending": ".nii.gz"}


def view(shape=(4, 20, 24), images=("FLAIR",), predictions=("2d", "ensemble"), **fields):
    rng = np.random.default_rng(0)
    reference = np.zeros(shape, np.uint8)
    reference[..., 5:15, 5:15] = 1
    reference[..., 7:13, 7:13] = 2
    reference[..., 8:12, 8:12] = 3
    dice = {"whole tumor": 0.8, "tumor core": 0.5, "enhancing tumor": math.nan}
    return CaseView(
        "worst: case 7",
        {name: rng.normal(100, 20, shape) for name in images},
        reference,
        {name: np.roll(reference, 2 - number, axis=-1) for number, name in enumerate(predictions)},
        dict.fromkeys(predictions, dice),
        **fields,
    )


def panels(figure):
    return {axis.get_title(): axis for axis in figure.axes if axis.get_title()}


def legend(figure):
    """Text -> colour of what stands beside it."""
    box = figure.legends[0]
    colours = [
        handle.get_color() if hasattr(handle, "get_color") else to_hex(handle.get_facecolor())
        for handle in box.legend_handles
    ]
    return dict(zip((text.get_text() for text in box.get_texts()), colours, strict=True))


def drawn(figure, axis):
    """The colours of the pixels of a panel, as rows of (r, g, b) from 0 to 255."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    picture = np.asarray(canvas.buffer_rgba())[::-1]
    box = axis.get_window_extent()
    return picture[int(box.y0) + 1 : int(box.y1), int(box.x0) + 1 : int(box.x1), :3].reshape(-1, 3)


@pytest.mark.parametrize("shape", [(4, 20, 24), (20, 24)])
def test_titles_scores_and_legend_are_on_the_figure(shape):
    figure = overlay([view(shape), view(shape)], DATASET, "title")
    assert list(panels(figure)) == ["reference", "2d", "ensemble", "FLAIR", "errors of 2d", "errors of ensemble"]
    assert panels(figure)["2d"].get_xlabel() == "Dice   WT 0.80   TC 0.50   ET -"
    assert list(legend(figure)) == [
        "whole tumor (WT)",
        "tumor core (TC)",
        "enhancing tumor (ET)",
        "missed: in the reference alone",
        "false: in the prediction alone",
    ]
    heading = figure.subfigs[0].get_suptitle()
    assert heading == ("worst: case 7, slice 1 of 4" if len(shape) == 3 else "worst: case 7")


def test_one_prediction_is_one_row_and_the_errors_of_more_lie_below_them():
    one = overlay([view(images=("FLAIR", "T1ce"), predictions=("2d",))], DATASET)
    assert list(panels(one)) == ["FLAIR", "T1ce", "reference", "2d", "errors of 2d"]
    for count in range(1, 6):
        figure = overlay([view(images=[f"image {number}" for number in range(count)])], DATASET)
        assert sum(title.startswith("image") for title in panels(figure)) == count
        columns = len(figure.axes) // 2
        for name in ("2d", "ensemble"):
            above = figure.axes.index(panels(figure)[name])
            assert figure.axes.index(panels(figure)[f"errors of {name}"]) == above + columns


@pytest.mark.parametrize("dataset", [DATASET, ORGANS])
def test_every_region_is_outlined_in_its_legend_colour_on_every_panel(dataset):
    figure = overlay([dataclasses.replace(view(), dice={"2d": {}, "ensemble": {}})], dataset)
    names = [name for name in dataset["labels"] if name != "background"]
    colours = dict(zip(names, list(legend(figure).values())[:3], strict=True))
    assert len(set(colours.values())) == 3
    for title in ("reference", "2d", "ensemble", "errors of 2d"):
        axis = panels(figure)[title]
        lines = {
            collection.get_label(): collection for collection in axis.collections if collection.get_label() in names
        }
        assert {name: to_hex(lines[name].get_edgecolor()[0]) for name in lines} == colours
    for title in ("reference", "2d"):
        pixels = drawn(figure, panels(figure)[title])
        for name, colour in colours.items():
            wanted = np.rint(np.array(to_rgb(colour)) * 255)
            assert (np.abs(pixels - wanted).max(axis=1) <= 1).sum() > 20, f"{name} on {title}"


def test_the_outline_is_that_of_the_mask_of_the_panel():
    figure = overlay([view()], DATASET)
    for title, shift in (("reference", 0), ("2d", 2), ("errors of 2d", 0)):
        (lines,) = [one for one in panels(figure)[title].collections if one.get_label() == "whole tumor"]
        points = np.concatenate(lines.get_segments())
        assert points.min(axis=0).tolist() == [4.5 + shift, 4.5]
        assert points.max(axis=0).tolist() == [14.5 + shift, 14.5]


def test_regions_that_end_at_the_same_place_are_all_seen():
    case = view((20, 24), predictions=("2d",))
    label_map = np.where(case.reference > 0, 3, 0).astype(np.uint8)
    figure = overlay([dataclasses.replace(case, reference=label_map, predictions={"2d": label_map})], DATASET)
    pixels = drawn(figure, panels(figure)["reference"])
    for colour in list(legend(figure).values())[:3]:
        assert (np.abs(pixels - np.rint(np.array(to_rgb(colour)) * 255)).max(axis=1) <= 60).sum() > 20


def test_only_what_is_shown_is_in_the_legend_and_the_rest_is_named_as_absent():
    case = view()
    only_edema = (case.reference > 0).astype(np.uint8)
    figure = overlay([dataclasses.replace(case, reference=only_edema, predictions={"2d": only_edema})], DATASET)
    assert list(legend(figure)) == ["whole tumor (WT)"], "no error is shown either"
    note = figure.legends[0].get_title().get_text()
    assert "not in the slices shown: tumor core (TC), enhancing tumor (ET)" in note.replace("\n", " ")


def test_the_error_map_paints_and_counts_the_voxels_that_are_missed_and_false():
    case = view((20, 24))
    figure = overlay([case], DATASET)
    reference, prediction = case.reference, case.predictions["2d"]
    wrong = [
        [np.isin(one, values) & ~np.isin(other, values) for values in ((1, 2, 3), (2, 3), (3,))]
        for one, other in ((reference, prediction), (prediction, reference))
    ]
    missed, false = (np.any(masks, axis=0) for masks in wrong)
    axis = panels(figure)["errors of 2d"]
    painted = axis.images[1].get_array()
    for name, mask in (("missed", missed & ~false), ("false", false & ~missed)):
        of_this_kind = (painted[..., :3] == to_rgb(ERRORS[name])).all(axis=-1) & (painted[..., 3] == 1)
        assert np.array_equal(of_this_kind, mask)
        assert f"{name} {mask.sum()}" in axis.get_xlabel()
    assert panels(figure)["errors of ensemble"].get_xlabel() != axis.get_xlabel()


def test_an_ignored_label_is_no_error():
    dataset = {"labels": {"background": 0, "tumor": 1, "ignore": 9}, "file_ending": ".png"}
    reference = np.zeros((20, 24), np.uint8)
    reference[:10], reference[5:8, 5:8] = 9, 1
    predictions = {"2d": (reference == 1).astype(np.uint8) + (reference == 9)}
    case = CaseView("x", {"image": np.ones((20, 24))}, reference, predictions, {"2d": {"tumor": 1.0}})
    assert panels(overlay([case], dataset))["errors of 2d"].get_xlabel() == "missed 0   false 0"


@pytest.mark.parametrize(("axis", "aspect"), [(0, 0.5), (1, 3.0), (2, 6.0)])
def test_panels_have_the_proportions_of_the_patient(axis, aspect):
    figure = overlay([view(grid=Grid((6.0, 1.0, 2.0)), axis=axis)], DATASET)
    assert {panel.get_aspect() for panel in panels(figure).values()} == {aspect}
    FigureCanvasAgg(figure).draw()
    for panel in panels(figure).values():
        box, ((left, right), (low, high)) = panel.get_window_extent(), (panel.get_xlim(), panel.get_ylim())
        assert (box.height / abs(high - low)) / (box.width / abs(right - left)) == pytest.approx(aspect, rel=1e-3)


def test_sides_of_the_patient_are_marked_only_where_they_are_known():
    for towards, marks in ((("S", "P", "L"), {"R", "L"}), ((), set())):
        figure = overlay([view(grid=Grid((1.0, 1.0, 1.0), towards))], DATASET)
        for panel in panels(figure).values():
            assert {text.get_text() for text in panel.texts} - {""} == marks
    for text in panels(overlay([view(grid=Grid((1.0, 1.0, 1.0), ("S", "P", "R")))], DATASET))["FLAIR"].texts:
        assert (text.get_text() == "R") == (text.get_position()[0] < 0.5), "right of the patient on the reader's left"


def test_colour_pictures_are_shown_in_their_colours():
    case = view((20, 24), predictions=("2d",))
    colours = np.zeros((20, 24, 3), np.uint8)
    colours[..., 0] = 255
    figure = overlay([dataclasses.replace(case, images={"picture": colours})], DATASET)
    assert np.array_equal(panels(figure)["picture"].images[0].get_array()[0, 0], [1, 0, 0])


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
    assert list(legend(figure))[2] == "a\\x1b[2J\\u202eb"
    assert write_overlay([hostile], dataset, tmp_path / "overlay.png", "$\\frac$").is_file()


def test_a_dataset_without_a_label_is_told():
    with pytest.raises(UserError, match="names no label"):
        overlay([view()], {"labels": {"background": 0, "ignore": 1}})


def test_an_empty_image_and_an_empty_reference_still_draw(tmp_path):
    empty = np.zeros((3, 16, 16))
    case = CaseView("best", {"T1": empty}, empty.astype(np.uint8), {"2d": empty.astype(np.uint8)}, {"2d": {}})
    path = write_overlay([case], DATASET, tmp_path / "overlay.png")
    assert imread(path)[..., :3].mean() < 0.3, "the frame of an MR picture must be dark"
    assert [file.name for file in tmp_path.iterdir()] == ["overlay.png"]


def test_the_same_case_gives_the_same_bytes(tmp_path):
    first, second = (write_overlay([view()], DATASET, tmp_path / name, "t").read_bytes() for name in ("a", "b"))
    assert first == second
