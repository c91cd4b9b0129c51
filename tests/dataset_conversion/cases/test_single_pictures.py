"""Datasets of single pictures: BUSI and Kvasir-SEG."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.datasets.busi import identifier
from nnunet_ext.dataset_conversion.datasets.kvasir_seg import official_split
from nnunet_ext.dataset_conversion.options import parse_size
from nnunet_ext.dataset_conversion.submission import to_submission
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]
SIZE = (24, 30)


def codes(conversion: Any, severity: str = "") -> list[str]:
    return sorted(f.code for f in conversion.all_findings if severity in ("", f.severity))


def read(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def scene(seed: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A picture whose difference hash is its own."""
    coarse = np.random.default_rng([seed, 5]).integers(0, 256, (9, 10, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def box(top: int, left: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + 6, left : left + 7] = True
    return mask


def save(path: Path, pixels: np.ndarray, **how: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **how)
    return path


def busi_picture(source: Path, name: str, seed: int = 0, *masks: np.ndarray, picture: np.ndarray | None = None) -> Path:
    folder = source / "Dataset_BUSI_with_GT" / name.split(" ", maxsplit=1)[0]
    for number, mask in enumerate(masks or (box(5, 5 + seed % 7),)):
        save(folder / f"{name}_mask{f'_{number}' if number else ''}.png", mask)
    return save(folder / f"{name}.png", scene(seed) if picture is None else picture)


@pytest.fixture
def busi(tmp_path: Path) -> Path:
    """Six pictures with a lesion, none of which the real release repeats, and one without."""
    source = tmp_path / "busi"
    for seed, name in enumerate(("benign (3)", "benign (4)", "benign (5)", "malignant (2)", "malignant (3)")):
        busi_picture(source, name, seed)
    busi_picture(source, "malignant (10)", 10)
    busi_picture(source, "normal (1)", 11, np.zeros((*SIZE, 3), np.uint8))
    return source


NAMES = [name for name, part in official_split().items() if part == "train"][:4]
TEST_NAMES = [name for name, part in official_split().items() if part == "test"][:2]


def kvasir_pair(source: Path, name: str, seed: int = 0, size: tuple[int, int] = SIZE) -> None:
    mask = np.repeat(np.where(box(5, 5 + seed % 7, size), np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
    save(source / "Kvasir-SEG" / "images" / f"{name}.jpg", scene(seed, size), quality=95)
    save(source / "Kvasir-SEG" / "masks" / f"{name}.jpg", mask, quality=75)


@pytest.fixture
def kvasir(tmp_path: Path) -> Path:
    """Six pairs, two of them in the test part of the official split."""
    source = tmp_path / "kvasir"
    for seed, name in enumerate(NAMES + TEST_NAMES):
        kvasir_pair(source, name, seed)
    return source


# --- BUSI ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", ["auto", "copy"])
def test_png_pictures_keep_their_bytes_and_masks_become_zero_and_one(
    busi: Path, convert_to: Convert, link: str
) -> None:
    conversion = convert_to("busi", busi, link=link)
    folder = conversion.folder
    assert codes(conversion) == ["CNT01"], "the number of cases only"
    assert sorted(path.name for path in (folder / "imagesTr").iterdir()) == [
        *(f"benign_{number:04d}_0000.png" for number in (3, 4, 5)),
        *(f"malignant_{number:04d}_0000.png" for number in (2, 3, 10)),
    ]
    source = next(busi.rglob("benign (4).png"))
    written = folder / "imagesTr" / "benign_0004_0000.png"
    assert written.read_bytes() == source.read_bytes()
    assert written.samefile(source) == (link == "auto")
    label = read(folder / "labelsTr" / "benign_0004.png")
    assert label.dtype == np.uint8
    np.testing.assert_array_equal(label, box(5, 6))


def test_a_grey_picture_is_expanded_and_told(busi: Path, convert_to: Convert) -> None:
    grey = scene(20)[..., 0]
    busi_picture(busi, "benign (6)", 20, picture=grey)
    conversion = convert_to("busi", busi)
    assert codes(conversion, "info") == ["IMG03"]
    np.testing.assert_array_equal(
        read(conversion.folder / "imagesTr" / "benign_0006_0000.png"), np.repeat(grey[..., None], 3, axis=2)
    )


def test_several_masks_of_any_kind_are_united_and_come_back_as_one(
    tmp_path: Path, busi: Path, convert_to: Convert
) -> None:
    first, second, third = box(1, 1), box(10, 10), box(15, 20)
    grey = np.where(second, np.uint8(255), np.uint8(0))
    rgba = np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
    rgb = np.repeat(np.where(third, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
    busi_picture(busi, "benign (195)", 21, first, rgba, rgb)
    conversion = convert_to("busi", busi)
    assert codes(conversion, "info") == ["IMG03", "LAB07"], "alpha dropped, masks united"
    together = first | second | third
    np.testing.assert_array_equal(read(conversion.folder / "labelsTr" / "benign_0195.png"), together)
    written = to_submission("busi", conversion.folder / "labelsTr", tmp_path / "back", raw=tmp_path / "nnUNet_raw")
    assert len(written) == 7
    back = read(tmp_path / "back" / "benign (195)_mask.png")
    assert back.dtype == bool, "1 bit, as the source"
    np.testing.assert_array_equal(back, together)


def test_a_mask_number_that_is_missing_is_an_error(busi: Path, convert_to: Convert) -> None:
    busi_picture(busi, "benign (195)", 21, box(1, 1), box(10, 10), box(15, 20))
    next(busi.rglob("benign (195)_mask_1.png")).unlink()
    with pytest.raises(UserError, match=r"benign \(195\) lacks mask 1, but has mask 2") as raised:
        convert_to("busi", busi)
    assert raised.value.code == "NAM01"


def test_normal_pictures_come_only_when_asked_for(busi: Path, convert_to: Convert) -> None:
    left_out = convert_to("busi", busi).plan.left_out
    assert left_out["normal, nothing to segment (--with-normal keeps them)"] == 1
    kept = convert_to("busi", busi, choices={"with_normal": True}, restart=True)
    assert codes(kept, "info") == ["LAB02"], "an empty mask is no surprise here"
    assert not read(kept.folder / "labelsTr" / "normal_0001.png").any()
    with pytest.raises(UserError, match="--with-normal is no option of kvasir-seg - its own options: --official-split"):
        convert_to("kvasir-seg", busi, choices={"with_normal": True})


def test_an_empty_mask_of_a_lesion_is_a_warning(busi: Path, convert_to: Convert) -> None:
    busi_picture(busi, "benign (6)", 22, np.zeros(SIZE, bool))
    assert codes(convert_to("busi", busi), "warning") == ["CNT01", "LAB02"]


def test_repeats_of_the_table_share_a_fold_whatever_their_pixels(busi: Path, convert_to: Convert) -> None:
    busi_picture(busi, "benign (433)", 30)
    busi_picture(busi, "malignant (145)", 31)
    conversion = convert_to("busi", busi, splits=3)
    for fold in conversion.splits.folds:
        assert ("benign_0433" in fold["val"]) == ("malignant_0145" in fold["val"])
    assert codes(conversion) == ["CNT01"], "their pixels differ, so nothing is to be told"


def test_repeats_that_no_table_knows_are_found_told_and_share_a_fold(busi: Path, convert_to: Convert) -> None:
    same, near = scene(3), np.clip(scene(4).astype(int) + 6, 0, 255).astype(np.uint8)
    busi_picture(busi, "benign (6)", 3, picture=same)  # malignant (2) is seed 3
    busi_picture(busi, "benign (7)", 4, picture=near)
    busi_picture(busi, "malignant (4)", 4)
    conversion = convert_to("busi", busi, splits=3)
    told = {f.code: f.message for f in conversion.all_findings if f.code.startswith("DUP")}
    assert told.keys() == {"DUP03", "DUP04"}
    assert "they stay in one fold" in told["DUP04"]
    for fold in conversion.splits.folds:
        val = set(fold["val"])
        assert ("benign_0006" in val) == ("malignant_0002" in val)
        assert ("benign_0007" in val) == ("malignant_0004" in val)
    record = json.loads((conversion.folder / "provenance.json").read_text())
    groups = {case["id"]: case["group"] for case in record["cases"]}
    assert groups["benign_0007"] == groups["malignant_0004"]


def test_names_with_and_without_blank_are_one_identifier() -> None:
    assert identifier("benign (12)") == identifier("Benign_(012)") == "benign_0012"


# --- Kvasir-SEG ---------------------------------------------------------------------------------------------------


def test_the_official_test_cases_go_to_the_test_folders_with_their_labels(kvasir: Path, convert_to: Convert) -> None:
    folder = convert_to("kvasir-seg", kvasir).folder
    names = {part: sorted(path.name for path in (folder / part).iterdir()) for part in ("labelsTr", "labelsTs")}
    assert names == {"labelsTr": sorted(f"{n}.png" for n in NAMES), "labelsTs": sorted(f"{n}.png" for n in TEST_NAMES)}
    assert len(list((folder / "imagesTs").iterdir())) == 2
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 4
    folds = json.loads((folder / "splits_final.json").read_text())
    assert {case for fold in folds for part in fold.values() for case in part} == set(NAMES)


def test_without_the_official_split_all_cases_are_for_training(kvasir: Path, convert_to: Convert) -> None:
    folder = convert_to("kvasir-seg", kvasir, choices={"official_split": False}).folder
    assert not (folder / "imagesTs").exists()
    assert json.loads((folder / "dataset.json").read_text())["numTraining"] == 6
    with pytest.raises(UserError, match="--official-split is no option of busi"):
        convert_to("busi", kvasir, choices={"official_split": True})


def test_cases_that_the_official_split_does_not_name_are_trained_on_and_told(kvasir: Path, convert_to: Convert) -> None:
    kvasir_pair(kvasir, "c" + "x" * 24, 9)
    conversion = convert_to("kvasir-seg", kvasir)
    assert codes(conversion, "warning") == ["CNT01", "SPL09"]
    assert (conversion.folder / "labelsTr" / f"c{'x' * 24}.png").is_file()


def test_jpeg_masks_are_cut_at_the_middle_told_and_come_back(tmp_path: Path, kvasir: Path, convert_to: Convert) -> None:
    conversion = convert_to("kvasir-seg", kvasir)
    assert codes(conversion, "info") == ["LAB06"] * 6
    predictions = tmp_path / "predictions"
    predictions.mkdir()
    for part, names in (("labelsTr", NAMES), ("labelsTs", TEST_NAMES)):
        for seed, name in enumerate(names, start=0 if part == "labelsTr" else len(NAMES)):
            source = next(kvasir.rglob(f"masks/{name}.jpg"))
            assert len(np.unique(read(source))) > 2, "the mask has no values in between: the test proves nothing"
            label = conversion.folder / part / f"{name}.png"
            np.testing.assert_array_equal(read(label), box(5, 5 + seed % 7))
            (predictions / label.name).write_bytes(label.read_bytes())
    image = conversion.folder / "imagesTr" / f"{NAMES[0]}_0000.png"
    np.testing.assert_array_equal(read(image), read(next(kvasir.rglob(f"images/{NAMES[0]}.jpg"))))
    written = to_submission("kvasir-seg", predictions, tmp_path / "back", raw=tmp_path / "nnUNet_raw")
    assert sorted(path.name for path in written) == sorted(f"{name}.jpg" for name in NAMES + TEST_NAMES)
    for seed, name in enumerate(NAMES + TEST_NAMES):
        np.testing.assert_array_equal(read(tmp_path / "back" / f"{name}.jpg") > 127, box(5, 5 + seed % 7))


def test_the_table_of_sizes_is_compared_where_it_is_there(kvasir: Path, convert_to: Convert) -> None:
    table = {NAMES[0]: {"height": SIZE[0], "width": SIZE[1]}, NAMES[1]: {"height": SIZE[0], "width": 31, "bbox": []}}
    path = kvasir / "Kvasir-SEG" / "kavsir_bboxes.json"
    path.write_text(json.dumps(table))
    told = [f for f in convert_to("kvasir-seg", kvasir).all_findings if f.code == "GEO07"]
    assert [f.case for f in told] == [NAMES[1]]
    assert "30x24 pixels, the download's table says 31x24" in told[0].message
    path.write_text('{"a": 3}')
    assert "CSV01" in codes(convert_to("kvasir-seg", kvasir, restart=True), "warning")


def test_a_repeat_across_the_official_split_is_told(kvasir: Path, convert_to: Convert) -> None:
    kvasir_pair(kvasir, TEST_NAMES[0], seed=0)  # the scene of the first training case
    told = [f for f in convert_to("kvasir-seg", kvasir).all_findings if f.code in ("DUP03", "DUP04")]
    assert len(told) == 1
    assert told[0].severity == "warning"
    assert "one of them is a test case" in told[0].message


# --- sizes and normalisation --------------------------------------------------------------------------------------


def test_pictures_are_resized_by_area_masks_by_nearest_and_the_way_back_undoes_it(
    tmp_path: Path, busi: Path, convert_to: Convert
) -> None:
    conversion = convert_to("busi", busi, resize=(15, 12))
    folder = conversion.folder
    source = read(next(busi.rglob("benign (4).png"))).astype(float)
    mean = source.reshape(12, 2, 15, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(read(folder / "imagesTr" / "benign_0004_0000.png"), mean, atol=1)
    label = read(folder / "labelsTr" / "benign_0004.png")
    assert label.shape == (12, 15)
    np.testing.assert_array_equal(label, box(5, 6)[1::2, 1::2], err_msg="the pixel under the centre")
    record = json.loads((folder / "provenance.json").read_text())
    assert record["options"]["resize"] == [15, 12]
    case = next(case for case in record["cases"] if case["id"] == "benign_0004")
    assert (case["shape"], case["resized_from"]) == ([15, 12], [30, 24])
    assert case["voxels"] == {"1": int(label.sum())}
    written = to_submission("busi", folder / "labelsTr", tmp_path / "back", raw=tmp_path / "nnUNet_raw")
    assert len(written) == 6
    np.testing.assert_array_equal(
        read(tmp_path / "back" / "benign (4)_mask.png"), label.repeat(2, axis=0).repeat(2, axis=1)
    )


def test_a_picture_that_has_the_size_already_keeps_its_pixels(busi: Path, convert_to: Convert) -> None:
    folder = convert_to("busi", busi, resize=(30, 24)).folder
    np.testing.assert_array_equal(
        read(folder / "imagesTr" / "benign_0004_0000.png"), read(next(busi.rglob("benign (4).png")))
    )


def test_a_lesion_that_resizing_loses_is_told(busi: Path, convert_to: Convert) -> None:
    dot = np.zeros(SIZE, bool)
    dot[0, 0] = True
    busi_picture(busi, "benign (6)", 22, dot)
    told = [f for f in convert_to("busi", busi, resize=(10, 8)).all_findings if f.code == "LAB02"]
    assert [f.message for f in told] == ["benign (6): nothing is left of lesion at 10x8"]


def test_slices_are_resized_too(tmp_path: Path, lgg: Path, convert_to: Convert) -> None:
    folder = convert_to("lgg", lgg, resize=(18, 20), rgb_norm="0_1").folder
    assert read(folder / "imagesTr" / "TCGA_CS_4941_19960909_s003_0000.png").shape == (20, 18, 3)
    written = to_submission("lgg", folder / "labelsTr", tmp_path / "back", raw=tmp_path / "nnUNet_raw")
    for path in written:  # twice as large and back again: nothing is lost
        np.testing.assert_array_equal(read(path), read(next(lgg.rglob(path.name))), err_msg=path.name)


def test_the_channel_names_choose_nnunets_normalisation(busi: Path, convert_to: Convert) -> None:
    from nnunetv2.preprocessing.normalization.default_normalization_schemes import (
        RGBTo01Normalization,
        ZScoreNormalization,
    )
    from nnunetv2.preprocessing.normalization.map_channel_name_to_normalization import get_normalization_scheme

    for how, scheme in (("zscore", ZScoreNormalization), ("0_1", RGBTo01Normalization)):
        folder = convert_to("busi", busi, rgb_norm=how, restart=how == "0_1").folder
        names = json.loads((folder / "dataset.json").read_text())["channel_names"]
        assert [get_normalization_scheme(name) for name in names.values()] == [scheme] * 3, how


@pytest.mark.parametrize("option", [{"resize": (224, 224)}, {"rgb_norm": "0_1"}])
def test_volumes_are_neither_resized_nor_normalised_as_pictures(
    option: dict[str, Any], brats2021: Path, lgg: Path, convert_to: Convert
) -> None:
    name = f"--{next(iter(option)).replace('_', '-')}"
    with pytest.raises(UserError, match=f"{name} is for pictures, and brats2021 is made of volumes"):
        convert_to("brats2021", brats2021, **option)
    with pytest.raises(UserError, match=f"{name} is for pictures, and lgg --as 3d is made of volumes"):
        convert_to("lgg", lgg, choices={"as": "3d"}, **option)


@pytest.mark.parametrize("text", ["224", "x224", "224x", "axb", "-4x5", "22.5x20", ""])
def test_something_else_than_width_and_height_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="is no size - give width and height, such as 224x224"):
        parse_size(text)


def test_a_size_is_width_by_height() -> None:
    assert parse_size("224x160") == (224, 160)


def test_a_conversion_of_another_size_is_not_continued(busi: Path, convert_to: Convert) -> None:
    convert_to("busi", busi, resize=(15, 12))
    with pytest.raises(UserError, match="other options") as raised:
        convert_to("busi", busi)
    assert raised.value.code == "OUT05"


def test_a_jpeg_in_a_png_name_is_refused(busi: Path, convert_to: Convert) -> None:
    stream = io.BytesIO()
    Image.fromarray(scene(1)).save(stream, "JPEG")
    next(busi.rglob("benign (4).png")).write_bytes(stream.getvalue())
    with pytest.raises(UserError, match=r"is JPEG data in a \.png name"):
        convert_to("busi", busi)
