"""The real pictures: all of Kvasir-SEG, and 55 of the 780 of BUSI."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.submission import to_submission


@pytest.fixture(scope="module")
def kvasir(real_data: Path) -> Path:
    path = real_data / "kvasir_seg" / "kvasir-seg.zip"
    if not path.is_file():
        pytest.skip(f"no {path}")
    return path


@pytest.fixture(scope="module")
def busi(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = real_data / "busi" / "Dataset_BUSI_with_GT.tar.xz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    folder = tmp_path_factory.mktemp("busi")
    with tarfile.open(path) as archive:
        archive.extractall(folder, filter="data")
    return folder


def _read(data: bytes | Path) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data) if isinstance(data, bytes) else data))


def _pairs(archive: zipfile.ZipFile) -> dict[str, tuple[bytes, bytes]]:
    names = [name for name in archive.namelist() if "/images/" in name and name.endswith(".jpg")]
    return {Path(name).stem: (archive.read(name), archive.read(name.replace("images", "masks"))) for name in names}


def test_the_official_split_of_all_kvasir_pictures_is_880_to_120(kvasir: Path, convert_to: Callable[..., Any]) -> None:
    rehearsal = convert_to("kvasir-seg", kvasir, dry_run=True)
    assert {split: len(rehearsal.plan.cases(split)) for split in ("train", "test")} == {"train": 880, "test": 120}
    assert rehearsal.all_findings == [], "the download is as published"
    assert rehearsal.plan.unknown == ()
    everything = convert_to("kvasir-seg", kvasir, dry_run=True, choices={"official_split": False})
    assert len(everything.plan.cases("train")) == 1000


def test_some_kvasir_pictures_keep_pixels_and_masks(
    tmp_path: Path, kvasir: Path, convert_to: Callable[..., Any]
) -> None:
    folder = convert_to("kvasir-seg", kvasir, limit=6).folder
    assert len(list(folder.glob("images*/*.png"))) == 12
    with zipfile.ZipFile(kvasir) as archive:
        pairs = _pairs(archive)
    for image in folder.glob("images*/*.png"):
        case = image.name.removesuffix("_0000.png")
        np.testing.assert_array_equal(_read(image), _read(pairs[case][0]), err_msg=case)
        label = _read(folder / image.parent.name.replace("images", "labels") / f"{case}.png")
        np.testing.assert_array_equal(label, _read(pairs[case][1])[..., 0] > 127, err_msg=case)
    written = to_submission("kvasir-seg", folder / "labelsTs", tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    assert len(written) == 6
    for path in written:
        np.testing.assert_array_equal(_read(path) > 127, _read(pairs[path.stem][1])[..., 0] > 127)


@pytest.mark.slow
def test_all_thousand_kvasir_pairs_convert(kvasir: Path, convert_to: Callable[..., Any]) -> None:
    conversion = convert_to("kvasir-seg", kvasir, splits=5, resize=(224, 224))
    folder = conversion.folder
    counts = {part: len(list((folder / part).iterdir())) for part in ("imagesTr", "labelsTr", "imagesTs", "labelsTs")}
    assert counts == {"imagesTr": 880, "labelsTr": 880, "imagesTs": 120, "labelsTs": 120}
    large = [finding.severity for finding in conversion.all_findings if finding.code == "LAB09"]
    assert large == ["info"] * 6, "polyps that fill two thirds of the picture are no inverted masks"
    found = [finding for finding in conversion.all_findings if finding.code not in ("LAB06", "LAB09")]
    assert {finding.code for finding in found} == {"DUP04"}, "no other findings than repeats and JPEG's grey values"
    assert len(found) == 5
    assert sum("one of them is a test case" in finding.message for finding in found) == 1
    record = json.loads((folder / "provenance.json").read_text())
    assert record["findings_by_code"]["LAB06"] == 1000
    groups = {case["id"]: case["group"] for case in record["cases"]}
    assert groups["cju76lsehyia10987u54vn8rb"] == groups["cju772304yw5t0818vbw8kkjf"]
    for fold in json.loads((folder / "splits_final.json").read_text()):
        assert not {groups[case] for case in fold["train"]} & {groups[case] for case in fold["val"]}
        assert len(fold["train"]) + len(fold["val"]) == 880
    assert all(case["voxels"]["1"] > 0 for case in record["cases"])
    assert {tuple(case["shape"]) for case in record["cases"]} == {(224, 224)}
    largest = max(record["cases"], key=lambda case: case["resized_from"][0])
    assert largest["resized_from"] == [1920, 1072], "as published"


def test_real_busi_pictures_convert_and_their_masks_come_back(
    tmp_path: Path, busi: Path, convert_to: Callable[..., Any]
) -> None:
    conversion = convert_to("busi", busi, splits=5)
    folder = conversion.folder
    strata = [path.name.split("_")[0] for path in (folder / "labelsTr").iterdir()]
    assert {stratum: strata.count(stratum) for stratum in set(strata)} == {"benign": 38, "malignant": 9}
    found: dict[str, list[str]] = {}
    for finding in conversion.all_findings:
        found.setdefault(finding.code, []).append(finding.case)
    assert found.keys() == {"CNT01", "DUP04", "IMG03", "LAB07"}
    assert found["LAB07"] == ["benign (54)", "benign (100)", "benign (195)", "malignant (53)"]
    assert found["IMG03"] == ["benign (54)"], "the one RGBA mask"
    assert all(f.severity == "info" for f in conversion.all_findings if f.code == "DUP04"), "all repeats are known"
    for fold in conversion.splits.folds:
        for pair in (("benign_0051", "benign_0133"), ("benign_0396", "benign_0413")):
            assert (pair[0] in fold["val"]) == (pair[1] in fold["val"])
    for source in busi.rglob("*).png"):
        stratum, number = source.stem.rstrip(")").split(" (")
        written = folder / "imagesTr" / f"{stratum}_{int(number):04d}_0000.png"
        assert written.exists() == (stratum != "normal")
        assert stratum == "normal" or written.read_bytes() == source.read_bytes()
    back = to_submission("busi", folder / "labelsTr", tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    assert len(back) == 47
    for path in back:
        masks = list(busi.rglob(f"{path.stem}*.png"))
        united = np.zeros(_read(path).shape, bool)
        for mask in masks:
            pixels = _read(mask)
            united |= pixels if pixels.ndim == 2 else pixels[..., 0] > 127
        np.testing.assert_array_equal(_read(path), united, err_msg=path.name)
    assert len(convert_to("busi", busi, choices={"with_normal": True}, dry_run=True).plan.cases("train")) == 55
