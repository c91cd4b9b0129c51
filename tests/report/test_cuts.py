"""Cuts: the right plane, in true proportions, turned and marked only where the file says how the patient lies."""

from __future__ import annotations

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_ext.errors import UserError
from nnunet_ext.report import grid as grids
from nnunet_ext.report.cuts import cut, default_axis, fullest_slice, whole_picture
from nnunet_ext.report.grid import Grid, read_shown_image, sides

SHAPE = (3, 4, 5)


def test_the_slice_shown_is_where_the_regions_cover_most():
    reference = np.zeros((5, 4, 4), np.uint8)
    reference[1, :3] = 1
    reference[3, :2] = 3
    regions = [(1, 2, 3), (2, 3), (3,)]
    assert fullest_slice(reference, regions) == 3
    assert fullest_slice(reference, [(1,)]) == 1
    assert fullest_slice(np.zeros((5, 4, 4)), regions) == 2
    assert fullest_slice(np.moveaxis(reference, 0, 2), regions, axis=2) == 3


@pytest.mark.parametrize(("axis", "aspect"), [(0, 0.8 / 0.5), (1, 5.0 / 0.5), (2, 5.0 / 0.8)])
def test_pixels_have_the_proportions_of_the_spacing(axis, aspect):
    assert cut(Grid((5.0, 0.8, 0.5)), SHAPE, 0, axis).aspect == pytest.approx(aspect)
    assert whole_picture(Grid((2.0, 1.0))).aspect == 2.0


def test_slices_are_counted_from_one_and_named_only_where_orientation_is_known():
    assert cut(Grid((1, 1, 1), ("S", "P", "L")), SHAPE, 1, 0).words() == "axial slice 2 of 3"
    assert cut(Grid((1, 1, 1), ("S", "P", "L")), SHAPE, 0, 1).words() == "coronal slice 1 of 4"
    assert cut(Grid((1, 1, 1)), SHAPE, 1, 0).words() == "slice 2 of 3"
    assert whole_picture(Grid((1, 1))).words() == ""


@pytest.mark.parametrize(
    "towards", [("S", "P", "L"), ("I", "A", "R"), ("L", "S", "P"), ("P", "R", "I"), ("A", "L", "S")]
)
@pytest.mark.parametrize(("normal", "edges"), [("SI", ("R", "L")), ("AP", ("R", "L")), ("LR", ("A", "P"))])
def test_the_same_patient_looks_the_same_however_the_file_is_stored(towards, normal, edges):
    # A patient as (S, P, L): every voxel its own number.
    patient = np.arange(2 * 3 * 4).reshape(2, 3, 4)
    opposite = {"S": "I", "P": "A", "L": "R", "I": "S", "A": "P", "R": "L"}
    home = ["S", "P", "L"]
    order = [home.index(side if side in home else opposite[side]) for side in towards]
    stored = patient.transpose(order)
    stored = np.flip(stored, [axis for axis, side in enumerate(towards) if side not in home])
    axis = next(axis for axis, side in enumerate(towards) if side in normal)
    index = 0 if towards[axis] in home else stored.shape[axis] - 1
    shown = cut(Grid((1.0, 1.0, 1.0), towards), stored.shape, index, axis)
    # front, or head, up; right, or front, on the reader's left
    expected = {"SI": patient[0], "AP": patient[::-1, 0], "LR": patient[::-1, :, 0]}[normal]
    assert np.array_equal(shown.of(stored), expected)
    assert shown.edges == edges


def test_unknown_orientation_is_neither_turned_nor_marked():
    array = np.arange(60).reshape(SHAPE)
    shown = cut(Grid((1, 1, 1)), SHAPE, 1, 0)
    assert np.array_equal(shown.of(array), array[1])
    assert shown.edges == ("", "")


def test_colours_of_a_picture_are_kept():
    picture = np.zeros((4, 5, 3), np.uint8)
    assert whole_picture(Grid((1, 1))).of(picture).shape == (4, 5, 3)


def test_the_plane_with_the_finest_voxels_is_shown_else_the_axial_one():
    assert default_axis(Grid((1, 5, 1), ("S", "P", "L"))) == 1
    assert default_axis(Grid((1, 1, 1), ("L", "P", "S"))) == 2
    assert default_axis(Grid((1, 1, 1))) == 0


def test_sides_come_from_the_direction_matrix_unless_it_is_oblique():
    assert sides((1, 0, 0, 0, 1, 0, 0, 0, 1)) == ("S", "P", "L")
    assert sides((-1, 0, 0, 0, -1, 0, 0, 0, 1)) == ("S", "A", "R")
    assert sides((0, 0, 1, 1, 0, 0, 0, -1, 0)) == ("L", "I", "P")
    half = 0.5**0.5
    assert sides((half, -half, 0, half, half, 0, 0, 0, 1)) == ()
    assert sides((1, 0, 0, 1)) == ()


def test_a_nifti_without_qform_and_sform_has_no_sides(tmp_path):
    known, unknown = tmp_path / "known.nii.gz", tmp_path / "unknown.nii.gz"
    data = np.zeros((5, 4, 3), np.uint8)
    nibabel.save(nibabel.Nifti1Image(data, np.diag([-0.5, -0.8, 5, 1])), known)
    nibabel.save(nibabel.Nifti1Image(data, None), unknown)
    array, grid = read_shown_image(known)
    assert array.shape == (3, 4, 5)
    assert grid.spacing == pytest.approx((5, 0.8, 0.5))
    assert grid.towards == ("S", "P", "L")
    assert read_shown_image(unknown)[1].towards == ()


def test_nrrd_says_its_space_and_metaimage_nothing_that_can_be_relied_on(tmp_path):
    image = sitk.GetImageFromArray(np.zeros(SHAPE, np.uint8))
    for name, towards in (("x.nrrd", ("S", "P", "L")), ("x.mha", ())):
        sitk.WriteImage(image, str(tmp_path / name))
        assert read_shown_image(tmp_path / name)[1].towards == towards


def test_a_colour_picture_is_read_with_its_colours_and_a_grey_one_without(tmp_path, monkeypatch):
    colours = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    Image.fromarray(colours).save(tmp_path / "colour.png")
    Image.fromarray(np.dstack((colours, np.full((4, 5), 9, np.uint8)))).save(tmp_path / "transparent.png")
    Image.fromarray(colours[..., 0]).save(tmp_path / "grey.png")
    for name in ("colour.png", "transparent.png"):
        array, grid = read_shown_image(tmp_path / name)
        assert np.array_equal(array, colours)
        assert grid == Grid((1.0, 1.0))
    assert np.array_equal(read_shown_image(tmp_path / "grey.png")[0], colours[..., 0])
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for name, words in (("broken.png", "not a readable"), ("gone.png", "not found")):
        with pytest.raises(UserError, match=words):
            read_shown_image(tmp_path / name)
    monkeypatch.setattr(grids, "MAX_PICTURE_VALUES", 59)
    with pytest.raises(UserError, match="more than the 59 values"):
        read_shown_image(tmp_path / "colour.png")
