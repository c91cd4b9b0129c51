"""``nnunet_ext overlay``: from folders as nnU-Net leaves them to a picture."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_ext.cli import main

DATASET = {
    "channel_names": {"0": "T1", "1": "FLAIR"},
    "labels": {"background": 0, "lesion": 1},
    "file_ending": ".nii.gz",
    "numTraining": 3,
}


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Three cases whose predictions miss 0, 2 and 4 of 8 rows of the lesion."""
    for name in ("imagesTr", "labelsTr", "predictions"):
        (tmp_path / name).mkdir()
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    rng = np.random.default_rng(0)
    for case, missed in (("good", 0), ("poor", 4), ("fair", 2)):
        label = np.zeros((6, 24, 24), np.uint8)
        label[2:4, 8:16, 8:16] = 1
        predicted = label.copy()
        predicted[:, 8 : 8 + missed] = 0
        for channel in (0, 1):
            image = rng.normal(size=label.shape).astype(np.float32)
            sitk.WriteImage(sitk.GetImageFromArray(image), str(tmp_path / "imagesTr" / f"{case}_{channel:04d}.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(label), str(tmp_path / "labelsTr" / f"{case}.nii.gz"))
        sitk.WriteImage(sitk.GetImageFromArray(predicted), str(tmp_path / "predictions" / f"{case}.nii.gz"))
    return tmp_path


def overlay(folder: Path, *more: str) -> int:
    given = ["-i", folder / "imagesTr", "-p", folder / "predictions", "-r", folder / "labelsTr", "-o", folder / "o.png"]
    return main(["overlay", *map(str, given), *more])


def test_the_worst_the_median_and_the_best_case_are_drawn(folders, capsys):
    assert overlay(folders) == 0
    assert capsys.readouterr().out == f"wrote {folders / 'o.png'}: poor, fair, good\n"
    with Image.open(folders / "o.png") as picture:
        tall = picture.size
    for case in ("fair", "good"):
        (folders / "predictions" / f"{case}.nii.gz").unlink()
    assert overlay(folders, "--channels", "1") == 0, "references of cases that were not predicted are no mistake"
    with Image.open(folders / "o.png") as picture:
        assert picture.size[1] < tall[1] / 2
        assert picture.size[0] < tall[0], "one image less is shown"


@pytest.mark.parametrize(
    ("spoil", "more", "said"),
    [
        (lambda folder: (folder / "labelsTr" / "fair.nii.gz").unlink(), (), "fair.nii.gz has no reference"),
        (lambda folder: (folder / "imagesTr" / "fair_0001.nii.gz").unlink(), (), "fair_0001.nii.gz"),
        (lambda folder: None, ("--channels", "7"), "the dataset has no channel 7"),
        (lambda folder: None, ("-o", "picture.jpg"), "the picture is a PNG file"),
        (lambda folder: None, ("-p", "nowhere"), "folder not found (nowhere)"),
        (lambda folder: (folder / "dataset.json").unlink(), (), "dataset.json not found"),
        (lambda folder: (folder / "dataset.json").write_text("[" * 99), (), "nested"),
    ],
)
def test_what_cannot_be_drawn_is_one_line_and_no_picture(folders, capsys, spoil, more, said):
    spoil(folders)
    assert overlay(folders, *more) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error")
    assert said in error
    assert not (folders / "o.png").exists()


def test_colour_pictures_whose_one_file_holds_three_channels_are_shown_in_colour(tmp_path, capsys):
    for name in ("imagesTr", "labelsTr", "predictions"):
        (tmp_path / name).mkdir()
    colours = {"channel_names": {"0": "R", "1": "G", "2": "B"}, "file_ending": ".png"}
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, **colours}))
    label = np.zeros((24, 30), np.uint8)
    label[4:12, 5:20] = 1
    pixels = np.dstack([np.full(label.shape, value, np.uint8) for value in (200, 20, 20)])
    Image.fromarray(pixels).save(tmp_path / "imagesTr" / "one_0000.png")
    for name in ("labelsTr", "predictions"):
        Image.fromarray(label).save(tmp_path / name / "one.png")
    assert overlay(tmp_path) == 0
    with Image.open(tmp_path / "o.png") as picture:
        shown = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    assert (shown == (200, 20, 20)).all(axis=1).any(), "red as in the file"
    (tmp_path / "o.png").unlink()
    assert overlay(tmp_path, "--channels", "1") == 2
    assert "leave out --channels" in capsys.readouterr().err
    # Grey pictures are a file a channel, and one that is missing stays an error.
    Image.fromarray(label).save(tmp_path / "imagesTr" / "one_0000.png")
    assert overlay(tmp_path) == 2
    assert "one_0001.png" in capsys.readouterr().err


def test_an_image_of_another_size_is_refused_by_its_header_before_a_voxel_is_read(folders, capsys, monkeypatch):
    from nnunet_ext.report import case_view

    read: list[Path] = []
    original = case_view.read_shown_image
    monkeypatch.setattr(case_view, "read_shown_image", lambda path: read.append(path) or original(path))
    other = sitk.GetImageFromArray(np.zeros((40, 40, 40), np.float32))
    for case in ("good", "poor", "fair"):
        sitk.WriteImage(other, str(folders / "imagesTr" / f"{case}_0001.nii.gz"))
    assert overlay(folders) == 2
    assert "its shape (40, 40, 40) is not that of its reference (6, 24, 24)" in capsys.readouterr().err
    assert read == []
