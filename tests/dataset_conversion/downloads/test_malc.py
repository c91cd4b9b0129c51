"""MALC from its download to nnU-Net and back: two lists of labels, the split, second scans, left and right."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.dataset_conversion.datasets import get

COARSE, FINE = "Dataset546_MALC32", "Dataset547_MALC134"
DATA = Path(__file__).parents[3] / "nnunet_ext" / "dataset_conversion" / "datasets" / "data"
TABLE = list(csv.DictReader((DATA / "malc_labels.csv").read_text().splitlines()))


def values(path):
    return np.asarray(nibabel.load(path).dataobj)


def cases(folder):
    return sorted(path.name.removesuffix(".nii.gz") for path in folder.iterdir()) if folder.exists() else []


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", ["folder", "zip"])
def test_the_fine_labels_come_back_as_they_were(layout, pristine, command, verify, nnunet_folders, tmp_path):
    source = pristine("malc", layout=layout, quirks=True)
    done = command("convert", "malc", "-i", source, "--labels", "fine")
    assert done.code == 0, done.err
    raw = nnunet_folders.raw / FINE
    verify(raw)
    ignored = list(get("malc").targets["fine"].labels.ignored)
    originals = {path.name: path for path in pristine("malc", quirks=True).rglob("*_glm.nii.gz")}
    for part, count in (("labelsTr", 5), ("labelsTs", 1)):
        back = command("to-submission", "malc", "-d", 547, "-i", raw / part, "-o", tmp_path / part)
        assert back.code == 0, back.err
        found = sorted((tmp_path / part).iterdir())
        assert len(found) == count
        for path in found:
            original = values(originals[path.name])
            assert values(path).dtype == original.dtype == np.int16
            assert np.array_equal(values(path), np.where(np.isin(original, ignored), 0, original)), path.name


@pytest.mark.parametrize(("protocol", "folder", "column"), [("coarse", COARSE, "coarse32"), ("fine", FINE, "id134")])
def test_every_voxel_has_the_number_of_the_table(protocol, folder, column, pristine, command, nnunet_folders):
    source = pristine("malc", quirks=True)
    assert command("convert", "malc", "-i", source, "--labels", protocol).code == 0
    number = {int(row["raw_value"]): int(row[column]) for row in TABLE}
    seen = set()
    for case in cases(nnunet_folders.raw / folder / "labelsTr"):
        original = values(next(source.rglob(f"{case}_glm.nii.gz")))
        written = values(nnunet_folders.raw / folder / "labelsTr" / f"{case}.nii.gz")
        for value in np.unique(original):
            assert set(np.unique(written[original == value])) == {number.get(int(value), 0)}, value
            seen.add(int(value))
    assert len(seen & set(number)) > 100, "the phantom holds most of the structures"
    labels = json.loads((nnunet_folders.raw / folder / "dataset.json").read_text())["labels"]
    assert labels == {"background": 0} | {
        row["name" if protocol == "fine" else "coarse32_name"]: int(row[column]) for row in TABLE if row[column] != "0"
    }


def test_the_table_and_the_values_without_meaning_cover_what_the_challenge_lists():
    fine, coarse = (get("malc").targets[key].labels for key in ("fine", "coarse"))
    assert len(fine.forward) == 135
    assert not fine.lossy
    assert fine.inverse == {ours: source for source, ours in fine.forward.items()}
    assert list(fine.forward) == sorted(fine.forward), "numbered in rising order of the challenge's numbers"
    assert [fine.forward[value] for value in sorted(fine.forward)] == list(range(135))
    assert coarse.lossy
    assert sorted(set(coarse.forward.values())) == list(range(33))
    assert {value for value, ours in coarse.forward.items() if value and not ours} == {69, 71, 72, 73, 75, 76}
    assert not set(fine.forward) & set(fine.ignored)
    assert set(range(208)) - set(fine.forward) - set(fine.ignored) == {77, 78, 79, 94, 95, 96}
    left = {value for value, ours in fine.forward.items() if fine.classes.get(ours, "").startswith("Left")}
    assert {value for value in fine.forward if value >= 100 and value % 2} == {value for value in left if value >= 100}


def test_the_page_lists_every_structure():
    page = (Path(__file__).parents[3] / "docs" / "datasets" / "malc.md").read_text()
    for row in TABLE:
        coarse = f"{row['coarse32']} {row['coarse32_name']}".strip()
        assert f"| {row['raw_value']} | {row['name']} | {row['id134']} | {coarse} |" in page


def test_values_without_meaning_are_counted_and_the_coarse_list_leads_no_way_back(
    pristine, command, nnunet_folders, tmp_path
):
    done = command("convert", "malc", "-i", pristine("malc", quirks=True))
    assert "LAB05 6 times, such as: 1000_3: values without meaning set to 0: 15 (3), 74 (8)" in done.out
    assert "files not used" not in done.out, "what others derive from the images is known"
    back = command("to-submission", "malc", "-i", nnunet_folders.raw / COARSE / "labelsTr", "-o", tmp_path / "back")
    assert back.code == 2
    assert "LAB01: the label map is lossy" in back.err


def _count_from_zero(raw):
    return np.unique(raw, return_inverse=True)[1].reshape(raw.shape).astype(np.int16)


@pytest.mark.parametrize(
    ("change", "texts"),
    [
        (lambda raw: _count_from_zero(raw) % 28, ("already renumbered", "1, 2, 3, 4, 5, ...")),
        (lambda raw: _count_from_zero(raw) % 11, ("already renumbered",)),
        (lambda raw: _count_from_zero(raw), ("already renumbered", "label value 77")),
        (lambda raw: np.where(raw == 45, 300, raw), ("label value 300", "outside 0, 4, 11, 23, 30, 31, 32, 35-41,")),
        (lambda raw: np.where(raw == 45, -45, raw), ("label value -45",)),
    ],
    ids=["28 classes", "11 classes", "all structures", "300", "negative"],
)  # fmt: skip
@pytest.mark.parametrize("protocol", ["coarse", "fine"])
def test_labels_with_other_numbers_are_refused(change, texts, protocol, download, edit_nifti, refused):
    source = download("malc")
    path = next(source.rglob("1002_3_glm.nii.gz"))
    edit_nifti(path, change)
    line = refused("LAB01", texts, "convert", "malc", "-i", source, "--labels", protocol, bad_case="1002_3")
    assert path.name in line
    assert len(line) < 700


# --- cases -----------------------------------------------------------------------------------------------------------


def test_the_split_of_the_challenge_and_folds_of_its_training_cases(pristine, command, nnunet_folders):
    assert command("convert", "malc", "-i", pristine("malc", cases=30, quirks=True)).code == 0
    raw = nnunet_folders.raw / COARSE
    split = json.loads((DATA / "malc_split.json").read_text())
    assert cases(raw / "labelsTr") == sorted(f"{number}_3" for number in split["train15"])
    assert cases(raw / "labelsTs") == sorted(f"{number}_3" for number in split["test15"])
    folds = json.loads((raw / "splits_final.json").read_text())
    assert [len(fold["val"]) for fold in folds] == [3] * 5
    assert sorted(case for fold in folds for case in fold["val"]) == cases(raw / "labelsTr")
    assert all(sorted(fold["train"] + fold["val"]) == cases(raw / "labelsTr") for fold in folds)


def test_second_scans_are_left_out_or_test_cases_with_a_warning(pristine, command, nnunet_folders):
    source = pristine("malc", quirks=True)
    done = command("convert", "malc", "-i", source)
    assert "1 cases: second scans of people in the data (--with-rescans keeps them)" in done.out
    assert cases(nnunet_folders.raw / COARSE / "labelsTs") == ["1003_3"]
    assert "SPL05" not in done.out
    done = command("convert", "malc", "-i", source, "--with-rescans", "--restart")
    assert done.code == 0, done.err
    assert cases(nnunet_folders.raw / COARSE / "labelsTs") == ["1003_3", "1023_3"]
    assert "SPL05: 1 test cases are second scans of people in the data, perhaps of training cases" in done.out
    folds = json.loads((nnunet_folders.raw / COARSE / "splits_final.json").read_text())
    assert "1023_3" not in {case for fold in folds for part in fold.values() for case in part}


def test_all_cases_train_without_the_official_split_but_second_scans_need_a_table(
    pristine, command, refused, nnunet_folders, tmp_path
):
    source = pristine("malc", quirks=True)
    everything = ("convert", "malc", "-i", source, "--no-official-split")
    assert command(*everything, "-n", "Single").code == 0
    single = cases(nnunet_folders.raw / "Dataset546_Single" / "labelsTr")
    assert len(single) == 6
    assert "1003_3" in single
    shutil.rmtree(nnunet_folders.raw / "Dataset546_Single")
    for folds in ("5", "0"):
        refused("SPL10", ("1023_3", "--groups"), *everything, "--with-rescans", "--splits", folds)
    table = tmp_path / "groups.csv"
    table.write_text("case,group\n" + "".join(f"{case},{case}\n" for case in single) + "1023_3,1003_3\n")
    done = command(*everything, "--with-rescans", "--groups", table)
    assert done.code == 0, done.err
    folds = json.loads((nnunet_folders.raw / COARSE / "splits_final.json").read_text())
    assert all(("1003_3" in fold["val"]) == ("1023_3" in fold["val"]) for fold in folds)
    assert sum("1023_3" in fold["val"] for fold in folds) == 1


def test_without_labels_of_the_test_cases_they_are_test_cases_all_the_same(pristine, command, nnunet_folders):
    source = pristine("malc", layout="challenge")
    done = command("convert", "malc", "-i", source)
    assert done.code == 0, done.err
    raw = nnunet_folders.raw / COARSE
    assert [path.name for path in (raw / "imagesTs").iterdir()] == ["1003_3_0000.nii.gz"]
    assert cases(raw / "labelsTs") == []
    assert "NAM06" not in done.out
    done = command("convert", "malc", "-i", source, "--no-official-split", "--restart")
    assert done.code == 0, done.err
    assert "training cases: 5, test cases: 1" in done.out


def test_a_training_case_without_a_label_is_an_error_wherever_it_lies(download, refused):
    source = download("malc", layout="challenge")
    next(source.rglob("1001_3_glm.nii.gz")).unlink()
    refused("NAM01", ("1001_3 lacks label",), "convert", "malc", "-i", source)
    image = next(source.rglob("1001_3.nii.gz"))
    image.rename(next(source.rglob("testing-images")) / image.name)
    refused("NAM01", ("1001_3 lacks label",), "convert", "malc", "-i", source)


def test_a_case_that_no_list_names_trains_with_a_warning(download, command, nnunet_folders):
    source = download("malc")
    for name in ("1001_3.nii.gz", "1001_3_glm.nii.gz"):
        path = next(source.rglob(name))
        path.rename(path.with_name(name.replace("1001", "1777")))
    done = command("convert", "malc", "-i", source)
    assert done.code == 0, done.err
    assert "SPL09" in done.out
    assert "1777_3" in cases(nnunet_folders.raw / COARSE / "labelsTr")


# --- left and right --------------------------------------------------------------------------------------------------


def reoriented(source, letters, only=""):
    """Every file of a download with its axes in the order and the directions of these letters."""
    for path in [path for path in source.rglob("*.nii.gz") if only in path.name]:
        image = nibabel.load(path)
        moved = image.as_reoriented(
            nibabel.orientations.ornt_transform(
                nibabel.orientations.io_orientation(image.affine), nibabel.orientations.axcodes2ornt(letters)
            )
        )
        nibabel.save(nibabel.Nifti1Image(np.asarray(moved.dataobj), moved.affine), path)


@pytest.mark.parametrize(("letters", "axis"), [("LPS", 2), ("RAS", 2), ("ASL", 0), ("PRS", 1), ("SAR", 0)])
def test_the_axis_from_left_to_right_is_that_of_the_array_which_nnunet_reads(
    letters, axis, download, command, nnunet_folders
):
    source = download("malc")
    reoriented(source, letters)
    done = command("convert", "malc", "-i", source)
    assert done.code == 0, done.err
    raw = nnunet_folders.raw / COARSE
    assert json.loads((raw / "dataset.json").read_text())["no_mirror_axes"] == [axis]
    assert f"along axis {axis} of nnU-Net's arrays" in (raw / "report.md").read_text()
    # Judged by the labels as nnU-Net reads them: the white matter of the two sides lies apart along this axis alone.
    array = sitk.GetArrayFromImage(sitk.ReadImage(raw / "labelsTr" / "1000_3.nii.gz"))
    left, right = (np.argwhere(array == value).mean(axis=0) for value in (1, 19))
    assert np.argmax(np.abs(left - right)) == axis


def test_images_that_lie_differently_are_warned_of_and_mirrored_along_neither_axis(download, command, nnunet_folders):
    source = download("malc")
    reoriented(source, "ASL", only="1002_3")
    done = command("convert", "malc", "-i", source, "--dry-run")
    assert "GEO09: from left to right runs axis 0 (such as 1002_3) and axis 2 (such as 1000_3)" in done.out
    assert command("convert", "malc", "-i", source).code == 0
    assert json.loads((nnunet_folders.raw / COARSE / "dataset.json").read_text())["no_mirror_axes"] == [0, 2]


def test_two_processes_write_the_same_bytes(pristine, command, tree, tmp_path):
    results = []
    for number in (1, 2):
        out = tmp_path / f"raw{number}"
        assert command("convert", "malc", "-i", pristine("malc", quirks=True), "-o", out, "-np", number).code == 0
        files = tree(out / COARSE)
        files.pop("provenance.json")
        results.append(files)
    assert results[0] == results[1]
