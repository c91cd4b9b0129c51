"""Patients stay whole however names are written, and a patient's masks are judged together."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.errors import UserError

Convert = Callable[..., Any]
MakeCase = Callable[..., Path]


def groups(folder: Path) -> dict[str, str]:
    return {case["name"]: case["group"] for case in json.loads((folder / "provenance.json").read_text())["cases"]}


def validation_folds(folder: Path) -> dict[str, int]:
    folds = json.loads((folder / "splits_final.json").read_text())
    return {case: number for number, fold in enumerate(folds) for case in fold["val"]}


def test_names_in_small_letters_keep_their_patients_together(
    tmp_path: Path, brats_case: MakeCase, convert_to: Convert
) -> None:
    for seed, number in enumerate((0, 2, 3, 5, 8, 1559)):  # the last two are one patient
        brats_case(tmp_path / "download", f"brats2021_{number:05d}", seed=seed)
    for seed in range(4):
        conversion = convert_to("brats2021", tmp_path / "download", seed=seed, restart=seed > 0, splits=5)
        folds = validation_folds(conversion.folder)
        assert folds["brats2021_00008"] == folds["brats2021_01559"]


def test_a_patient_written_in_two_ways_is_one(tmp_path: Path, lgg_patient: MakeCase, convert_to: Convert) -> None:
    for seed, name in enumerate(("TCGA_CS_4941_19960909", "tcga_cs_4941_19970909", "TCGA_DU_5849_19950405")):
        lgg_patient(tmp_path / "kaggle_3m", name, slices=3, seed=seed)
    found = groups(convert_to("lgg", tmp_path / "kaggle_3m").folder)
    assert found["tcga_cs_4941_19970909"] == found["TCGA_CS_4941_19960909"] == "TCGA_CS_4941"


def test_masks_stored_as_0_and_1_are_an_error(lgg: Path, convert_to: Convert) -> None:
    masks = sorted(lgg.glob("TCGA_CS_4941_*/*_mask.tif"))
    assert masks
    for path in masks:
        Image.fromarray(np.asarray(Image.open(path)) // 255).save(path)
    with pytest.raises(UserError, match="LAB01: TCGA_CS_4941_19960909: the masks hold no value above 1"):
        convert_to("lgg", lgg)


def test_noise_in_an_empty_mask_is_none_beside_a_mask_that_holds_something(lgg: Path, convert_to: Convert) -> None:
    empty = next(lgg.glob("TCGA_CS_4941_*")) / "TCGA_CS_4941_19960909_1_mask.tif"
    mask = np.array(Image.open(empty))
    assert not mask.any()
    mask[0, 0] = 3
    Image.fromarray(mask).save(empty)
    assert not [finding for finding in convert_to("lgg", lgg).all_findings if finding.code == "LAB01"]


@pytest.mark.parametrize(("second", "told"), [("h", True), ("g", False)])
def test_a_table_of_groups_that_divides_a_known_patient_is_told(
    tmp_path: Path, brats2021: Path, convert_to: Convert, second: str, told: bool
) -> None:
    table = tmp_path / "groups.csv"
    rows = [f"BraTS2021_{number:05d},{number}" for number in (0, 2, 3, 5)]
    table.write_text("\n".join(["case,group", *rows, "BraTS2021_00008,g", f"BraTS2021_01559,{second}"]))
    conversion = convert_to("brats2021", brats2021, groups=str(table))
    messages = [finding.message for finding in conversion.all_findings if finding.code == "SPL08"]
    assert messages == (["the given groups divide patient BraTS-GLI-00008: g, h"] if told else [])
