"""Evaluating with files of somebody else: a table or one line, whatever they hold, and no other file is read."""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pandas as pd
import pytest
import SimpleITK as sitk

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation import images
from nnunet_ext.evaluation.evaluate import evaluate_folder
from nnunet_ext.evaluation.images import read_image, read_label_map
from nnunet_ext.evaluation.label_folders import load_dataset_json

DATASET = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
HOSTILE = (
    None, True, -1, 1 << 62, 10**400, 0.5, float("nan"), "", "..", "/x", "x\x00y", "**x", ".[", "{0.__class__}",
    "a\x1b", "a\u202eb", "x" * 300, [], [[]], [1 << 62], {}, {"": []},
)  # fmt: skip


@pytest.fixture
def folders(tmp_path):
    """One case, predicted as it is."""
    labels = np.random.default_rng(3).integers(0, 4, (3, 4, 5)).astype(np.uint8)
    for folder in ("predictions", "references"):
        (tmp_path / folder).mkdir()
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / folder / "case.nii.gz"))
    return tmp_path / "predictions", tmp_path / "references"


def test_a_changed_dataset_json_gives_a_table_or_one_line(folders, tmp_path):
    file, random_ = tmp_path / "dataset.json", random.Random("evaluation")
    outcomes = []
    for _ in range(150):
        content = json.loads(json.dumps(DATASET))
        holder = random_.choice([content, content["labels"], content["labels"], content["channel_names"]])
        key = random_.choice(list(holder))
        if random_.random() < 0.2:
            holder[random_.choice(("", "a\x1b\u202e", "**", "../x", "$\\frac"))] = holder.pop(key)
        else:
            holder[key] = random_.choice(HOSTILE)
        data = json.dumps(content).encode()
        file.write_bytes(data if random_.random() < 0.9 else data[: random_.randrange(len(data))])
        try:
            outcome = evaluate_folder(*folders, load_dataset_json(file), policies=("nnunet",))
            assert isinstance(outcome, pd.DataFrame)
        except UserError as error:
            outcome = str(error)
            assert outcome.isprintable()
        outcomes.append(type(outcome))
    assert {outcomes.count(kind) > 10 for kind in (str, pd.DataFrame)} == {True}


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices in the tree of files")
@pytest.mark.parametrize("kind", ["pipe", "endless device", "deep"])
def test_a_dataset_json_that_cannot_end_is_refused(tmp_path, time_limit, kind):
    file = tmp_path / "dataset.json"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "deep":
        file.write_bytes(b'{"labels":' * 100_000)
    else:
        file.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"regular file|nested"):
        load_dataset_json(file)


@pytest.mark.parametrize("ending", ["**x", ".[", "[!.]x", ".{0.__class__}", "../x"])
def test_a_file_ending_is_no_pattern(folders, ending):
    with pytest.raises(UserError, match=r"no .* files"):
        evaluate_folder(*folders, {**DATASET, "file_ending": ending})


def test_a_file_ending_of_pattern_characters_is_taken_as_it_is(folders):
    for folder in folders:
        (folder / "case.nii.gz").rename(folder / "case.[!z].nii.gz")
    table = evaluate_folder(*folders, {**DATASET, "file_ending": ".[!z].nii.gz"}, policies=("nnunet",))
    assert set(table["case"]) == {"case"}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({"background": 0, "organ": 1, "ignore": [2, 3]}, "ignore label"),
        ({"background": 0, "ignore": 1}, "no label but"),
        ({"background": 0, "organ": ["x"]}, "labels.organ"),
        ({"background": 0, "organ": {"x": 1}}, "labels.organ"),
        ([0, 1], "labels is a list"),
    ],
)
def test_labels_that_cannot_be_evaluated_are_told(tmp_path, labels, message):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    with pytest.raises(UserError, match=message):
        load_dataset_json(tmp_path / "dataset.json")


NRRD = b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 4 4 4\nencoding: raw\n"
META = b"ObjectType = Image\nNDims = 3\nDimSize = 4 4 4\nElementType = MET_UCHAR\n"


@pytest.mark.parametrize(
    ("name", "header"),
    [
        ("x.nrrd", NRRD + b"data file: %s\n"),
        ("x.nrrd", NRRD + b"datafile: %s\n"),
        ("x.nrrd", NRRD.replace(b"\n", b"\r\n") + b"Data File: %s\r\n"),
        ("x.nrrd", NRRD.replace(b"\n", b"\r") + b"data file: %s\r"),
        ("x.nrrd", NRRD + b"#" + b"x" * (1 << 20) + b"\ndata file: %s\n"),
        ("x.nhdr", NRRD + b"data file: %s\n"),
        ("x.mha", META + b"ElementDataFile = %s\n"),
        ("x.mha", META + b"ElementDataFile : %s\n"),
        ("x.mha", b"note\nElementDataFile = LOCAL\n" + META + b"ElementDataFile = %s\n"),
        ("x.mha", b"note = x\rElementDataFile = LOCAL\n" + META + b"ElementDataFile = %s\n"),
        ("x.mha", META.replace(b"4 4 4", b"4 4 1") + b"ElementDataFile = LIST\n%s\n"),
        ("x.mhd", META + b"ElementDataFile = %s\n"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_image_whose_voxels_lie_in_another_file_is_refused(tmp_path, name, header):
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(range(64)))
    (tmp_path / name).write_bytes(header % str(secret).encode())
    with pytest.raises(UserError, match="voxels lie in the same file"):
        read_image(tmp_path / name)


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii", ".nii.gz", ".gipl", ".tif"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_format_of_nnunet_is_read_whole(tmp_path, ending, compressed):
    labels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    image = sitk.GetImageFromArray(labels)
    image.SetMetaData("a note", "ElementDataFile = elsewhere, data file: elsewhere" if ending == ".mha" else "x")
    sitk.WriteImage(image, str(tmp_path / f"x{ending}"), compressed)
    assert np.array_equal(read_image(tmp_path / f"x{ending}")[0], labels)


def test_images_too_large_to_hold_are_refused_before_they_are_read(tmp_path, monkeypatch):
    labels = np.zeros((3, 4, 5), np.uint8)
    for name in ("x.nii", "x.nii.gz"):
        sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / name))
    monkeypatch.setattr(images, "MAX_VOXELS", 59)
    with pytest.raises(UserError, match="more than the 59 voxels"):
        read_image(tmp_path / "x.nii")
    monkeypatch.setattr(images, "MAX_VOXELS", 60)
    monkeypatch.setattr(images, "_MORE_BYTES", 100)
    with pytest.raises(UserError, match="unpacks to more than its header declares"):
        read_image(tmp_path / "x.nii.gz")


@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan, 1e300, 0.5])
def test_values_that_are_no_labels_are_refused(tmp_path, value):
    labels = np.ones((2, 3, 4))
    labels[0, 0, 0] = value
    sitk.WriteImage(sitk.GetImageFromArray(labels), str(tmp_path / "x.mha"))
    with pytest.raises(UserError, match="whole numbers"):
        read_label_map(tmp_path / "x.mha")
