"""From a source to a raw dataset: what is written, linked, grouped, reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion.output.verify import changed_files
from nnunet_ext.dataset_conversion.reporting.summary import as_json, as_text
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]
MakeCase = Callable[..., Path]


def operations(conversion: Any) -> set[str]:
    return {file["operation"] for result in conversion.results for file in result.files}


def codes(conversion: Any) -> list[str]:
    return [finding.code for finding in conversion.all_findings]


def array(path: Path) -> np.ndarray:
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def test_dataset_json_says_what_nnunet_must_know(brats2021: Path, convert_to: Convert) -> None:
    conversion = convert_to("brats2021", brats2021)
    content = json.loads((conversion.folder / "dataset.json").read_text())
    assert conversion.folder.name == "Dataset521_BraTS2021"
    assert content["channel_names"] == {"0": "T1", "1": "T1ce", "2": "T2", "3": "FLAIR"}
    assert content["labels"] == {
        "background": 0,
        "whole tumor": [1, 2, 3],
        "tumor core": [2, 3],
        "enhancing tumor": [3],
    }
    assert content["regions_class_order"] == [1, 2, 3]
    assert (content["numTraining"], content["file_ending"]) == (6, ".nii.gz")
    assert "10.48550/arXiv.2107.02314" in content["reference"]


def test_channels_and_labels_hold_what_their_names_say(
    brats2021: Path, convert_to: Convert, brats_label: Callable[..., np.ndarray]
) -> None:
    folder = convert_to("brats2021", brats2021).folder
    source = brats2021 / "BraTS2021_00002"
    for channel, role in enumerate(("t1", "t1ce", "t2", "flair")):
        image = folder / "imagesTr" / f"BraTS2021_00002_{channel:04d}.nii.gz"
        np.testing.assert_array_equal(array(image), array(source / f"BraTS2021_00002_{role}.nii.gz"), err_msg=role)
    label = array(folder / "labelsTr" / "BraTS2021_00002.nii.gz").transpose(2, 1, 0)
    raw = brats_label(1, (8, 7, 6))
    for value, ours in {0: 0, 1: 2, 2: 1, 4: 3}.items():
        np.testing.assert_array_equal(label == ours, raw == value, err_msg=f"source label {value}")
    assert label.dtype == np.uint8


@pytest.mark.parametrize(
    ("link", "operation", "told"), [("auto", "hard link", True), ("hard", "hard link", True), ("copy", "copy", False)]
)
def test_unchanged_images_are_linked_or_copied(
    brats2021: Path, convert_to: Convert, link: str, operation: str, told: bool
) -> None:
    conversion = convert_to("brats2021", brats2021, link=link)
    image = conversion.folder / "imagesTr" / "BraTS2021_00000_0000.nii.gz"
    source = brats2021 / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz"
    assert operations(conversion) == {operation, "relabel"}
    assert image.samefile(source) == (operation == "hard link")
    assert image.read_bytes() == source.read_bytes()
    for text in ((conversion.folder / "report.md").read_text(), as_text(conversion)):
        assert ("--link copy" in text) == told, "hard links must be told of, and only they"


def test_symbolic_links_are_never_broken(brats2021: Path, convert_to: Convert) -> None:
    conversion = convert_to("brats2021", brats2021, link="symlink")
    assert operations(conversion) == {"symlink", "relabel"}
    for image in (conversion.folder / "imagesTr").iterdir():
        assert image.is_symlink()
        assert image.exists()


def test_an_edited_download_shows_in_the_checksums(brats2021: Path, convert_to: Convert) -> None:
    folder = convert_to("brats2021", brats2021, link="hard").folder
    assert changed_files(folder) == []
    source = brats2021 / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz"
    with source.open("r+b") as file:  # in place: the hard link shares these bytes
        file.seek(20)
        file.write(b"\x55")
    label = folder / "labelsTr" / "BraTS2021_00002.nii.gz"
    label.write_bytes(label.read_bytes()[:-1])
    assert sorted(changed_files(folder)) == [
        "imagesTr/BraTS2021_00000_0000.nii.gz",
        "labelsTr/BraTS2021_00002.nii.gz",
    ]


@pytest.mark.parametrize("target", ["2d", "3d"])
def test_checksums_of_written_images_are_over_their_content(lgg: Path, convert_to: Convert, target: str) -> None:
    folder = convert_to("lgg", lgg, choices={"as": target}).folder
    assert changed_files(folder) == []
    image = sorted((folder / "imagesTr").iterdir())[0]
    other = sorted((folder / "imagesTr").iterdir())[-1]
    image.write_bytes(other.read_bytes())
    assert changed_files(folder) == [f"imagesTr/{image.name}"]


def test_plain_and_compressed_images_end_as_one_kind(tmp_path: Path, brats_case: MakeCase, convert_to: Convert) -> None:
    source = tmp_path / "source"
    brats_case(source, "BraTS20_Training_001", ending=".nii", seed=1)
    brats_case(source, "BraTS20_Training_002", ending=".nii.gz", seed=2)
    conversion = convert_to("brats2020", source)
    assert operations(conversion) == {"hard link", "compress", "relabel"}
    for case, ending in (("BraTS20_Training_001", ".nii"), ("BraTS20_Training_002", ".nii.gz")):
        image = conversion.folder / "imagesTr" / f"{case}_0003.nii.gz"
        np.testing.assert_array_equal(array(image), array(source / case / f"{case}_flair{ending}"))


def test_test_cases_go_to_the_test_folder_and_into_no_fold(
    tmp_path: Path, brats_case: MakeCase, convert_to: Convert
) -> None:
    for number in (1, 2):
        brats_case(tmp_path / "train", f"BraTS20_Training_{number:03d}", seed=number)
    brats_case(tmp_path / "valid", "BraTS20_Validation_001", seed=9, label=False)
    conversion = convert_to("brats2020", tmp_path / "train", tmp_path / "valid")
    folder = conversion.folder
    assert {path.name for path in (folder / "imagesTs").iterdir()} == {
        f"BraTS20_Validation_001_{channel:04d}.nii.gz" for channel in range(4)
    }
    assert not any((folder / "labelsTs").iterdir())
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 2
    assert "Validation" not in (folder / "splits_final.json").read_text()


# --- content ------------------------------------------------------------------------------------------------------


def test_small_differences_in_headers_are_mended_so_that_nnunet_is_content(
    tmp_path: Path, brats_case: MakeCase, nifti: Callable[..., bytes], convert_to: Convert
) -> None:
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    voxels = np.random.default_rng(0).integers(0, 99, (8, 7, 6)).astype(np.int16)
    moved = np.diag([-1.0, -1.0, 1.0, 1.0])
    moved[2, 3] = 1e-3
    scaled = np.diag([-1.0, -1.0, 1.0002, 1.0])
    for number in (1, 2):
        brats_case(
            tmp_path / "source",
            f"BraTS2021_{number:05d}",
            seed=number,
            content={"t2": nifti(voxels + number, moved), "flair": nifti(voxels - number, scaled)},
        )
    conversion = convert_to("brats2021", tmp_path / "source")
    assert codes(conversion).count("GEO04") == 4
    images = [conversion.folder / "imagesTr" / f"BraTS2021_00001_{channel:04d}.nii.gz" for channel in range(4)]
    read, properties = SimpleITKIO().read_images([str(image) for image in images])  # raises at other spacings
    np.testing.assert_array_equal(read[2].transpose(2, 1, 0), voxels + 1)
    np.testing.assert_array_equal(read[3].transpose(2, 1, 0), voxels - 1)
    label = sitk.ReadImage(str(conversion.folder / "labelsTr" / "BraTS2021_00001.nii.gz"))
    assert label.GetOrigin() == properties["sitk_stuff"]["origin"]


def test_a_fourth_axis_of_length_one_is_taken_off(
    tmp_path: Path, brats_case: MakeCase, nifti: Callable[..., bytes], convert_to: Convert
) -> None:
    voxels = np.random.default_rng(0).integers(0, 99, (8, 7, 6, 1)).astype(np.int16)
    brats_case(tmp_path / "source", "BraTS2021_00001", content={"t1": nifti(voxels)})
    conversion = convert_to("brats2021", tmp_path / "source", splits=0)
    assert operations(conversion) == {"hard link", "rewrite", "relabel"}
    image = sitk.ReadImage(str(conversion.folder / "imagesTr" / "BraTS2021_00001_0000.nii.gz"))
    assert image.GetSize() == (8, 7, 6)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, voxels[..., 0])


def test_nan_becomes_zero_where_that_is_allowed(
    tmp_path: Path, brats_case: MakeCase, nifti: Callable[..., bytes], convert_to: Convert
) -> None:
    voxels = np.random.default_rng(0).normal(size=(8, 7, 6)).astype(np.float32)
    voxels[1, 2, 3], voxels[0, 0, 0] = np.nan, -np.inf
    source = tmp_path / "source"
    brats_case(source, "BraTS2021_00001", content={"t1": nifti(voxels)})
    with pytest.raises(UserError, match="NAN01: BraTS2021_00001: T1 has 2 voxels"):
        convert_to("brats2021", source, splits=0)
    conversion = convert_to("brats2021", source, splits=0, allow=("NAN01",))
    image = array(conversion.folder / "imagesTr" / "BraTS2021_00001_0000.nii.gz").T
    np.testing.assert_array_equal(image, np.where(np.isfinite(voxels), voxels, 0))


def test_equal_images_within_a_case_are_told(tmp_path: Path, brats_case: MakeCase, convert_to: Convert) -> None:
    folder = brats_case(tmp_path / "source", "BraTS2021_00001")
    shutil.copy(folder / "BraTS2021_00001_t1.nii.gz", folder / "BraTS2021_00001_t1ce.nii.gz")
    conversion = convert_to("brats2021", tmp_path / "source", splits=0)
    assert [f.message for f in conversion.all_findings if f.code == "IMG02"] == [
        "BraTS2021_00001: T1 and T1ce are identical"
    ]


def test_a_header_that_declares_another_size_is_an_error(
    tmp_path: Path, brats_case: MakeCase, nifti: Callable[..., bytes], convert_to: Convert
) -> None:
    whole = nifti(np.ones((8, 7, 6), np.int16))
    for number, content in enumerate((whole[:-10], whole + bytes(10))):
        source = tmp_path / f"source{number}"
        brats_case(source, "BraTS2021_00001", content={"t2": content})
        with pytest.raises(UserError, match=r"IO01: .*_t2\.nii\.gz holds .* 1024 bytes that its header declares"):
            convert_to("brats2021", source, splits=0, output=tmp_path / f"raw{number}")


def test_after_many_errors_the_conversion_stops_and_points_to_its_report(
    tmp_path: Path, brats_case: MakeCase, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converting, "MAX_ERRORS", 3)
    for number in range(6):
        label = np.full((8, 7, 6), 3, np.uint8) if number > 0 else True
        brats_case(tmp_path / "source", f"BraTS2021_{number:05d}", seed=number, label=label)
    with pytest.raises(UserError, match=r"LAB01: BraTS2021_00001.*and 2 more errors.*report\.md") as caught:
        convert_to("brats2021", tmp_path / "source")
    folder = tmp_path / "nnUNet_raw" / "Dataset521_BraTS2021"
    assert "this looks like the 2023 convention" in str(caught.value)
    assert not (folder / "dataset.json").exists()
    assert [path.name for path in (folder / "labelsTr").iterdir()] == ["BraTS2021_00000.nii.gz"]
    assert "| LAB01 | error | 3 |" in (folder / "report.md").read_text()


def test_a_worker_never_holds_more_than_one_image_beside_the_label(
    tmp_path: Path, brats_case: MakeCase, convert_to: Convert
) -> None:
    import tracemalloc

    shape = (64, 64, 96)
    label = np.zeros(shape, np.uint8)
    label[20:30, 20:30, 20:40] = 4
    for number in (1, 2):
        brats_case(tmp_path / "source", f"BraTS2021_{number:05d}", seed=number, shape=shape, label=label)
    convert_to("brats2021", tmp_path / "source", output=tmp_path / "first")  # everything is imported now
    image = 64 * 64 * 96 * 2
    tracemalloc.start()
    convert_to("brats2021", tmp_path / "source", link="copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # One image, stored and uncompressed (noise does not shrink), and what looking at it takes.
    assert peak < 3 * image, f"peak of {peak / image:.1f} images; a case has 4 and a label"


# --- groups -------------------------------------------------------------------------------------------------------


def fold_of(folder: Path) -> dict[str, int]:
    folds = json.loads((folder / "splits_final.json").read_text())
    return {case: number for number, fold in enumerate(folds) for case in fold["val"]}


def test_the_two_scans_of_a_repeat_patient_share_a_fold(brats2021: Path, convert_to: Convert) -> None:
    for seed in range(4):
        conversion = convert_to("brats2021", brats2021, seed=seed, restart=seed > 0, splits=5)
        folds = fold_of(conversion.folder)
        assert folds["BraTS2021_00008"] == folds["BraTS2021_01559"]
        assert sorted(set(folds.values())) == [0, 1, 2, 3, 4]


def test_exact_duplicates_are_told_and_share_a_fold(tmp_path: Path, brats_case: MakeCase, convert_to: Convert) -> None:
    for number in range(8):
        brats_case(tmp_path / "source", f"BraTS2021_{number:05d}", seed=number % 6)
    for seed in range(3):
        conversion = convert_to("brats2021", tmp_path / "source", seed=seed, restart=seed > 0, splits=3)
        folds = fold_of(conversion.folder)
        assert folds["BraTS2021_00000"] == folds["BraTS2021_00006"]
        assert folds["BraTS2021_00001"] == folds["BraTS2021_00007"]
    assert codes(conversion).count("DUP03") == 2
    assert "2 groups hold more than one" in (conversion.folder / "report.md").read_text()


def test_pixels_do_not_change_the_folds(tmp_path: Path, brats_case: MakeCase, convert_to: Convert) -> None:
    for seed in (0, 50):
        for number in range(7):
            brats_case(tmp_path / f"source{seed}", f"BraTS2021_{number:05d}", seed=seed + number)
    first, second = (
        convert_to("brats2021", tmp_path / f"source{seed}", output=tmp_path / f"raw{seed}") for seed in (0, 50)
    )
    assert first.splits == second.splits


def test_a_table_of_groups_counts_more_than_the_names(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    groups = tmp_path / "groups.csv"
    names = sorted(path.name for path in brats2021.iterdir())
    groups.write_text("case,group\n" + "".join(f"{name},{number // 3}\n" for number, name in enumerate(names)))
    folds = fold_of(convert_to("brats2021", brats2021, groups=str(groups)).folder)
    assert len({folds[name] for name in names[:3]}) == len({folds[name] for name in names[3:]}) == 1


MAPPING = "Grade,BraTS_2019_subject_ID,BraTS_2020_subject_ID\n"


def two_years(tmp_path: Path, brats_case: MakeCase, mapped: bool = True) -> tuple[Path, Path]:
    """2019 with three cases and 2020 with three, two of which are the same patients'."""
    for number, name in enumerate(("A", "B", "C")):
        brats_case(tmp_path / "y19" / "HGG", f"BraTS19_CBICA_{name}_1", seed=number)
    for number in (1, 2, 3):
        brats_case(tmp_path / "y20", f"BraTS20_Training_{number:03d}", seed=10 + number)
    if mapped:
        rows = "HGG,BraTS19_CBICA_B_1,BraTS20_Training_001\nHGG,BraTS19_cbica_c_1,BraTS20_Training_003\n"
        (tmp_path / "y20" / "name_mapping.csv").write_text(MAPPING + rows + "HGG,NA,BraTS20_Training_002\n")
    return tmp_path / "y19", tmp_path / "y20"


def test_cases_shared_with_another_year_are_told_and_can_be_left_out(
    tmp_path: Path, brats_case: MakeCase, convert_to: Convert
) -> None:
    first, second = two_years(tmp_path, brats_case)
    convert_to("brats2019", first)
    conversion = convert_to("brats2020", second)
    assert [
        "2 of 3 cases are also in Dataset519_BraTS2019" in f.message
        for f in conversion.all_findings
        if f.code == "SPL04"
    ] == [True]
    conversion = convert_to("brats2020", second, splits=0, restart=True, exclude_overlap=("Dataset519_BraTS2019",))
    assert [result.case for result in conversion.results] == ["BraTS20_Training_002"]
    assert "SPL04" not in codes(conversion)


def test_overlap_that_cannot_be_told_is_warned_of(tmp_path: Path, brats_case: MakeCase, convert_to: Convert) -> None:
    first, second = two_years(tmp_path, brats_case, mapped=False)
    convert_to("brats2019", first)
    conversion = convert_to("brats2020", second)
    assert next(f.message for f in conversion.all_findings if f.code == "SPL04").startswith(
        "Dataset519_BraTS2019 is another release of this family"
    )
    with pytest.raises(UserError, match="SPL04: --exclude-overlap: no case is known to be shared"):
        convert_to("brats2020", second, restart=True, exclude_overlap=("Dataset519_BraTS2019",))
    with pytest.raises(UserError, match="SPL04: --exclude-overlap: there is no Dataset999_X"):
        convert_to("brats2020", second, restart=True, exclude_overlap=("Dataset999_X",))


# --- LGG ----------------------------------------------------------------------------------------------------------


def test_slices_keep_their_pixels_and_their_patients(lgg: Path, convert_to: Convert) -> None:
    from PIL import Image

    conversion = convert_to("lgg", lgg, splits=5)
    folder = conversion.folder
    assert conversion.folder.name == "Dataset535_LGGSlices"
    names = sorted(path.name for path in (folder / "imagesTr").iterdir())
    assert len(names) == 11 + 12 + 13 + 14 + 15
    for number in (1, 2, 10, 11):
        source = lgg / "TCGA_CS_4941_19960909" / f"TCGA_CS_4941_19960909_{number}"
        image = folder / "imagesTr" / f"TCGA_CS_4941_19960909_s{number:03d}_0000.png"
        label = folder / "labelsTr" / f"TCGA_CS_4941_19960909_s{number:03d}.png"
        np.testing.assert_array_equal(np.asarray(Image.open(image)), np.asarray(Image.open(f"{source}.tif")))
        np.testing.assert_array_equal(
            np.asarray(Image.open(label)), np.asarray(Image.open(f"{source}_mask.tif")) // 255
        )
    folds = fold_of(folder)
    for patient in ("TCGA_CS_4941", "TCGA_HT_7473"):
        assert len({fold for case, fold in folds.items() if case.startswith(patient)}) == 1


def test_stacks_hold_the_slices_in_their_natural_order(lgg: Path, convert_to: Convert) -> None:
    from PIL import Image

    conversion = convert_to("lgg", lgg, choices={"as": "3d"})
    assert codes(conversion).count("GEO08") == 5
    name = "TCGA_CS_4941_19960909"
    for channel in range(3):
        stack = array(conversion.folder / "imagesTr" / f"{name}_{channel:04d}.nii.gz")
        assert stack.shape == (11, 10, 9)
        for number in range(1, 12):
            pixels = np.asarray(Image.open(lgg / name / f"{name}_{number}.tif"))
            np.testing.assert_array_equal(stack[number - 1], pixels[..., channel])
    assert set(np.unique(array(conversion.folder / "labelsTr" / f"{name}.nii.gz"))) == {0, 1}


def test_replaced_channels_are_measured_and_compared_with_the_known_ones(
    tmp_path: Path, lgg_patient: MakeCase, convert_to: Convert
) -> None:
    source = tmp_path / "kaggle_3m"
    lgg_patient(source, "TCGA_FG_A60K_20040224", equal=(0, 2), seed=1)  # known: both
    lgg_patient(source, "TCGA_DU_6407_19860514", equal=(2,), seed=2)  # known: post-contrast
    lgg_patient(source, "TCGA_DU_7301_19911112", seed=3)  # known: post-contrast, but here it is not
    lgg_patient(source, "TCGA_CS_4941_19960909", equal=(0,), seed=4)  # known: none
    conversion = convert_to("lgg", source)
    found = {f.case: (f.severity, f.message) for f in conversion.all_findings if f.code == "IMG02"}
    assert {case: severity for case, (severity, _) in found.items()} == {
        "TCGA_FG_A60K_20040224": "info",
        "TCGA_DU_6407_19860514": "info",
        "TCGA_DU_7301_19911112": "warning",
        "TCGA_CS_4941_19960909": "warning",
    }
    assert "FLAIR = post-contrast, as known" in found["TCGA_DU_6407_19860514"][1]
    assert "equal channels are none, known to be replaced are post-contrast" in found["TCGA_DU_7301_19911112"][1]


def test_slices_without_tumour_can_be_left_out(lgg: Path, convert_to: Convert) -> None:
    conversion = convert_to("lgg", lgg, choices={"only_tumour_slices": True})
    names = {path.name for path in (conversion.folder / "imagesTr").iterdir()}
    assert len(names) == 65 - 5 * 2
    assert not any("_s001_" in name or "_s002_" in name for name in names)
    assert json.loads((conversion.folder / "dataset.json").read_text())["numTraining"] == 55
    assert len(fold_of(conversion.folder)) == 55


def test_options_that_do_not_fit_a_dataset_are_refused(lgg: Path, brats2021: Path, convert_to: Convert) -> None:
    with pytest.raises(UserError, match='--as: lgg has no form "4d" - one of 2d, 3d'):
        convert_to("lgg", lgg, choices={"as": "4d"})
    with pytest.raises(UserError, match="--only-tumour-slices is no option of brats2021 - leave it out"):
        convert_to("brats2021", brats2021, choices={"only_tumour_slices": True})


# --- runs ---------------------------------------------------------------------------------------------------------


def test_limit_takes_the_first_cases(brats2021: Path, convert_to: Convert) -> None:
    conversion = convert_to("brats2021", brats2021, limit=3)
    assert [result.case for result in conversion.results] == ["BraTS2021_00000", "BraTS2021_00002", "BraTS2021_00003"]
    assert as_json(conversion)["left_out"] == {"beyond --limit": 3}


def test_strict_refuses_what_is_only_a_warning(brats2021: Path, convert_to: Convert, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="CSV01"):
        convert_to("brats2021", brats2021, strict=True)
    assert not (tmp_path / "nnUNet_raw" / "Dataset521_BraTS2021").exists()
    conversion = convert_to("brats2021", brats2021, strict=True, allow=("CSV01", "CNT01", "GEO07"))
    assert conversion.complete


def test_files_of_an_earlier_run_that_no_case_owns_any_more_are_removed(
    brats2021: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    finish = converting.finish
    monkeypatch.setattr(converting, "finish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert_to("brats2021", brats2021)
    shutil.rmtree(brats2021 / "BraTS2021_00003")
    monkeypatch.setattr(converting, "finish", finish)
    conversion = convert_to("brats2021", brats2021)
    assert conversion.resumed == 5
    assert len(list((conversion.folder / "imagesTr").iterdir())) == 5 * 4
    assert len(list((conversion.folder / "labelsTr").iterdir())) == 5


def test_the_place_of_the_source_changes_nothing_but_the_run_field(
    tmp_path: Path, lgg: Path, convert_to: Convert, content: Callable[[Path], dict[str, bytes]]
) -> None:
    moved = tmp_path / "somewhere" / "else" / "kaggle_3m"
    shutil.copytree(lgg, moved)
    first = convert_to("lgg", lgg, choices={"as": "3d"}, output=tmp_path / "one").folder
    second = convert_to("lgg", moved, choices={"as": "3d"}, output=tmp_path / "two").folder
    assert content(first) == content(second)
    assert str(tmp_path) not in (first / "report.md").read_text()


def test_the_report_tells_classes_sizes_findings_and_licence(brats2021: Path, convert_to: Convert) -> None:
    conversion = convert_to("brats2021", brats2021)
    text = (conversion.folder / "report.md").read_text()
    voxels = sum(result.voxels[3] for result in conversion.results)
    assert f"| 3 | enhancing tumor | 6 of 6 | {voxels} |" in text
    assert "| 8x7x6 | 6 |" in text
    assert "| CNT01 | warning | 1 |" in text
    assert "## Licence" in text
    assert text.rstrip().endswith("nnUNetv2_plan_and_preprocess -d 521 --verify_dataset_integrity\n```")


def test_the_last_line_is_the_next_command(brats2021: Path, convert_to: Convert) -> None:
    text = as_text(convert_to("brats2021", brats2021, dataset_id="137"))
    assert text.splitlines()[-1] == "next: nnUNetv2_plan_and_preprocess -d 137 --verify_dataset_integrity"


def test_a_dry_run_tells_errors_without_raising_and_shows_the_plan(brats2021: Path, convert_to: Convert) -> None:
    document = as_json(convert_to("brats2021", brats2021, dry_run=True))
    assert document["complete"] is False
    assert document["plan"][0]["operations"][0] == {
        "operation": "link",
        "path": "imagesTr/BraTS2021_00000_0000.nii.gz",
    }
    assert len(document["splits"]["folds"]) == 2
    (brats2021 / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz").unlink()
    document = as_json(convert_to("brats2021", brats2021, dry_run=True))
    assert document["findings_by_code"]["NAM01"] == 1


def test_a_description_that_is_in_no_table_can_be_converted(brats2021: Path, convert_to: Convert) -> None:
    from dataclasses import replace

    from nnunet_ext.dataset_conversion.datasets.brats import BRATS2021

    conversion = convert_to(replace(BRATS2021, name="own", cases=6), brats2021)
    assert "CNT01" not in codes(conversion)


def test_a_worker_killed_by_the_system_is_one_line(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    from dataclasses import replace

    from nnunet_ext.dataset_conversion.datasets.brats import BRATS2021, LABELS_2017_TO_2021
    from nnunet_ext.dataset_conversion.label_map import LabelMap

    deadly = replace(LABELS_2017_TO_2021, names=_Deadly(LABELS_2017_TO_2021.names))
    assert isinstance(deadly, LabelMap)
    target = replace(BRATS2021.default_target, labels=deadly)
    dataset = replace(BRATS2021, targets={"3d": target})
    with pytest.raises(UserError, match=r"a worker process died.*BraTS2021_00000.* - use a smaller -np"):
        convert_to(dataset, brats2021, processes=2)
    assert not (tmp_path / "nnUNet_raw" / "Dataset521_BraTS2021" / "dataset.json").exists()


class _Deadly(dict):  # type: ignore[type-arg]
    """Kills the process that unpickles it: what a worker sees of a system without memory."""

    def __reduce__(self) -> tuple[Any, ...]:
        import os
        import signal

        return os.kill, (_pid_of_reader(), signal.SIGKILL)


def _pid_of_reader() -> Any:
    return _OwnPid()


class _OwnPid:
    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.getpid, ()
