"""From every synthetic download to nnU-Net and back: nothing is lost, and the same source gives the same bytes."""

from __future__ import annotations

import gzip
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.cases import case_forms as forms

# dataset, layout, form, folder
FORMS = [
    ("brats2019", "folder", "3d", "Dataset519_BraTS2019"),
    ("brats2019", "zip", "3d", "Dataset519_BraTS2019"),
    ("brats2020", "kaggle", "3d", "Dataset520_BraTS2020"),
    ("brats2020", "folder", "3d", "Dataset520_BraTS2020"),
    ("brats2020", "zip", "3d", "Dataset520_BraTS2020"),
    ("brats2021", "folder", "3d", "Dataset521_BraTS2021"),
    ("brats2021", "kaggle", "3d", "Dataset521_BraTS2021"),
    ("brats2021", "zip", "3d", "Dataset521_BraTS2021"),
    ("lgg", "folder", "2d", "Dataset535_LGGSlices"),
    ("lgg", "folder", "3d", "Dataset536_LGGVolumes"),
    ("lgg", "zip", "2d", "Dataset535_LGGSlices"),
]


def _files(source: Path) -> Iterator[tuple[str, bytes]]:
    """Names and contents of a download, archives opened, the first copy of a tree only."""
    for path in sorted(path for path in source.rglob("*") if path.is_file()):
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                for name in archive.namelist():
                    yield name, archive.read(name)
        elif path.suffix == ".tar":
            with tarfile.open(path) as archive:
                for member in archive:
                    file = archive.extractfile(member)
                    assert file is not None
                    yield member.name, file.read()
        else:
            yield path.relative_to(source).as_posix(), path.read_bytes()


def _array(name: str, data: bytes) -> np.ndarray:
    if name.endswith(".tif"):
        return np.asarray(Image.open(io.BytesIO(data)))
    return np.asarray(nibabel.Nifti1Image.from_bytes(gzip.decompress(data) if name.endswith(".gz") else data).dataobj)


def _labels(files: Iterator[tuple[str, bytes]]) -> dict[str, np.ndarray]:
    ends = ("_seg.nii", "_seg.nii.gz", "_Segm.nii", "_mask.tif")
    return {name.rsplit("/", 1)[-1]: _array(name, data) for name, data in files if name.endswith(ends)}


@pytest.mark.parametrize(("dataset", "layout", "form", "folder"), FORMS)
def test_a_phantom_converts_verifies_and_comes_back_as_it_was(
    dataset, layout, form, folder, pristine, command, verify, nnunet_folders, tmp_path
):
    source = pristine(dataset, layout=layout, quirks=True)
    outcome = command("convert", dataset, "-i", source, *(["--as", form] if dataset == "lgg" else []))
    assert outcome.code == 0, outcome.err
    assert outcome.out.splitlines()[-1].startswith("next: nnUNetv2_plan_and_preprocess -d")
    converted = nnunet_folders.raw / folder
    verify(converted)
    assert (
        command(
            "to-submission", dataset, "-d", folder[7:10], "-i", converted / "labelsTr", "-o", tmp_path / "back"
        ).code
        == 0
    )
    expected = _labels(_files(source))
    back = {path.name: path.read_bytes() for path in (tmp_path / "back").iterdir()}
    assert back.keys() == expected.keys()
    for name, data in back.items():
        values = _array(name, data)
        assert np.array_equal(values, expected[name]), name
        assert values.dtype == expected[name].dtype, name


@pytest.mark.parametrize(
    ("dataset", "folder", "channels"),
    [
        ("brats2021", "Dataset521_BraTS2021", ("t1", "t1ce", "t2", "flair")),
        ("brats2020", "Dataset520_BraTS2020", ("t1", "t1ce", "t2", "flair")),
    ],
)
def test_channels_and_labels_are_where_nnunet_expects_them(
    dataset, folder, channels, pristine, command, nnunet_folders
):
    source = pristine(dataset, layout="folder", quirks=True)
    assert command("convert", dataset, "-i", source).code == 0
    converted = nnunet_folders.raw / folder
    description = json.loads((converted / "dataset.json").read_text())
    assert list(description["channel_names"].values()) == ["T1", "T1ce", "T2", "FLAIR"]
    assert description["labels"] == {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": [3],
    }
    contents = {name.rsplit("/", 1)[-1]: data for name, data in _files(source)}
    cases = sorted(path.name.removesuffix(".nii.gz") for path in (converted / "labelsTr").iterdir())
    assert len(cases) == description["numTraining"] == 6
    for case in cases:
        for number, channel in enumerate(channels):
            written = (converted / "imagesTr" / f"{case}_{number:04d}.nii.gz").read_bytes()
            assert written == contents[f"{case}_{channel}.nii.gz"], "an unchanged image keeps its bytes"
        label = _array(".gz", (converted / "labelsTr" / f"{case}.nii.gz").read_bytes())
        original = _array(".gz", contents[f"{case}_seg.nii.gz"])
        for theirs, ours in ((0, 0), (1, 2), (2, 1), (4, 3)):
            assert np.array_equal(label == ours, original == theirs), f"{case}: {theirs} becomes {ours}"


def test_test_cases_come_back_under_the_names_of_the_challenge(pristine, command, nnunet_folders, tmp_path):
    assert command("convert", "brats2020", "-i", pristine("brats2020", quirks=True)).code == 0
    converted = nnunet_folders.raw / "Dataset520_BraTS2020"
    images = sorted(path.name for path in (converted / "imagesTs").iterdir())
    assert images == [f"BraTS20_Validation_001_{n:04d}.nii.gz" for n in range(4)]
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    some_label = next((converted / "labelsTr").iterdir())
    (predictions / "BraTS20_Validation_001.nii.gz").write_bytes(some_label.read_bytes())
    assert command("to-submission", "brats2020", "-i", predictions, "-o", tmp_path / "back").code == 0
    (written,) = (tmp_path / "back").iterdir()
    assert written.name == "BraTS20_Validation_001.nii.gz"
    assert set(np.unique(_array(written.name, written.read_bytes()))) == {0, 1, 2, 4}


def test_two_scans_of_one_patient_share_a_fold_and_slices_stay_with_their_patient(pristine, command, nnunet_folders):
    # Three folds of four patients (five scans), and of slices of six patients.
    assert command("convert", "brats2021", "-i", pristine("brats2021", quirks=True, cases=5), "--splits", 3).code == 0
    folds = json.loads((nnunet_folders.raw / "Dataset521_BraTS2021" / "splits_final.json").read_text())
    for fold in folds:
        assert ("BraTS2021_00008" in fold["val"]) == ("BraTS2021_01559" in fold["val"])
    assert sorted(case for fold in folds for case in fold["val"]) == sorted(folds[0]["train"] + folds[0]["val"])
    assert command("convert", "lgg", "-i", pristine("lgg", quirks=True), "--splits", 3).code == 0
    folds = json.loads((nnunet_folders.raw / "Dataset535_LGGSlices" / "splits_final.json").read_text())
    for fold in folds:
        patients = [{name.rsplit("_s", 1)[0] for name in fold[part]} for part in ("train", "val")]
        assert not patients[0] & patients[1]


# --- the same bytes ----------------------------------------------------------------------------------------------


def _without_run(folder: Path, tree) -> tuple[dict[str, str], dict]:
    """Everything but the part of the record that says when and how a conversion ran."""
    files = tree(folder)
    assert files.pop("provenance.json")
    record = json.loads((folder / "provenance.json").read_text())
    assert record.pop("run")
    return files, record


SAME = [("brats2021", "kaggle", "Dataset521_BraTS2021"), ("lgg", "folder", "Dataset535_LGGSlices")]
SAME += [("busi", "zip", "Dataset531_BUSI"), ("kvasir-seg", "folder", "Dataset537_KvasirSEG")]


@pytest.mark.parametrize(("dataset", "layout", "folder"), SAME)
def test_number_of_processes_does_not_change_a_byte(dataset, layout, folder, pristine, command, tree, tmp_path):
    source = pristine(dataset, layout=layout, quirks=True)
    results = []
    for number in (1, 3):
        out = tmp_path / f"raw{number}"
        assert command("convert", dataset, "-i", source, "-o", out, "-np", number).code == 0
        results.append(_without_run(out / folder, tree))
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("dataset", "folder"),
    [
        ("brats2020", "Dataset520_BraTS2020"),
        ("hvsmr2016", "Dataset545_HVSMR2016"),
        ("malc", "Dataset546_MALC32"),
        ("lgg", "Dataset535_LGGSlices"),
        ("busi", "Dataset531_BUSI"),
        ("kvasir-seg", "Dataset537_KvasirSEG"),
    ],
)
def test_order_of_directory_listings_does_not_change_a_byte(
    dataset, folder, pristine, command, tree, tmp_path, monkeypatch
):
    source = pristine(dataset, quirks=True)
    assert command("convert", dataset, "-i", source, "-o", tmp_path / "sorted").code == 0
    scandir, listdir = os.scandir, os.listdir
    orders = []

    @contextmanager
    def backwards(path="."):
        with scandir(path) as entries:
            found = sorted(entries, key=lambda entry: entry.name, reverse=True)
        orders.append(len(found))
        yield iter(found)

    with monkeypatch.context() as other_order:
        other_order.setattr(os, "scandir", backwards)
        other_order.setattr(os, "listdir", lambda path=".": sorted(listdir(path), reverse=True))
        assert command("convert", dataset, "-i", source, "-o", tmp_path / "backwards").code == 0
    assert max(orders) > 1, "the converter lists folders in a way this test does not reach"
    assert _without_run(tmp_path / "sorted" / folder, tree) == _without_run(tmp_path / "backwards" / folder, tree)


@pytest.mark.parametrize(
    ("dataset", "layout", "folder", "finished"), [*((*SAME[0], finished) for finished in (0, 1, 3, 5)), (*SAME[1], 2)]
)
def test_an_interrupted_conversion_resumed_gives_the_bytes_of_an_undisturbed_one(
    dataset, layout, folder, finished, pristine, command, tree, tmp_path, monkeypatch
):
    source = pristine(dataset, layout=layout, quirks=True)
    done, original = [], forms.run

    def run(task):
        if len(done) == finished:
            raise KeyboardInterrupt
        done.append(task.case.id)
        return original(task)

    with monkeypatch.context() as interrupted:
        interrupted.setattr(forms, "run", run)
        assert command("convert", dataset, "-i", source, "-o", tmp_path / "raw").code == 130
    half = tmp_path / "raw" / folder
    assert not (half / "dataset.json").exists()
    assert not [path for path in half.rglob("*") if ".tmp-" in path.name]
    again: list[str] = []
    with monkeypatch.context() as counted:
        counted.setattr(forms, "run", lambda task: again.append(task.case.id) or original(task))
        assert command("convert", dataset, "-i", source, "-o", tmp_path / "raw").code == 0
    assert not set(again) & set(done), "finished cases were converted again"
    assert command("convert", dataset, "-i", source, "-o", tmp_path / "undisturbed").code == 0
    assert _without_run(half, tree) == _without_run(tmp_path / "undisturbed" / folder, tree)


def test_a_conversion_killed_without_warning_resumes_to_the_same_bytes(pristine, command, tree, tmp_path):
    source = pristine("brats2021", layout="kaggle", quirks=True)
    # A child that stops before its fourth case and is then killed as the system kills: no clean-up runs.
    program = (
        "import time\n"
        "from nnunet_ext.cli import main\n"
        "from nnunet_ext.dataset_conversion.cases import case_forms as forms\n"
        "original, done = forms.run, []\n"
        "def run(task):\n"
        "    if len(done) == 3:\n"
        "        folder = __import__('pathlib').Path(task.folder)\n"
        "        (folder / 'imagesTr' / ('.' + task.case.id + '_0000.nii.gz.tmp-1')).write_bytes(b'half')\n"
        "        with (folder / '.convert.jsonl').open('ab') as journal:\n"
        "            journal.write(b'{\"torn')\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
        "    done.append(task)\n"
        "    return original(task)\n"
        "forms.run = run\n"
        f"main(['convert', 'brats2021', '-i', {str(source)!r}, '-o', {str(tmp_path / 'raw')!r}, '-np', '1'])\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "ready\n"
        child.send_signal(signal.SIGKILL)
    half = tmp_path / "raw" / "Dataset521_BraTS2021"
    assert not (half / "dataset.json").exists()
    assert len(list((half / "labelsTr").iterdir())) == 3
    outcome = command("convert", "brats2021", "-i", source, "-o", tmp_path / "raw")
    assert outcome.code == 0, outcome.err
    assert command("convert", "brats2021", "-i", source, "-o", tmp_path / "undisturbed").code == 0
    assert _without_run(half, tree) == _without_run(tmp_path / "undisturbed" / half.name, tree)


def test_converting_again_changes_nothing(pristine, command, tree, nnunet_folders):
    source = pristine("brats2021", quirks=True)
    assert command("convert", "brats2021", "-i", source).code == 0
    first = tree(nnunet_folders.raw)
    assert command("convert", "brats2021", "-i", source).code == 0
    assert tree(nnunet_folders.raw) == first


def test_a_dry_run_writes_nothing(pristine, capsys, nnunet_folders):
    for dataset in ("brats2019", "brats2020", "brats2021", "busi", "hvsmr2016", "kvasir-seg", "lgg", "malc"):
        assert main(["convert", dataset, "-i", str(pristine(dataset, quirks=True)), "--dry-run"]) == 0
        assert capsys.readouterr().out
    assert list(nnunet_folders.raw.iterdir()) == []
