"""Two researchers with one download get one ``splits_final.json``, whatever versions they have installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "folds.json").read_text())
PHANTOMS = [words for words in GOLDEN if "cases" not in words]


@pytest.mark.parametrize("words", PHANTOMS)
def test_phantoms_are_divided_as_ever(words: str, pristine, command, nnunet_folders) -> None:
    name, *options = words.split()
    done = command("convert", name, "-i", pristine(name, quirks=True, cases=14), *options)
    assert done.code == 0, done.err
    (file,) = nnunet_folders.raw.glob("*/splits_final.json")
    fold_of = {case: number for number, fold in enumerate(json.loads(file.read_text())) for case in fold["val"]}
    assert "".join(str(fold_of[case]) for case in sorted(fold_of)) == GOLDEN[words]


def test_stacks_take_the_folds_of_slices_patient_by_patient(pristine, command, nnunet_folders) -> None:
    source = pristine("lgg", quirks=True, cases=14)
    assert command("convert", "lgg", "-i", source, "--as", "2d").code == 0
    slices = nnunet_folders.raw / "Dataset535_LGGSlices" / "splits_final.json"
    done = command("convert", "lgg", "-i", source, "--as", "3d", "--splits", slices)
    assert done.code == 0, done.err
    volumes = nnunet_folders.raw / "Dataset536_LGGVolumes"
    patients = {case.rsplit("_", 1)[0] for fold in json.loads(slices.read_text()) for case in fold["val"]}
    assert len(patients) == 14
    for there, here in zip(
        json.loads(slices.read_text()), json.loads((volumes / "splits_final.json").read_text()), strict=True
    ):
        for part in ("train", "val"):
            assert here[part] == sorted({case.rsplit("_s", 1)[0] for case in there[part]})
    assert "given: those of Dataset535_LGGSlices, patient by patient" in (volumes / "report.md").read_text()
    assert "SPL07" not in done.out


def test_folds_of_a_dataset_of_others_are_refused(pristine, command, nnunet_folders) -> None:
    assert command("convert", "brats2021", "-i", pristine("brats2021")).code == 0
    folds = nnunet_folders.raw / "Dataset521_BraTS2021" / "splits_final.json"
    done = command("convert", "lgg", "-i", pristine("lgg"), "--splits", folds)
    assert done.code == 2
    assert "SPL02" in done.err


def test_folds_of_another_dataset_are_refused_also_where_its_patients_have_the_same_names(
    pristine, command, nnunet_folders
) -> None:
    source = pristine("lgg", cases=6)
    assert command("convert", "lgg", "-i", source).code == 0
    slices = nnunet_folders.raw / "Dataset535_LGGSlices"
    record = json.loads((slices / "provenance.json").read_text())
    (slices / "provenance.json").write_text(json.dumps({**record, "dataset": "busi"}))
    done = command("convert", "lgg", "-i", source, "--as", "3d", "--splits", slices / "splits_final.json")
    assert done.code == 2
    assert "SPL02" in done.err
