"""Datasets that exist as a fingerprint only: planning reads no image."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@dataclass(frozen=True)
class Constructed:
    """All cases alike; ``relative_size`` is what cropping leaves."""

    name: str
    channels: tuple[str, ...]
    labels: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    cases: int
    relative_size: float = 1.0
    file_ending: str = ".nii.gz"


SETS = {
    one.name: one
    for one in (
        Constructed(
            "Dataset901_BraTS", ("T1", "T1ce", "T2", "FLAIR"), 4, (138, 170, 140), (1, 1, 1), 369, relative_size=0.4
        ),
        Constructed("Dataset902_Hippocampus", ("MRI",), 3, (36, 50, 35), (1, 1, 1), 260),
        Constructed("Dataset903_LGG", ("R", "G", "B"), 2, (1, 256, 256), (999, 1, 1), 3929, file_ending=".png"),
        Constructed("Dataset904_Anisotropic", ("MRI",), 3, (20, 320, 320), (3, 0.6, 0.6), 100),
        Constructed("Dataset905_Small", ("a", "b"), 3, (24, 32, 32), (1, 1, 1), 20),
    )
}


def _write(folders: Any, name: str, fingerprint: bool, changes: dict[str, Any]) -> int:
    made = replace(SETS[name], **changes)
    raw, preprocessed = folders.raw / name, folders.preprocessed / name
    for folder in (raw / "imagesTr", raw / "labelsTr"):
        folder.mkdir(parents=True)
    for case in range(2):
        for channel in range(len(made.channels)):
            (raw / "imagesTr" / f"case{case}_{channel:04}{made.file_ending}").touch()
        (raw / "labelsTr" / f"case{case}{made.file_ending}").touch()
    description = {
        "channel_names": {str(number): channel for number, channel in enumerate(made.channels)},
        "labels": {"background": 0, **{f"label{value}": value for value in range(1, made.labels)}},
        "numTraining": made.cases,
        "file_ending": made.file_ending,
        "overwrite_image_reader_writer": "SimpleITKIO" if made.file_ending == ".nii.gz" else "NaturalImage2DIO",
    }
    (raw / "dataset.json").write_text(json.dumps(description))
    if fingerprint:
        preprocessed.mkdir()
        statistics = {"mean": 0, "median": 0, "std": 1, "min": 0, "max": 1, "percentile_99_5": 1, "percentile_00_5": 0}
        content = {
            "spacings": [made.spacing] * 2,
            "shapes_after_crop": [made.shape] * 2,
            "foreground_intensity_properties_per_channel": {str(c): statistics for c in range(len(made.channels))},
            "median_relative_size_after_cropping": made.relative_size,
        }
        (preprocessed / "dataset_fingerprint.json").write_text(json.dumps(content))
    return int(name[len("Dataset") :].partition("_")[0])


@pytest.fixture(scope="session")
def write_constructed() -> Callable[..., int]:
    """``write_constructed(folders, "Dataset905_Small", fingerprint=True, **changes)``: two cases of empty files with
    the fingerprint of the set, entries of ``Constructed`` changed. Returns the id."""
    return lambda folders, name, fingerprint=True, **changes: _write(folders, name, fingerprint, changes)


@pytest.fixture
def constructed(nnunet_folders: Any, write_constructed: Callable[..., int]) -> Callable[..., int]:
    """``write_constructed`` in this test's own folders."""
    return lambda name="Dataset905_Small", **options: write_constructed(nnunet_folders, name, **options)


@pytest.fixture
def importable(monkeypatch: pytest.MonkeyPatch) -> Callable[[type], type]:
    """Makes a class of a test importable by path, as plans name it."""

    def make(network: type) -> type:
        module = ModuleType("networks_of_a_test")
        setattr(module, network.__name__, network)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        network.__module__, network.__qualname__ = module.__name__, network.__name__
        return network

    return make


@pytest.fixture
def tree() -> Callable[[Path], dict[str, tuple[int, bytes]]]:
    """``tree(folder)``: path -> time of change in nanoseconds and content of everything below."""

    def of(folder: Path) -> dict[str, tuple[int, bytes]]:
        return {
            path.relative_to(folder).as_posix(): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in sorted(folder.rglob("*"))
        }

    return of
