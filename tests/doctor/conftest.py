"""A dataset with which nothing is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MODEL = "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres"
DESCRIPTION = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "tumour": 1},
    "numTraining": 2,
    "file_ending": ".png",
}


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_plans: Callable[..., dict[str, Any]]) -> Path:
    """A healthy dataset 7 in all three folders: two cases, one plans file, five finished folds."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    raw, preprocessed = tmp_path / "nnUNet_raw/Dataset007_X", tmp_path / "nnUNet_preprocessed/Dataset007_X"
    for case in ("a", "b"):
        for file in (raw / "imagesTr" / f"{case}_0000.png", raw / "labelsTr" / f"{case}.png"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    preprocessed.mkdir()
    for place in (raw, preprocessed):
        (place / "dataset.json").write_text(json.dumps(DESCRIPTION))
        (place / "splits_final.json").write_text(json.dumps([{"train": ["a"], "val": ["b"]}] * 5))
    plans = small_plans("Dataset007_X", plans_name="nnUNetPlans", image_channels=1)
    fingerprint = {
        "spacings": [[1.0, 1.0, 1.0]] * 2,
        "shapes_after_crop": [[24, 24, 24]] * 2,
        "foreground_intensity_properties_per_channel": plans["foreground_intensity_properties_per_channel"],
        "median_relative_size_after_cropping": 1.0,
    }
    (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(fingerprint))
    for configuration in plans["configurations"].values():
        (preprocessed / configuration["data_identifier"]).mkdir()
    (preprocessed / "nnUNetPlans.json").write_text(json.dumps(plans))
    for fold in range(5):
        folder = tmp_path / "nnUNet_results/Dataset007_X" / MODEL / f"fold_{fold}"
        (folder / "validation").mkdir(parents=True)
        (folder / "validation" / "summary.json").write_text("{}")
        (folder / "validation" / "a.npz").touch()
        (folder / "checkpoint_final.pth").touch()
    return tmp_path
