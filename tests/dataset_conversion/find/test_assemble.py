"""Cases: complete, once each, with their labels, and every oddity told."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.case import clean_id, natural_key
from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.find.assemble import Assembled, assemble
from nnunet_ext.dataset_conversion.find.layout import match
from nnunet_ext.dataset_conversion.find.sources import index

MakeCase = Callable[..., Path]


def assembled(name: str, *sources: Path) -> Assembled:
    found = index(list(sources), [], None)
    return assemble(match(get(name), found.files))


def codes(result: Assembled) -> list[str]:
    return [finding.code for finding in result.findings]


def test_a_complete_case_has_one_file_a_role(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path, "BraTS2021_00001")
    result = assembled("brats2021", tmp_path)
    (case,) = result.cases
    assert result.findings == []
    assert (case.id, case.split, case.group) == ("BraTS2021_00001", "train", "BraTS2021_00001")
    assert {role: files[0].name for role, files in case.files.items()} == {
        role: f"BraTS2021_00001_{role}.nii.gz" for role in ("t1", "t1ce", "t2", "flair", "seg")
    }


def test_loose_files_are_grouped_by_name_not_by_folder(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "cases", "BraTS2021_00000")
    brats_case(tmp_path, "BraTS2021_00495", nested=False)
    brats_case(tmp_path, "BraTS2021_00621", nested=False)
    result = assembled("brats2021", tmp_path)
    assert [case.id for case in result.cases] == ["BraTS2021_00000", "BraTS2021_00495", "BraTS2021_00621"]
    assert codes(result) == []


def test_cases_come_in_natural_order(tmp_path: Path, lgg_patient: MakeCase) -> None:
    lgg_patient(tmp_path, slices=12)
    (case,) = assembled("lgg", tmp_path).cases
    assert [file.name.split("_")[-1] for file in case.files["image"]] == [f"{n}.tif" for n in range(1, 13)]
    assert case.numbers == tuple(range(1, 13))
    assert (case.group, case.stratum) == ("TCGA_CS_4941", "CS")
    assert sorted(["a_10", "a_9", "b_1", "a"], key=natural_key) == ["a", "a_9", "a_10", "b_1"]


@pytest.mark.parametrize(
    ("role", "named"), [("t1", "T1"), ("t1ce", "T1ce"), ("t2", "T2"), ("flair", "FLAIR"), ("seg", "seg")]
)
def test_a_missing_role_is_named(tmp_path: Path, brats_case: MakeCase, role: str, named: str) -> None:
    brats_case(tmp_path, "BraTS2021_00001")
    brats_case(tmp_path, "BraTS2021_00002", without=[role])
    result = assembled("brats2021", tmp_path)
    (finding,) = result.findings
    assert (finding.code, finding.message) == ("NAM01", f"BraTS2021_00002 lacks {named}")
    assert finding.file.endswith("/BraTS2021_00002")
    assert [case.id for case in result.cases] == ["BraTS2021_00001"]


def test_a_label_without_images_is_an_error(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path, "BraTS2021_00001", without=["t1", "t1ce", "t2", "flair"])
    assert [f.message for f in assembled("brats2021", tmp_path).findings] == ["BraTS2021_00001: seg without image"]


def test_two_files_of_one_role_are_an_error_unless_they_are_equal(tmp_path: Path, brats_case: MakeCase) -> None:
    folder = brats_case(tmp_path, "BraTS2021_00001")
    label = folder / "BraTS2021_00001_seg.nii.gz"
    plain = gzip.decompress(label.read_bytes())
    (folder / "BraTS2021_00001_seg.nii").write_bytes(plain)
    result = assembled("brats2021", tmp_path)
    assert codes(result) == ["DUP01"]
    assert result.cases[0].files["seg"][0].name == label.name
    (folder / "BraTS2021_00001_seg.nii").write_bytes(plain[:-1] + b"\1")
    (finding,) = assembled("brats2021", tmp_path).findings
    assert (finding.code, finding.message) == ("NAM02", "BraTS2021_00001: two files for seg")


def test_a_case_in_two_sources_counts_once_if_equal(tmp_path: Path, brats_case: MakeCase) -> None:
    for source in ("one", "two"):
        brats_case(tmp_path / source, "BraTS2021_00001", seed=1)
    brats_case(tmp_path / "one", "BraTS2021_00002", seed=2)
    result = assembled("brats2021", tmp_path / "one", tmp_path / "two")
    assert codes(result) == ["DUP01"]
    assert len(result.cases) == 2
    assert {file.source for _, file in result.cases[0].all_files} == {0}
    shutil.rmtree(tmp_path / "two")
    brats_case(tmp_path / "two", "BraTS2021_00001", seed=3)
    (finding,) = assembled("brats2021", tmp_path / "one", tmp_path / "two").findings
    assert finding.code == "DUP02"
    assert "two/BraTS2021_00001" in finding.file


def test_a_complete_copy_wins_over_an_earlier_incomplete_one(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "one", "BraTS2021_00001", without=["t2"])
    brats_case(tmp_path / "two", "BraTS2021_00001")
    result = assembled("brats2021", tmp_path / "one", tmp_path / "two")
    assert codes(result) == ["DUP01"]
    assert {file.source for _, file in result.cases[0].all_files} == {1}


def test_images_and_label_may_come_from_two_sources(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "images", "BraTS2021_00001", label=False)
    brats_case(tmp_path / "labels", "BraTS2021_00001", without=["t1", "t1ce", "t2", "flair"])
    result = assembled("brats2021", tmp_path / "images", tmp_path / "labels")
    assert codes(result) == []
    assert set(result.cases[0].files) == {"t1", "t1ce", "t2", "flair", "seg"}


def test_the_same_tree_twice_is_used_once(tmp_path: Path, lgg_patient: MakeCase) -> None:
    for name in ("TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405"):
        lgg_patient(tmp_path / "kaggle_3m", name)
    shutil.copytree(tmp_path / "kaggle_3m", tmp_path / "lgg-mri-segmentation" / "kaggle_3m")
    result = assembled("lgg", tmp_path)
    assert codes(result) == ["LAY04"]
    assert all(file.path.startswith("kaggle_3m/") for case in result.cases for _, file in case.all_files)
    assert sum(len(case.files["image"]) for case in result.cases) == 24


@pytest.mark.parametrize("patient", ["TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405"])
def test_the_same_tree_twice_with_a_difference_is_an_error(tmp_path: Path, lgg_patient: MakeCase, patient: str) -> None:
    for name in ("TCGA_CS_4941_19960909", "TCGA_DU_5849_19950405"):
        lgg_patient(tmp_path / "kaggle_3m", name)
    shutil.copytree(tmp_path / "kaggle_3m", tmp_path / "lgg-mri-segmentation" / "kaggle_3m")
    mask = tmp_path / "lgg-mri-segmentation" / "kaggle_3m" / patient / f"{patient}_7_mask.tif"
    mask.write_bytes(mask.read_bytes()[:-1] + b"\x07")
    (finding,) = assembled("lgg", tmp_path).findings
    assert finding.code == "LAY05"
    assert "the two copies of kaggle_3m differ" in finding.message
    assert f"{patient}_7_mask.tif" in finding.message


def test_missing_slices_are_named(tmp_path: Path, lgg_patient: MakeCase) -> None:
    folder = lgg_patient(tmp_path)
    (folder / f"{folder.name}_7.tif").unlink()
    (folder / f"{folder.name}_7_mask.tif").unlink()
    (folder / f"{folder.name}_9_mask.tif").unlink()
    assert [(f.code, f.message) for f in assembled("lgg", tmp_path).findings] == [
        ("SLC01", f"{folder.name} slice 7 missing"),
        ("NAM01", f"{folder.name} slice 9 lacks mask"),
    ]


def test_a_slice_number_written_in_two_ways_is_a_repetition(tmp_path: Path, lgg_patient: MakeCase) -> None:
    folder = lgg_patient(tmp_path)
    shutil.copy(folder / f"{folder.name}_7.tif", folder / f"{folder.name}_07.tif")
    (finding,) = assembled("lgg", tmp_path).findings
    assert (finding.code, finding.message) == ("SLC01", f"{folder.name} has slice 7 twice")


def case_355(tmp_path: Path, brats_case: MakeCase) -> Path:
    top = tmp_path / "MICCAI_BraTS2020_TrainingData"
    brats_case(top, "BraTS20_Training_001", ending=".nii")
    folder = brats_case(top, "BraTS20_Training_355", ending=".nii")
    (folder / "BraTS20_Training_355_seg.nii").rename(folder / "W39_1998.09.19_Segm.nii")
    return folder


def test_the_odd_label_of_case_355_is_taken_and_told(tmp_path: Path, brats_case: MakeCase) -> None:
    case_355(tmp_path, brats_case)
    result = assembled("brats2020", tmp_path)
    (finding,) = result.findings
    assert (finding.code, finding.severity) == ("NAM03", "info")
    assert result.cases[1].files["seg"][0].name == "W39_1998.09.19_Segm.nii"
    assert result.unknown == []


def test_any_other_file_in_the_place_of_a_label_is_a_warning(tmp_path: Path, brats_case: MakeCase) -> None:
    folder = case_355(tmp_path, brats_case)
    (folder / "W39_1998.09.19_Segm.nii").rename(folder / "brainmask.nii")
    (finding,) = assembled("brats2020", tmp_path).findings
    assert (finding.code, finding.severity) == ("NAM03", "warning")
    assert finding.message == "BraTS20_Training_355: brainmask.nii is taken as seg"


def test_two_odd_files_are_too_many(tmp_path: Path, brats_case: MakeCase) -> None:
    folder = case_355(tmp_path, brats_case)
    shutil.copy(folder / "W39_1998.09.19_Segm.nii", folder / "other.nii")
    (finding,) = assembled("brats2020", tmp_path).findings
    assert (finding.code, finding.message) == ("NAM01", "BraTS20_Training_355 lacks seg (2 candidates)")


def test_a_validation_case_gets_no_odd_label(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path, "BraTS20_Training_001")
    folder = brats_case(tmp_path, "BraTS20_Validation_001", label=False)
    (folder / "brainmask.nii").write_bytes(b"x")
    result = assembled("brats2020", tmp_path)
    assert [(case.name, case.split, "seg" in case.files) for case in result.cases] == [
        ("BraTS20_Training_001", "train", True),
        ("BraTS20_Validation_001", "test", False),
    ]
    assert [file.name for file in result.unknown] == ["brainmask.nii"]


@pytest.mark.parametrize("name", ["RSNA_ASNR_MICCAI_BraTS2021_ValidationData", "anything"])
def test_a_folder_without_any_label_beside_labelled_ones_holds_test_cases(
    tmp_path: Path, brats_case: MakeCase, name: str
) -> None:
    brats_case(tmp_path / "training", "BraTS2021_00001")
    for number in (3, 4):
        brats_case(tmp_path / name, f"BraTS2021_{number:05d}", label=False)
    result = assembled("brats2021", tmp_path)
    assert [case.split for case in result.cases] == ["train", "test", "test"]
    (finding,) = result.findings
    assert (finding.code, finding.severity) == ("NAM06", "warning")
    assert finding.message == f"cases without any label below {name} are taken as test cases: 2"


def test_a_missing_label_among_labelled_cases_is_never_taken_for_a_test_case(
    tmp_path: Path, brats_case: MakeCase
) -> None:
    brats_case(tmp_path / "training", "BraTS2021_00001")
    brats_case(tmp_path / "training", "BraTS2021_00002", label=False)
    assert codes(assembled("brats2021", tmp_path)) == ["NAM01"]


def test_a_download_without_any_label_is_an_error(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "data", "BraTS2021_00001", label=False)
    assert codes(assembled("brats2021", tmp_path)) == ["NAM01"]


def test_a_folder_named_after_another_case_is_told(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path, "BraTS2021_00002").rename(tmp_path / "BraTS2021_00001")
    result = assembled("brats2021", tmp_path)
    assert codes(result) == ["NAM05"]
    assert result.cases[0].id == "BraTS2021_00002"


def test_a_doubled_folder_is_told(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "MICCAI" / "MICCAI" / "HGG", "BraTS19_CBICA_ASH_1")
    result = assembled("brats2019", tmp_path)
    assert codes(result) == ["LAY03"]
    assert (result.cases[0].stratum, result.cases[0].id) == ("HGG", "BraTS19_CBICA_ASH_1")


def test_identifiers_hold_only_what_file_names_may(tmp_path: Path, brats_case: MakeCase) -> None:
    assert clean_id("benign (12).x") == "benign_12_x"
    brats_case(tmp_path / "one", "BraTS2021_00001")
    brats_case(tmp_path / "two", "BRATS2021_00001")
    (finding,) = assembled("brats2021", tmp_path).findings
    assert finding.code == "NAM04"


@pytest.mark.parametrize("ending", [".mha", ".nii.gz.bak", ".nii.bz2", "", ".dcm"])
def test_a_file_under_another_ending_is_named(tmp_path: Path, brats_case: MakeCase, ending: str) -> None:
    folder = brats_case(tmp_path, "BraTS2021_00001")
    (folder / "BraTS2021_00001_t1.nii.gz").rename(folder / f"bRaTS2021_00001_T1{ending}")
    (finding,) = assembled("brats2021", tmp_path).findings
    there = f"bRaTS2021_00001_T1{ending}"
    assert finding.code == "NAM01"
    assert finding.message == f"BraTS2021_00001 lacks T1; {there} lies there under another ending"
    assert finding.file == str(folder / there)
    assert finding.remedy.startswith("convert it to bRaTS2021_00001_T1.nii.gz")


def test_a_file_under_another_ending_is_not_told_where_nothing_is_missing(tmp_path: Path, brats_case: MakeCase) -> None:
    folder = brats_case(tmp_path, "BraTS2021_00001")
    (folder / "BraTS2021_00001_t1.mha").write_bytes(b"x")
    (folder / "BraTS2021_00001_seg.png").write_bytes(b"x")
    assert assembled("brats2021", tmp_path).findings == []


def test_a_label_without_images_names_them_under_their_endings(tmp_path: Path, brats_case: MakeCase) -> None:
    folder = brats_case(tmp_path, "BraTS2021_00001", without=["t1ce"])
    for role in ("t1", "t2", "flair"):
        (folder / f"BraTS2021_00001_{role}.nii.gz").rename(folder / f"BraTS2021_00001_{role}.nrrd")
    (finding,) = assembled("brats2021", tmp_path).findings
    assert (finding.code, "seg without image; " in finding.message) == ("NAM01", True)
    assert "under another ending (and 2 more)" in finding.message


def test_slices_under_another_ending_are_named_also_at_the_end(tmp_path: Path, lgg_patient: MakeCase) -> None:
    folder = lgg_patient(tmp_path)
    last = len(list(folder.glob("*_mask.tif")))
    for number in (7, last):
        for kind in ("", "_mask"):
            (folder / f"{folder.name}_{number}{kind}.tif").rename(folder / f"{folder.name}_{number}{kind}.tiff")
    (folder / f"{folder.name}_9_mask.tif").rename(folder / f"{folder.name}_9_mask.png")
    assert [(f.code, f.message) for f in assembled("lgg", tmp_path).findings] == [
        (
            "SLC01",
            f"{folder.name} slice 7 missing; {folder.name}_7.tiff lies there under another ending (and 1 more)",
        ),
        ("NAM01", f"{folder.name} slice 9 lacks mask; {folder.name}_9_mask.png lies there under another ending"),
        (
            "SLC01",
            f"{folder.name} slice {last} missing; "
            f"{folder.name}_{last}.tiff lies there under another ending (and 1 more)",
        ),
    ]


@pytest.mark.parametrize("names", [["_mask.png", "_mask_1.png", "_mask_2.bmp"], ["_mask.png", "_mask_1.jpg"]])
def test_a_mask_of_several_under_another_ending_is_named(tmp_path: Path, names: list[str]) -> None:
    for name in (".png", *names):
        (tmp_path / f"benign (1){name}").write_bytes(b"x")
    (finding,) = assembled("busi", tmp_path).findings
    assert finding.code == "NAM01"
    assert finding.message.endswith(f"; benign (1){names[-1]} lies there under another ending")


def test_a_picture_under_another_ending_is_named_by_its_folder(tmp_path: Path) -> None:
    for name in ("images/cju0qkwl35piu0993l0dewei2.jpg", "masks/cju0qkwl35piu0993l0dewei2.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x")
    (finding,) = assembled("kvasir-seg", tmp_path).findings
    assert "masks/cju0qkwl35piu0993l0dewei2.png" in finding.file
    assert finding.message.endswith("lacks mask; cju0qkwl35piu0993l0dewei2.png lies there under another ending")
