"""The real LGG pictures: 20 of the 110 patients."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from nnunet_ext.dataset_conversion.submission import to_submission


@pytest.fixture(scope="module")
def source(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three patients: one complete, two with replaced channels."""
    wanted = ("TCGA_CS_4942_19970222", "TCGA_HT_7877_19980917", "TCGA_HT_A616_19991226")
    folder = tmp_path_factory.mktemp("lgg")
    with tarfile.open(real_data / "lgg" / "kaggle_3m.tar.xz") as archive:
        members = [member for member in archive if any(name in member.name for name in wanted)]
        archive.extractall(folder, members=members, filter="data")
    return folder


@pytest.mark.parametrize("target", ["2d", "3d"])
def test_real_patients_convert_and_their_masks_come_back(
    tmp_path: Path, source: Path, convert_to: Callable[..., Any], target: str
) -> None:
    conversion = convert_to("lgg", source, choices={"as": target}, splits=3)
    folder = conversion.folder
    found = {f.case: f.severity for f in conversion.all_findings if f.code == "IMG02"}
    assert found == {"TCGA_HT_7877_19980917": "info", "TCGA_HT_A616_19991226": "info"}, "known replaced channels"
    masks = sorted(source.rglob("*_mask.tif"))
    if target == "2d":
        assert json.loads((folder / "dataset.json").read_text())["numTraining"] == len(masks)
    else:
        stack = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "imagesTr" / "TCGA_CS_4942_19970222_0001.nii.gz")))
        name = "TCGA_CS_4942_19970222"
        for number in range(1, len(stack) + 1):
            pixels = np.asarray(Image.open(next(source.rglob(f"{name}_{number}.tif"))))
            np.testing.assert_array_equal(stack[number - 1], pixels[..., 1])
    written = to_submission("lgg", folder / "labelsTr", tmp_path / "out", raw=tmp_path / "nnUNet_raw")
    assert len(written) == len(masks)
    for mask in masks:
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "out" / mask.name)), np.asarray(Image.open(mask))
        )
