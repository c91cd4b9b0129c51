"""Folders of tiny models that were never trained, and cases in awkward geometry."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

DATASET = "Dataset501_Toy"
LABELS = {"background": 0, "outer": 1, "inner": 2}
ATTENTION_UNET = "nnunet_ext.architectures.attention_unet.AttentionUNet"


@pytest.fixture(autouse=True)
def _one_thread(single_thread: None) -> None:
    """Everything below runs on one thread."""


@pytest.fixture(scope="session")
def write_model(small_plans: Callable[..., dict[str, Any]]) -> Callable[..., Path]:
    """``write_model(parent, "nnUNetTrainerCFNet", "2d", ...)``: the folder of a model, random weights in fold 0."""

    def write(
        parent: Path,
        trainer: str,
        configuration: str,
        *,
        channels: int = 2,
        options: dict[str, Any] | None = None,
        changes: dict[str, Any] | None = None,
        transpose: Sequence[int] = (0, 1, 2),
        folds: Sequence[int | str] = (0,),
        **plan_options: Any,
    ) -> Path:
        import torch
        from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
        from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
        from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

        from nnunet_ext.trainers.registry import resolve

        plans = small_plans(DATASET, image_channels=channels, **plan_options)
        plans["transpose_forward"] = list(transpose)
        plans["transpose_backward"] = [list(transpose).index(axis) for axis in range(3)]
        plans["configurations"][configuration] |= changes or {}
        if options:
            plans["configurations"][configuration]["architecture"]["arch_kwargs"] |= options
        dataset = {
            "channel_names": {str(channel): f"contrast{channel}" for channel in range(channels)},
            "labels": LABELS,
            "numTraining": 3,
            "file_ending": ".nii.gz",
        }
        torch.manual_seed(0)
        manager = PlansManager(plans)
        trainer_class: Any = resolve(trainer) or nnUNetTrainer
        network = trainer_class.build_network_architecture(
            manager,
            manager.get_configuration(configuration),
            determine_num_input_channels(manager, configuration, dataset),
            3,
            enable_deep_supervision=False,
        )
        folder = parent / f"{trainer}__{plans['plans_name']}__{configuration}"
        for fold in folds:
            (folder / f"fold_{fold}").mkdir(parents=True)
            content = {
                "network_weights": network.state_dict(),
                "trainer_name": trainer,
                "init_args": {"configuration": configuration},
                "inference_allowed_mirroring_axes": None,
            }
            torch.save(content, folder / f"fold_{fold}" / "checkpoint_final.pth")
        (folder / "plans.json").write_text(json.dumps(plans))
        (folder / "dataset.json").write_text(json.dumps(dataset))
        return folder

    return write


@pytest.fixture(scope="session")
def write_case() -> Callable[..., Path]:
    """``write_case(folder, "case7", shape=(9, 24, 20), ...)``: images of a case; returns its path without channel and
    ending. Zeros surround the image by ``zeros`` voxels, so that nnU-Net crops it."""

    def write(
        folder: Path,
        name: str = "case7",
        *,
        shape: Sequence[int] = (9, 24, 20),
        spacing: Sequence[float] = (1.0, 1.0, 1.0),
        direction: Sequence[float] = (1, 0, 0, 0, 1, 0, 0, 0, 1),
        channels: int = 2,
        zeros: int = 0,
        seed: int = 3,
    ) -> Path:
        import SimpleITK as sitk

        folder.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng(seed)
        for channel in range(channels):
            array = np.zeros(shape, np.float32)
            within = tuple(slice(zeros, size - zeros) for size in shape)
            array[within] = rng.normal(3, 1, array[within].shape)
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(tuple(map(float, spacing[::-1])))
            image.SetOrigin((-11.0, 7.5, 3.0)[: len(shape)])
            image.SetDirection(tuple(map(float, direction)))
            sitk.WriteImage(image, str(folder / f"{name}_{channel:04d}.nii.gz"))
        return folder / name

    return write
