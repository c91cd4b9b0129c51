"""Shared fixtures: own nnU-Net folders, real console commands, small data sets and small plans.

Every helper is a fixture (a function is handed out, never imported), so that tests run under any import mode of pytest.
"""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

# Before torch, numpy or nnU-Net are imported anywhere: they read these once.
for _name, _value in {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "PASSIVE",  # 'nnUNetv2_train -device cpu' takes all threads; idle ones must not spin
    "nnUNet_def_n_proc": "1",
    "nnUNet_n_proc_DA": "0",
    "MPLBACKEND": "Agg",
}.items():
    os.environ[_name] = _value

REPOSITORY = Path(__file__).resolve().parents[1]
DISCOVERY = REPOSITORY / "nnunet_ext" / "_discovery"


@dataclass(frozen=True)
class Folders:
    """nnU-Net's three folders of one test."""

    raw: Path
    preprocessed: Path
    results: Path

    def environment(self) -> dict[str, str]:
        """The three variables, as a child process needs them."""
        return {
            "nnUNet_raw": str(self.raw),
            "nnUNet_preprocessed": str(self.preprocessed),
            "nnUNet_results": str(self.results),
        }


def _make_folders(parent: Path) -> Folders:
    folders = Folders(*(parent / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")))
    for folder in (folders.raw, folders.preprocessed, folders.results):
        folder.mkdir(parents=True, exist_ok=True)
    return folders


@pytest.fixture
def nnunet_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    """Empty nnU-Net folders below ``tmp_path``; the environment of this process points to them, discovery included."""
    folders = _make_folders(tmp_path)
    for name, value in {**folders.environment(), "nnUNet_extTrainer": str(DISCOVERY)}.items():
        monkeypatch.setenv(name, value)
    return folders


@pytest.fixture(scope="session")
def make_folders() -> Callable[[Path], Folders]:
    """``make_folders(parent)`` for fixtures of a wider scope: creates the folders, leaves the environment alone."""
    return _make_folders


@pytest.fixture(scope="session")
def single_thread() -> None:
    """One thread for torch in this process (also undoes what nnU-Net's own ``-device cpu`` would set)."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def run_nnunet() -> Callable[..., subprocess.CompletedProcess[str]]:
    """``run_nnunet(["nnUNetv2_train", ...], environment, check=True)``: runs a console script beside this Python.

    Output and errors come back together in ``stdout``. A failing command fails the test and shows its last lines;
    with ``check=False`` the caller looks at ``returncode``.
    """

    def run(
        arguments: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        command = [str(Path(sys.executable).parent / str(arguments[0])), *map(str, arguments[1:])]
        child = {**os.environ, "nnUNet_extTrainer": str(DISCOVERY), **(environment or {})}
        child["PYTHONPATH"] = os.pathsep.join(filter(None, [str(REPOSITORY), child.get("PYTHONPATH", "")]))
        done = subprocess.run(
            command,
            env=child,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
        if check and done.returncode != 0:
            tail = "\n".join(done.stdout.splitlines()[-40:])
            pytest.fail(
                f"{' '.join(map(str, arguments))} ended with exit code {done.returncode}:\n{tail}", pytrace=False
            )
        return done

    return run


def _architecture(dimension: int, n_stages: int, network_class: str) -> dict[str, Any]:
    return {
        "network_class_name": network_class,
        "arch_kwargs": {
            "n_stages": n_stages,
            "features_per_stage": [8 * 2**stage for stage in range(n_stages)],
            "conv_op": f"torch.nn.modules.conv.Conv{dimension}d",
            "kernel_sizes": [[3] * dimension] * n_stages,
            "strides": [[1] * dimension] + [[2] * dimension] * (n_stages - 1),
            "n_conv_per_stage": [2] * n_stages,
            "n_conv_per_stage_decoder": [2] * (n_stages - 1),
            "conv_bias": True,
            "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{dimension}d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


@pytest.fixture(scope="session")
def small_plans() -> Callable[..., dict[str, Any]]:
    """``small_plans(dataset_name, ...)``: a plans file for 1 mm images that trains in moments.

    Configurations ``2d``, ``3d_fullres`` and, with ``cascade=True``, ``3d_lowres`` and ``3d_cascade_fullres`` (all at
    the same spacing); features 8-16-32-..., default 3 stages.
    """

    def resampling(name: str, order: int) -> dict[str, Any]:
        return {
            f"resampling_fn_{name}": "resample_data_or_seg_to_shape",
            f"resampling_fn_{name}_kwargs": {
                "is_seg": name == "seg",
                "order": order,
                "order_z": 0,
                "force_separate_z": None,
            },
        }

    def make(
        dataset_name: str,
        *,
        plans_name: str = "smallPlans",
        image_channels: int = 2,
        n_stages: int = 3,
        batch_size: int = 2,
        patch_2d: Sequence[int] = (16, 16),
        patch_3d: Sequence[int] = (16, 16, 16),
        cascade: bool = False,
        network_class: str = "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        file_ending_reader: str = "SimpleITKIO",
    ) -> dict[str, Any]:
        def configuration(dimension: int, patch: Sequence[int], identifier: str) -> dict[str, Any]:
            return {
                "data_identifier": f"{plans_name}_{identifier}",
                "preprocessor_name": "DefaultPreprocessor",
                "batch_size": batch_size,
                "patch_size": list(patch),
                "median_image_size_in_voxels": [24.0] * dimension,
                "spacing": [1.0] * dimension,
                "normalization_schemes": ["ZScoreNormalization"] * image_channels,
                "use_mask_for_norm": [False] * image_channels,
                **resampling("data", 3),
                **resampling("seg", 1),
                **resampling("probabilities", 1),
                "architecture": _architecture(dimension, n_stages, network_class),
                "batch_dice": dimension == 2,
            }

        configurations = {
            "2d": configuration(2, patch_2d, "2d"),
            "3d_fullres": configuration(3, patch_3d, "3d_fullres"),
        }
        if cascade:
            configurations["3d_lowres"] = {
                **configuration(3, patch_3d, "3d_lowres"),
                "next_stage": "3d_cascade_fullres",
            }
            configurations["3d_cascade_fullres"] = {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"}
        return {
            "dataset_name": dataset_name,
            "plans_name": plans_name,
            "original_median_spacing_after_transp": [1.0, 1.0, 1.0],
            "original_median_shape_after_transp": [24, 24, 24],
            "image_reader_writer": file_ending_reader,
            "transpose_forward": [0, 1, 2],
            "transpose_backward": [0, 1, 2],
            "configurations": configurations,
            "experiment_planner_used": "ExperimentPlanner",
            "label_manager": "LabelManager",
            "foreground_intensity_properties_per_channel": {
                str(channel): {
                    "max": 1.0,
                    "mean": 0.0,
                    "median": 0.0,
                    "min": -1.0,
                    "percentile_00_5": -1.0,
                    "percentile_99_5": 1.0,
                    "std": 1.0,
                }
                for channel in range(image_channels)
            },
        }

    return make


def _toy_case(rng: Any, shape: Sequence[int], channels: int) -> tuple[Any, Any]:
    """Noise with two bright boxes, one inside the other: images (C, Z, Y, X) float32 and labels 0, 1, 2 (Z, Y, X)."""
    import numpy as np

    labels = np.zeros(shape, np.uint8)
    start = [int(rng.integers(1, size // 3)) for size in shape]
    labels[tuple(slice(s, s + size // 2) for s, size in zip(start, shape, strict=True))] = 1
    labels[tuple(slice(s + 1, s + 1 + size // 4) for s, size in zip(start, shape, strict=True))] = 2
    images = rng.normal(0, 0.3, (channels, *shape)).astype(np.float32)
    for channel in range(channels):
        images[channel] += labels >= 1 + channel % 2
    return images, labels


def _dataset_json(
    channels: int, cases: int, labels: Mapping[str, Any], region_order: Sequence[int] | None
) -> dict[str, Any]:
    description: dict[str, Any] = {
        "channel_names": {str(channel): f"contrast{channel}" for channel in range(channels)},
        "labels": dict(labels),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    if region_order is not None:
        description["regions_class_order"] = list(region_order)
    return description


LABELS = {"background": 0, "outer": 1, "inner": 2}


@pytest.fixture(scope="session")
def write_raw_dataset() -> Callable[..., Path]:
    """``write_raw_dataset(nnunet_raw, "Dataset501_Toy", cases=5, ...)``: toy images in nnU-Net's raw format.

    Labels are background, outer and inner box. Returns the data set's folder.
    """

    def write(
        raw: Path,
        name: str,
        *,
        cases: int = 5,
        test_cases: int = 0,
        channels: int = 2,
        shape: Sequence[int] = (20, 24, 24),
        seed: int = 1,
        labels: Mapping[str, Any] = LABELS,
        region_order: Sequence[int] | None = None,
    ) -> Path:
        import numpy as np
        import SimpleITK as sitk

        rng = np.random.default_rng(seed)
        folder = raw / name
        for case in range(cases + test_cases):
            images, segmentation = _toy_case(rng, shape, channels)
            kind = "Tr" if case < cases else "Ts"
            for sub in (f"images{kind}", f"labels{kind}"):
                (folder / sub).mkdir(parents=True, exist_ok=True)
            for channel in range(channels):
                sitk.WriteImage(
                    sitk.GetImageFromArray(images[channel]),
                    str(folder / f"images{kind}" / f"case{case:02}_{channel:04}.nii.gz"),
                )
            sitk.WriteImage(
                sitk.GetImageFromArray(segmentation), str(folder / f"labels{kind}" / f"case{case:02}.nii.gz")
            )
        description = _dataset_json(channels, cases, labels, region_order)
        (folder / "dataset.json").write_text(json.dumps(description, indent=2))
        return folder

    return write


@pytest.fixture(scope="session")
def write_preprocessed_dataset(small_plans: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """``write_preprocessed_dataset(nnunet_preprocessed, "Dataset501_Toy")``: what planning and preprocessing leave.

    Written with nnU-Net's own writer, without its processes: preprocessed cases of every configuration, plans,
    dataset.json, fingerprint, splits (case 0 validates) and the reference segmentations. ``ignore=True`` marks a slab
    with label 3 (name it in ``labels``). Returns the data set's folder.
    """

    def write(
        preprocessed: Path,
        name: str,
        *,
        cases: int = 3,
        channels: int = 2,
        shape: Sequence[int] = (20, 24, 24),
        seed: int = 1,
        labels: Mapping[str, Any] = LABELS,
        region_order: Sequence[int] | None = None,
        ignore: bool = False,
        **plans_options: Any,
    ) -> Path:
        import numpy as np
        import SimpleITK as sitk
        from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2

        rng = np.random.default_rng(seed)
        plans = small_plans(name, image_channels=channels, **plans_options)
        folder = preprocessed / name
        (folder / "gt_segmentations").mkdir(parents=True)
        identifiers = [f"case{case:02}" for case in range(cases)]
        regions = [tuple(value) for value in labels.values() if isinstance(value, (tuple, list))]
        for identifier in identifiers:
            images, segmentation = _toy_case(rng, shape, channels)
            if ignore:
                segmentation[: shape[0] // 4] = 3
            sitk.WriteImage(
                sitk.GetImageFromArray(segmentation), str(folder / "gt_segmentations" / f"{identifier}.nii.gz")
            )
            annotated = (-1, *sorted({value for value in _flat(labels) if not (ignore and value == 3)}))
            foreground = regions or [value for value in labels.values() if value not in (0, 3)]
            wanted: list[Any] = [*foreground, annotated] if ignore else list(foreground)
            properties = {
                "spacing": [1.0, 1.0, 1.0],
                "shape_before_cropping": tuple(shape),
                "bbox_used_for_cropping": [[0, size] for size in shape],
                "shape_after_cropping_and_before_resampling": tuple(shape),
                "sitk_stuff": {
                    "spacing": (1.0,) * 3,
                    "origin": (0.0,) * 3,
                    "direction": (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0),
                },
                "class_locations": {key: np.argwhere(np.isin(segmentation[None], key))[::7] for key in wanted},
            }
            for configuration in plans["configurations"].values():
                if "data_identifier" not in configuration:
                    continue
                target = folder / configuration["data_identifier"]
                target.mkdir(exist_ok=True)
                nnUNetDatasetBlosc2.save_case(
                    images,
                    segmentation[None].astype(np.int16),
                    properties,
                    str(target / identifier),
                    chunks=(1, *shape),
                    blocks=(1, *shape),
                )
        splits = [{"train": identifiers[1:], "val": identifiers[:1]}]
        for file_name, content in {
            "dataset.json": _dataset_json(channels, cases, labels, region_order),
            f"{plans['plans_name']}.json": plans,
            "dataset_fingerprint.json": {},
            "splits_final.json": splits,
        }.items():
            (folder / file_name).write_text(json.dumps(content, indent=2))
        return folder

    return write


def _flat(labels: Mapping[str, Any]) -> list[int]:
    return [int(v) for value in labels.values() for v in (value if isinstance(value, (tuple, list)) else [value])]


@pytest.fixture(scope="session")
def pickle_round_trip() -> Callable[[Any], Any]:
    """Pickles and unpickles an object, as nnU-Net's worker pools do."""
    return lambda thing: pickle.loads(pickle.dumps(thing))


@pytest.fixture
def time_limit() -> Iterator[None]:
    """Ends a test that hangs, such as in opening a pipe that nobody writes to."""

    def too_long(*_: object) -> None:
        raise TimeoutError("hung")

    before = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
