"""Masks that are foreground everywhere or mostly, and sets of them, are told of; large lesions are an info."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.cases.coverage import foreground_findings, mostly_foreground
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]


def label(fill: str) -> np.ndarray:
    mask = np.zeros((1, 20, 30), np.uint8)
    if fill == "inverted":
        mask[:] = 1
        mask[0, 5:9, 5:12] = 0
    elif fill == "large lesion":
        mask[0, 2:20, 3:28] = 1
    elif fill == "half":
        mask[0, 10:] = 1
    elif fill == "full":
        mask[:] = 1
    elif fill == "all but one":
        mask[:] = 1
        mask[0, 0, 0] = 0
    return mask


@pytest.mark.parametrize(
    ("fill", "told"),
    [
        ("empty", []),
        ("half", []),
        ("large lesion", [("LAB09", "info")]),
        ("inverted", [("LAB09", "warning")]),
        ("all but one", [("LAB09", "warning")]),
        ("full", [("LAB08", "warning")]),
    ],
)
def test_what_a_label_covers(fill: str, told: list[tuple[str, str]]) -> None:
    findings = foreground_findings(label(fill), "case", "file")
    assert [(finding.code, finding.severity) for finding in findings] == told
    assert "100 % of the label" not in "".join(finding.message for finding in findings)


@pytest.mark.parametrize(("high", "cases", "told"), [(6, 10, True), (5, 10, False), (10, 10, True), (1, 1, False)])
def test_a_set_is_told_of_where_most_labels_are_mostly_foreground(high: int, cases: int, told: bool) -> None:
    results = [
        CaseResult(str(number), voxels={1: 500 if number < high else 20}, shape=[20, 30]) for number in range(cases)
    ]
    unlabelled = [CaseResult("test", shape=[20, 30])]
    found = mostly_foreground(results + unlabelled)
    assert [finding.code for finding in found] == ["LAB10"] * told
    if told:
        assert f"{high} of {cases} labels are mostly foreground" in found[0].message


def about(conversion: Any) -> list[Finding]:
    return [finding for finding in conversion.all_findings if finding.code in ("LAB08", "LAB09", "LAB10")]


def change_masks(source: Path, change: Callable[[np.ndarray], np.ndarray], count: int = 1000) -> None:
    for path in sorted(source.rglob("*_mask.tif"))[:count]:
        Image.fromarray(change(np.asarray(Image.open(path)))).save(path)


def test_nothing_is_said_of_ordinary_masks(lgg: Path, convert_to: Convert) -> None:
    assert about(convert_to("lgg", lgg)) == []


@pytest.mark.parametrize("target", ["2d", "3d"])
def test_a_set_of_inverted_masks_is_one_finding(lgg: Path, convert_to: Convert, target: str) -> None:
    change_masks(lgg, lambda mask: 255 - mask)
    found = about(convert_to("lgg", lgg, choices={"as": target}))
    assert [finding.code for finding in found if finding.code == "LAB10"] == ["LAB10"]
    assert {finding.severity for finding in found} == {"warning"}
    with pytest.raises(UserError, match="LAB"):
        convert_to("lgg", lgg, choices={"as": target}, strict=True, restart=True, allow=("CNT01", "GEO08", "IMG02"))


def test_one_slice_that_is_all_foreground_is_named(lgg: Path, convert_to: Convert) -> None:
    change_masks(lgg, lambda mask: np.full_like(mask, 255), 1)
    (finding,) = about(convert_to("lgg", lgg))
    assert finding.code == "LAB08"
    assert "1 of 11 masks are foreground everywhere" in finding.message
    assert finding.file == str(sorted(lgg.rglob("*_mask.tif"))[0])


def test_a_volume_of_one_value_is_told(tmp_path: Path, brats_case: Callable[..., Path], convert_to: Convert) -> None:
    brats_case(tmp_path / "d", "BraTS2021_00000", label=np.full((8, 7, 6), 2, np.uint8))
    brats_case(tmp_path / "d", "BraTS2021_00002", seed=1, label=np.zeros((8, 7, 6), np.uint8))
    done = convert_to("brats2021", tmp_path / "d")
    assert [(finding.code, finding.case) for finding in about(done)] == [("LAB08", "BraTS2021_00000")]
    assert [finding.case for finding in done.all_findings if finding.code == "LAB02"] == ["BraTS2021_00002"]
