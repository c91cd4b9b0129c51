"""Datasets are recognised by the names of their files, whatever the folders are called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.datasets import DATASETS, get
from nnunet_ext.dataset_conversion.datasets.busi import BUSI
from nnunet_ext.dataset_conversion.description import Dataset, Image
from nnunet_ext.dataset_conversion.find.layout import detect, find, match
from nnunet_ext.dataset_conversion.find.sources import Index, index
from nnunet_ext.errors import UserError

ALL = [get(name) for name in DATASETS]


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def brats(name: str, ending: str = ".nii.gz", roles: str = "flair t1 t1ce t2 seg") -> list[str]:
    return [f"{name}/{name}_{role}{ending}" for role in roles.split()]


def lgg(name: str, slices: int = 2) -> list[str]:
    return [f"{name}/{name}_{n}{mask}.tif" for n in range(1, slices + 1) for mask in ("", "_mask")]


def busi(name: str) -> list[str]:
    return [f"{name}.png", f"{name}_mask.png"]


def kvasir(name: str) -> list[str]:
    return [f"images/{name}.jpg", f"masks/{name}.jpg"]


def hvsmr(name: str) -> list[str]:
    return [f"{name}.nii.gz", f"{name}-label.nii.gz"]


def indexed(folder: Path) -> Index:
    return index([folder], [], None)


EXAMPLES = {
    "brats2019": [brats("BraTS19_CBICA_ASH_1"), brats("BraTS19_TCIA01_231_1"), brats("BraTS19_2013_2_1", ".nii")],
    "brats2020": [brats("BraTS20_Training_001", ".nii"), brats("BraTS20_Validation_125", roles="flair t1 t1ce t2")],
    "brats2021": [brats("BraTS2021_00000"), brats("BraTS2021_01666")],
    "busi": [busi("benign (12)"), busi("malignant (1)"), [*busi("normal_(133)"), "normal_(133)_mask_1.png"]],
    "hvsmr2016": [
        hvsmr("training_axial_crop_pat0"),
        hvsmr("training_axial_full_pat0"),
        hvsmr("training_sa_crop_pat9")[::-1],
        ["testing_axial_crop_pat19.nii"],
    ],
    "kvasir-seg": [kvasir("cju0qkwl35piu0993l0dewei2"), kvasir("ck2bxskgxxzfv08386xkqtqdy")],
    "lgg": [lgg("TCGA_CS_4941_19960909"), lgg("TCGA_HT_A61B_19991127")],
    "malc": [["1000_3.nii.gz", "1000_3_glm.nii.gz"], ["1128_3.nii", "1128_3_glm.nii"], ["1023_3.nii.gz"]],
}


@pytest.mark.parametrize("name", DATASETS)
def test_each_dataset_is_recognised_and_no_other_takes_its_files(tmp_path: Path, name: str) -> None:
    files = [file for case in EXAMPLES[name] for file in case]
    found = indexed(touch(tmp_path, *(f"any folder/{file}" for file in files)))
    assert detect(ALL, found, "source").dataset.name == name
    for dataset in ALL:
        matched = match(dataset, found.files)
        assert len(matched.cases) == (len(EXAMPLES[name]) if dataset.name == name else 0), dataset.name


def test_roles_channels_and_groups_come_from_the_names(tmp_path: Path) -> None:
    (places,) = match(get("brats2021"), indexed(touch(tmp_path, *brats("BraTS2021_00001"))).files).cases.values()
    assert sorted(place.role for place in places) == ["flair", "seg", "t1", "t1ce", "t2"]
    lgg_files = indexed(touch(tmp_path / "lgg", *lgg("TCGA_HT_A61B_19991127", 11))).files
    ((case, slices),) = match(get("lgg"), lgg_files).cases.items()
    assert case == "TCGA_HT_A61B_19991127"
    assert {(place.group, place.stratum, place.stacked) for place in slices} == {("TCGA_HT_A61B", "HT", True)}
    assert sorted(place.number for place in slices if place.role == "image") == list(range(1, 12))


def test_masks_of_a_picture_are_parts_and_a_number_is_no_prefix_of_another(tmp_path: Path) -> None:
    touch(tmp_path, *busi("benign (1)"), *busi("benign (19)"), "benign (1)_mask_1.png", "benign (1)_mask_2.png")
    cases = match(get("busi"), indexed(tmp_path).files).cases
    assert {name: len(places) for name, places in cases.items()} == {"benign (1)": 4, "benign (19)": 2}
    assert sorted(place.number for place in cases["benign (1)"] if place.role == "mask") == [-1, 1, 2]
    assert {place.stratum for places in cases.values() for place in places} == {"benign"}


@pytest.mark.parametrize("upper", [str.upper, str.lower])
def test_the_case_of_letters_does_not_matter(tmp_path: Path, upper: Callable[[str], str]) -> None:
    touch(tmp_path, *(upper(name) for name in brats("BraTS2021_00001")))
    assert len(match(get("brats2021"), indexed(tmp_path).files).complete) == 1


@pytest.mark.parametrize("levels", [0, 1, 4])
def test_up_to_four_extra_levels_are_accepted(tmp_path: Path, levels: int) -> None:
    above = "/".join(["x"] * levels + ["top", ""])
    touch(tmp_path, *(above + name for name in brats("BraTS2021_00001")))
    assert len(find(get("brats2021"), indexed(tmp_path), "source", []).cases) == 1


def test_deeper_nesting_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    touch(tmp_path, *("1/2/3/4/5/6/" + name for name in brats("BraTS2021_00001")))
    with pytest.raises(UserError, match=r"LAY01: no known layout.*nested too deep: give .*BraTS2021_00001"):
        find(get("brats2021"), indexed(tmp_path), "source", [])


def test_another_dataset_is_named(tmp_path: Path) -> None:
    touch(tmp_path, *brats("BraTS20_Training_001"))
    with pytest.raises(UserError, match="LAY01: this looks like brats2020, not brats2021"):
        find(get("brats2021"), indexed(tmp_path), "source", [other for other in ALL if other.name != "brats2021"])


def test_no_layout_says_what_is_missing(tmp_path: Path) -> None:
    touch(tmp_path, *brats("BraTS2021_00001", roles="t1 seg"), "notes.txt")
    with pytest.raises(UserError, match=r"no known layout in 3 files; nearest: brats2021 \(1 cases, none with T1ce"):
        detect(ALL, indexed(tmp_path), "source")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"LAY01: no known layout in 0 files .*empty"):
        detect(ALL, indexed(tmp_path / "empty"), str(tmp_path / "empty"))


def test_a_download_under_other_endings_is_named_where_nothing_else_is_found(tmp_path: Path) -> None:
    touch(tmp_path, *(name.replace(".nii.gz", ".mha") for name in brats("BraTS2021_00001")))
    with pytest.raises(
        UserError, match=r"BraTS2021_00001_\w+\.mha has another ending than BraTS2021_00001_\w+\.nii\.gz"
    ):
        find(get("brats2021"), indexed(tmp_path), "source", [])


def test_two_datasets_side_by_side_need_a_name(tmp_path: Path) -> None:
    touch(tmp_path, *brats("BraTS20_Training_001"), *brats("BraTS2021_00001"))
    with pytest.raises(UserError, match="LAY02: brats2020 and brats2021 both match"):
        detect(ALL, indexed(tmp_path), "source")
    assert list(find(get("brats2020"), indexed(tmp_path), "source", ALL).cases) == ["BraTS20_Training_001"]


def test_files_of_the_download_that_are_not_needed_are_not_called_unknown(tmp_path: Path) -> None:
    touch(tmp_path, *brats("BraTS20_Training_001"), "survival_info.csv", "name_mapping.csv", "README.md", "odd.bin")
    matched = match(get("brats2020"), indexed(tmp_path).files)
    assert [file.name for file in matched.unknown] == ["odd.bin"]
    assert [file.name for file in matched.tables] == ["name_mapping.csv"]


def test_an_unknown_dataset_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match='LAY01: unknown dataset "BraTS22" - did you mean brats2'):
        get("BraTS22")


@pytest.mark.parametrize("spelling", ["brats2021", "BraTS2021", "BraTS-2021", "brats_2021"])
def test_spelling_of_a_name_does_not_matter(spelling: str) -> None:
    assert get(spelling).name == "brats2021"


# --- datasets that are alike --------------------------------------------------------------------------------------


def with_masks_named(name: str, mask: str) -> Dataset:
    """BUSI, but for the names of its masks."""
    image, own = BUSI.patterns
    return replace(BUSI, name=name, patterns=(image, replace(own, regex=own.regex.replace("_mask", mask))))


@pytest.mark.parametrize("mask", ["_mask", "_tumor"])
def test_datasets_that_differ_in_the_names_of_their_labels_are_told_apart(tmp_path: Path, mask: str) -> None:
    alike = [with_masks_named("one", "_mask"), with_masks_named("other", "_tumor")]
    found = indexed(touch(tmp_path, "benign (1).png", f"benign (1){mask}.png", "benign (2).png"))
    for datasets in (alike, alike[::-1]):
        assert detect(datasets, found, "source").dataset.name == {"_mask": "one", "_tumor": "other"}[mask]


def test_datasets_that_take_the_same_files_for_other_roles_differ_in_their_labels(tmp_path: Path) -> None:
    image, mask = BUSI.patterns
    masks_are_images = replace(
        BUSI, name="odd", patterns=(image, replace(mask, role="second")), images=(*BUSI.images, Image("second", ("G",)))
    )
    found = indexed(touch(tmp_path, "benign (1).png", "benign (1)_mask.png"))
    for datasets in ([BUSI, masks_are_images], [masks_are_images, BUSI]):
        assert detect(datasets, found, "source").dataset is BUSI


def test_datasets_that_differ_in_nothing_but_what_lies_beside_the_cases_are_told_apart(tmp_path: Path) -> None:
    with_table = replace(BUSI, name="other", extras=(*BUSI.extras, r"lesions\.csv"))
    found = indexed(touch(tmp_path, "benign (1).png", "benign (1)_mask.png", "lesions.csv"))
    assert detect([BUSI, with_table], found, "source").dataset is with_table


def test_where_nothing_tells_two_datasets_apart_the_user_must(tmp_path: Path) -> None:
    alike = [with_masks_named("one", "_mask"), with_masks_named("other", "_tumor")]
    found = indexed(touch(tmp_path, "benign (1).png"))
    with pytest.raises(UserError, match="LAY02: one and other both match"):
        detect(alike, found, "source")
