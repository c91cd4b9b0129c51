"""Sources, options and output folders that cannot work: one line, exit 2, nothing half-written.

Row numbers are those of the table of malformed inputs on the design page of the datasets.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections import namedtuple
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.cases import case_forms as forms

CASE = "BraTS2021_00002"
FOLDER = "Dataset521_BraTS2021"
LOCK = ".Dataset521.lock"  # stays there once a conversion is past its plan


# --- sources (rows 1-6, 86-88) -----------------------------------------------------------------------------------


def test_a_source_that_does_not_exist_is_named(refused, tmp_path):
    refused("LAY01", ("source not found", "nowhere"), "convert", "brats2021", "-i", tmp_path / "nowhere")


def test_an_empty_folder_has_no_known_layout(refused, tmp_path):
    (tmp_path / "empty").mkdir()
    refused("LAY01", ("no known layout", str(tmp_path / "empty")), "convert", "brats2021", "-i", tmp_path / "empty")


def test_a_folder_with_a_table_alone_has_no_known_layout(refused, tmp_path):
    folder = tmp_path / "tables"
    folder.mkdir()
    (folder / "name_mapping.csv").write_text("Grade,BraTS_2021\nHGG,BraTS2021_00002\n")
    refused("LAY01", ("no known layout", str(folder)), "convert", "brats2021", "-i", folder)


def test_the_tree_of_another_dataset_is_recognised(refused, pristine):
    refused("LAY01", ("this looks like lgg, not brats2021",), "convert", "brats2021", "-i", pristine("lgg"))
    refused("LAY01", ("this looks like brats2020, not lgg",), "convert", "lgg", "-i", pristine("brats2020"))


def test_auto_does_not_choose_between_two_datasets(refused, download, tmp_path):
    source = download("lgg", name="both/lgg")
    download("brats2021", name="both/brats")
    refused("LAY02", ("brats2021 and lgg both match", str(source.parent)), "convert", "auto", "-i", source.parent)


def test_auto_takes_the_only_dataset_that_fits(command, pristine, nnunet_folders):
    assert command("convert", "auto", "-i", pristine("brats2021")).code == 0
    assert (nnunet_folders.raw / FOLDER / "dataset.json").is_file()


@pytest.mark.parametrize(("name", "close"), [("BraTS22", "brats20"), ("brats-2012", "brats2021"), ("lgg3", "lgg")])
def test_an_unknown_dataset_gets_the_nearest_name(name, close, refused, pristine):
    refused("LAY01", (f'unknown dataset "{name}" - did you mean {close}',), "convert", name, "-i", pristine("lgg"))


@pytest.mark.parametrize("level", [".", "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021", "../above"])
def test_any_level_of_the_download_will_do(level, command, download, nnunet_folders):
    source = download("brats2021", name="above/download")
    given = source.parent if level == "../above" else source / level
    assert command("convert", "brats2021", "-i", given).code == 0
    assert len(list((nnunet_folders.raw / FOLDER / "labelsTr").iterdir())) == 6


def test_a_single_case_needs_no_folds_and_says_so_where_they_are_asked_for(refused, command, pristine, nnunet_folders):
    case = next(pristine("brats2021").rglob(CASE))
    refused("CNT02", ("only one training case", "--splits 0"), "convert", "brats2021", "-i", case)
    assert command("convert", "brats2021", "-i", case, "--splits", "0").code == 0
    assert not (nnunet_folders.raw / FOLDER / "splits_final.json").exists()


def test_without_a_raw_folder_the_variable_is_named(refused, pristine, monkeypatch, nnunet_folders):
    monkeypatch.delenv("nnUNet_raw")
    refused("OUT04", ("nnUNet_raw is not set", "-o"), "convert", "brats2021", "-i", pristine("brats2021"))


def test_a_loop_of_links_neither_hangs_nor_counts_a_file_twice(command, download, nnunet_folders):
    source = download("brats2021")
    top = next(source.iterdir())
    (top / "again").symlink_to(source, target_is_directory=True)
    (top / CASE / "up").symlink_to(top, target_is_directory=True)
    outcome = command("convert", "brats2021", "-i", source)
    assert outcome.code == 0
    assert "DUP01" not in outcome.out + outcome.err
    assert len(list((nnunet_folders.raw / FOLDER / "labelsTr").iterdir())) == 6


@pytest.mark.parametrize("which", ["dataset", "raw"])
def test_source_and_output_must_not_be_the_same(which, refused, download, nnunet_folders):
    nnunet_folders.raw.rmdir()
    source = download("brats2021", name="nnUNet_raw" if which == "raw" else f"nnUNet_raw/{FOLDER}")
    before = sorted(source.rglob("*"))
    refused("OUT01", ("source and output are the same",), "convert", "brats2021", "-i", source)
    assert sorted(source.rglob("*")) == before


# --- folds and groups (rows 63-67) -------------------------------------------------------------------------------


def test_three_groups_cannot_make_five_folds(refused, pristine):
    source = pristine("brats2021", cases=3)
    refused("SPL01", ("3 groups cannot make 5 folds", "--splits 3"), "convert", "brats2021", "-i", source)


def test_two_scans_of_one_patient_are_one_group(refused, pristine):
    source = pristine("brats2021", quirks=True, cases=5)
    refused("SPL01", ("4 groups cannot make 5 folds",), "convert", "brats2021", "-i", source)


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        (["case,group", "BraTS2021_00000,a"], "lacks BraTS2021_00002 and 4 more"),
        (["case,group", *(f"BraTS2021_{n:05d},a" for n in (0, 2, 2, 3, 5, 6, 8))], "has BraTS2021_00002 twice"),
        (["scan,patient", "BraTS2021_00000,a"], "does not begin with the columns case and group"),
        (["case,group", "BraTS2021_00000"], "no group for BraTS2021_00000"),
        (["case,group", "BraTS2021_00000,"], "no group for BraTS2021_00000"),
    ],
)
def test_a_table_of_groups_must_be_whole(rows, text, refused, pristine, tmp_path):
    table = tmp_path / "groups.csv"
    table.write_text("\n".join(rows) + "\n")
    refused("CSV02", (text, "groups.csv"), "convert", "brats2021", "-i", pristine("brats2021"), "--groups", table)


CASES = [f"BraTS2021_{number:05d}" for number in (0, 2, 3, 5, 6, 8)]


@pytest.mark.parametrize(
    ("folds", "text"),
    [
        ([{"train": CASES[:3], "val": ["BraTS2021_99999"]}], "unknown case BraTS2021_99999"),
        ([{"train": CASES[:3], "val": CASES[2:]}], "BraTS2021_00003 in training and validation"),
        ({"train": CASES}, "cannot be read"),
        ([{"train": CASES}], "cannot be read"),
    ],
)
def test_given_folds_must_fit(folds, text, refused, pristine, tmp_path):
    file = tmp_path / "folds.json"
    file.write_text(json.dumps(folds))
    refused("SPL02", (text, "folds.json"), "convert", "brats2021", "-i", pristine("brats2021"), "--splits", file)


def test_given_folds_that_fit_are_used_as_they_are(command, pristine, tmp_path, nnunet_folders):
    folds = [{"train": CASES[:3], "val": CASES[3:]}, {"train": CASES[3:], "val": CASES[:3]}]
    file = tmp_path / "folds.json"
    file.write_text(json.dumps(folds))
    assert command("convert", "brats2021", "-i", pristine("brats2021"), "--splits", file).code == 0
    assert json.loads((nnunet_folders.raw / FOLDER / "splits_final.json").read_text()) == folds


# --- the output folder (rows 68-74) ------------------------------------------------------------------------------


def test_a_folder_of_others_is_not_touched(refused, pristine, nnunet_folders):
    mine = nnunet_folders.raw / FOLDER / "imagesTr" / "mine.nii.gz"
    mine.parent.mkdir(parents=True)
    mine.write_text("keep")
    for more in ((), ("--restart",)):
        refused(
            "OUT01", (FOLDER, "not made by this converter"), "convert", "brats2021", "-i", pristine("brats2021"), *more
        )
    assert [p.name for p in (nnunet_folders.raw / FOLDER).rglob("*") if p.is_file()] == ["mine.nii.gz"]


@pytest.mark.parametrize("place", ["raw", "preprocessed", "results"])
def test_an_id_taken_by_another_name_is_refused(place, refused, pristine, nnunet_folders):
    (getattr(nnunet_folders, place) / "Dataset521_Other").mkdir()
    refused("OUT02", ("id 521", "Dataset521_Other"), "convert", "brats2021", "-i", pristine("brats2021"))
    assert not (nnunet_folders.raw / FOLDER).exists()


@pytest.mark.parametrize("number", ["0", "1000", "abc", "-3", "1.5"])
def test_an_impossible_id_is_refused(number, refused, pristine):
    refused("OUT02", ("dataset id must be 1..999",), "convert", "brats2021", "-i", pristine("brats2021"), f"-d{number}")


def test_too_little_space_is_noticed_before_anything_is_written(refused, pristine, monkeypatch, nnunet_folders):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 2_000, 2_000))
    refused(
        "OUT03",
        ("MB are free", str(nnunet_folders.raw)),
        "convert",
        "brats2021",
        "-i",
        pristine("brats2021"),
        "--link",
        "copy",
    )
    assert [path.name for path in nnunet_folders.raw.iterdir()] == [LOCK]


@pytest.mark.parametrize("successful", [0, 1, 7, 20])
def test_a_disk_that_fills_up_leaves_whole_files_and_the_run_can_be_resumed(
    successful, refused, command, pristine, monkeypatch, nnunet_folders, tree, tmp_path
):
    source = pristine("brats2021")
    calls = []

    def fill_up(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > successful + 1:  # the first is the record itself
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fill_up)
        line = refused("OUT04", ("the disk is full", "resume"), "convert", "brats2021", "-i", source, "--link", "copy")
    assert str(nnunet_folders.raw) in line
    assert command("convert", "brats2021", "-i", source, "--link", "copy").code == 0
    undisturbed = tmp_path / "undisturbed"
    assert command("convert", "brats2021", "-i", source, "--link", "copy", "-o", undisturbed).code == 0
    first, second = tree(nnunet_folders.raw / FOLDER), tree(undisturbed / FOLDER)
    assert first.pop("provenance.json")
    assert second.pop("provenance.json")
    assert first == second


def test_a_folder_that_cannot_be_written_to_is_named(refused, pristine, monkeypatch, nnunet_folders):
    nnunet_folders.raw.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.geteuid() == 0:  # root may write everywhere, whatever the mode says
        real = os.access
        monkeypatch.setattr(
            os,
            "access",
            lambda path, mode, **how: (
                not (Path(path) == nnunet_folders.raw and mode & os.W_OK) and real(path, mode, **how)
            ),
        )
    try:
        refused(
            "OUT04",
            (str(nnunet_folders.raw), "cannot be written to"),
            "convert",
            "brats2021",
            "-i",
            pristine("brats2021"),
        )
    finally:
        nnunet_folders.raw.chmod(stat.S_IRWXU)
    assert list(nnunet_folders.raw.iterdir()) == []


def _interrupt_after(monkeypatch, finished: int) -> None:
    """The conversion is interrupted when so many cases are done."""
    done = []

    def run(task):
        if len(done) == finished:
            raise KeyboardInterrupt
        done.append(task)
        return original(task)

    original = forms.run
    monkeypatch.setattr(forms, "run", run)


@pytest.mark.parametrize("difference", ["another source", "another option"])
def test_a_run_is_not_resumed_with_something_else(difference, refused, command, download, monkeypatch, edit_nifti):
    source = download("brats2021")
    with monkeypatch.context() as interrupted:
        _interrupt_after(interrupted, 2)
        assert command("convert", "brats2021", "-i", source).code == 130
    if difference == "another source":
        (next(source.rglob(CASE))).rename(next(source.iterdir()) / "x")
        other = download("brats2021", name="other", cases=5)
        refused("OUT05", (FOLDER,), "convert", "brats2021", "-i", other)
    else:
        refused("OUT05", (FOLDER,), "convert", "brats2021", "-i", source, "--seed", "1")
    assert command("convert", "brats2021", "-i", source, "--restart").code == 0


def test_there_must_be_something_to_resume(refused, pristine):
    refused("OUT05", ("nothing to resume", FOLDER), "convert", "brats2021", "-i", pristine("brats2021"), "--resume")


@pytest.mark.parametrize("number", ["0", "-3"])
def test_an_impossible_number_of_processes_is_refused(number, command, pristine, nnunet_folders):
    outcome = command("convert", "brats2021", "-i", pristine("brats2021"), "-np", number)
    assert outcome.code == 2
    assert outcome.err.startswith("error")
    assert "-np" in outcome.err
    assert len(outcome.err.strip().splitlines()) == 1
    assert list(nnunet_folders.raw.iterdir()) == []


def test_other_folds_in_the_preprocessed_folder_are_warned_of(command, pristine, nnunet_folders):
    folder = nnunet_folders.preprocessed / FOLDER
    folder.mkdir()
    (folder / "splits_final.json").write_text("[]")
    outcome = command("convert", "brats2021", "-i", pristine("brats2021"))
    assert outcome.code == 0
    assert "SPL06" in outcome.out
    assert str(folder / "splits_final.json") in outcome.out


# --- tables (row 84) and the way back (rows 89, 90) --------------------------------------------------------------


def test_a_table_that_cannot_be_read_is_a_warning(command, download):
    source = download("brats2020")
    next(source.rglob("name_mapping.csv")).write_bytes(b"\x00\xff\x00PK nothing of a table")
    outcome = command("convert", "brats2020", "-i", source)
    assert outcome.code == 0
    assert "CSV01" in outcome.out
    assert "name_mapping.csv" in outcome.out


def _converted(command, source, nnunet_folders) -> Path:
    assert command("convert", "brats2021", "-i", source).code == 0
    return nnunet_folders.raw / FOLDER


def test_a_missing_prediction_is_named(command, refused, pristine, nnunet_folders, tmp_path):
    folder = _converted(command, pristine("brats2021"), nnunet_folders)
    predictions = Path(shutil.copytree(folder / "labelsTr", tmp_path / "predictions"))
    (predictions / f"{CASE}.nii.gz").unlink()
    outcome = command("to-submission", "brats2021", "-i", predictions, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error NAM01: no prediction for {CASE}")
    assert not (tmp_path / "out").exists()
    assert command("to-submission", "brats2021", "-i", predictions, "-o", tmp_path / "out", "--partial").code == 0


def test_a_label_map_without_inverse_is_refused(command, pristine, nnunet_folders, tmp_path):
    folder = _converted(command, pristine("brats2021"), nnunet_folders)
    record = json.loads((folder / "provenance.json").read_text())
    record["label_map"]["inverse"] = None
    (folder / "provenance.json").write_text(json.dumps(record))
    outcome = command("to-submission", "brats2021", "-i", folder / "labelsTr", "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.startswith("error LAB01: the label map is lossy")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("what", ["a value that is no label", "another shape", "a damaged file"])
def test_a_prediction_that_does_not_fit_is_refused(what, command, pristine, nnunet_folders, tmp_path, edit_nifti):
    folder = _converted(command, pristine("brats2021"), nnunet_folders)
    predictions = Path(shutil.copytree(folder / "labelsTr", tmp_path / "predictions"))
    file = predictions / f"{CASE}.nii.gz"
    code = {"a value that is no label": "LAB01", "another shape": "GEO02", "a damaged file": "GZ01"}[what]
    if what == "a value that is no label":
        edit_nifti(file, lambda values: values + values.dtype.type(2))
    elif what == "another shape":
        edit_nifti(file, lambda values: values[:, :-1])
    else:
        file.write_bytes(file.read_bytes()[:-4])
    outcome = command("to-submission", "brats2021", "-i", predictions, "-o", tmp_path / "out")
    assert outcome.code == 2
    assert outcome.err.startswith(f"error {code}: ")
    assert file.name in outcome.err
    assert not (tmp_path / "out" / f"{CASE}_seg.nii.gz").exists()
