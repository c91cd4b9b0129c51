"""The raw data of part 5: a download of the Medical Segmentation Decathlon, or a toy that looks like one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import SimpleITK as sitk

ID, NAME = 4, "Task04_Hippocampus"
TOY_CASES, TOY_SHAPE = 6, (24, 28, 24)


def as_msd_writes_it(source: Path, parent: Path) -> Path:
    """A folder of links to a download that has no test images, with the empty folder that nnU-Net's converter needs."""
    folder = parent / "msd" / NAME
    (folder / "imagesTs").mkdir(parents=True, exist_ok=True)
    for name in ("imagesTr", "labelsTr", "dataset.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to((source / name).resolve())
    return folder


def write_toy(parent: Path) -> Path:
    """Noise in which two bright boxes lie side by side."""
    folder = parent / NAME
    rng = np.random.default_rng(1)
    for kind in ("imagesTr", "labelsTr"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for case in range(TOY_CASES):
        labels = np.zeros(TOY_SHAPE, np.uint8)
        start = [int(edge) for edge in rng.integers(3, 7, 3)]
        z, y, x = (slice(edge, edge + 8) for edge in start)
        labels[z, y, x] = 1
        labels[z, start[1] + 8 : start[1] + 14, x] = 2
        image = rng.normal(0, 0.3, TOY_SHAPE).astype(np.float32) + labels
        for kind, array in (("imagesTr", image), ("labelsTr", labels)):
            sitk.WriteImage(sitk.GetImageFromArray(array), str(folder / kind / f"hippocampus_{case:03}.nii.gz"))
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "Anterior", "2": "Posterior"},
        "numTraining": TOY_CASES,
        "training": [],
        "test": [],
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    return folder
