"""Networks of nnU-Net and of the table on small topologies, and on nnU-Net's own for BraTS and for slices of 512."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_ext.families import NETWORKS

# name -> patch, kernels, strides after the first, features
TOPOLOGIES: dict[str, tuple[tuple[int, ...], list[list[int]], list[list[int]], list[int]]] = {
    "2d": ((48, 64), [[3, 3]] * 4, [[2, 2]] * 3, [8, 16, 32, 32]),
    "3d": ((16, 24, 16), [[3, 3, 3]] * 3, [[2, 2, 2]] * 2, [8, 16, 32]),
    "anisotropic": ((6, 24, 16), [[1, 3, 3], [1, 3, 3], [3, 3, 3]], [[1, 2, 2], [2, 2, 2]], [8, 16, 32]),
    # nnU-Net's default for BraTS, at an eighth of its patch
    "brats": ((64, 64, 64), [[3, 3, 3]] * 6, [[2, 2, 2]] * 5, [32, 64, 128, 256, 320, 320]),
    "pictures": ((160, 160), [[3, 3]] * 6, [[2, 2]] * 5, [32, 64, 128, 256, 512, 512]),
    "512": ((512, 512), [[3, 3]] * 8, [[2, 2]] * 7, [32, 64, 128, 256, 512, 512, 512, 512]),
}


def _class_of(name: str) -> type[nn.Module]:
    for row in NETWORKS.values():
        if row.name == name:
            module, attribute = row.class_path.split(":")
            return getattr(importlib.import_module(module), attribute)
    return {"PlainConvUNet": PlainConvUNet, "ResidualEncoderUNet": ResidualEncoderUNet}[name]


@pytest.fixture(scope="session")
def make_network(single_thread: None) -> Callable[..., tuple[nn.Module, tuple[int, ...]]]:
    """``make_network("CFNet", "3d", device="meta", channels=4, classes=3, patch=None, **changes)``: a network of
    nnU-Net or of the table with deep supervision, and the shape of one sample for it."""

    def make(
        name: str,
        topology: str,
        device: str = "meta",
        channels: int = 4,
        classes: int = 3,
        patch: tuple[int, ...] | None = None,
        **changes: Any,
    ) -> tuple[nn.Module, tuple[int, ...]]:
        planned, kernels, strides, features = TOPOLOGIES[topology]
        stages, dimension = len(kernels), len(planned)
        residual = name == "ResidualEncoderUNet"
        encoder = {"n_blocks_per_stage": [1, 3, 4, 6, 6, 6, 6, 6][:stages]}
        kwargs = {
            "input_channels": channels,
            "num_classes": classes,
            "n_stages": stages,
            "features_per_stage": features,
            "conv_op": (nn.Conv2d, nn.Conv3d)[dimension - 2],
            "kernel_sizes": kernels,
            "strides": [[1] * dimension, *strides],
            **(encoder if residual else {"n_conv_per_stage": [2] * stages}),
            "n_conv_per_stage_decoder": [1 if residual else 2] * (stages - 1),
            "conv_bias": True,
            "norm_op": (nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
            "norm_op_kwargs": {"eps": 1e-5, "affine": True},
            "nonlin": nn.LeakyReLU,
            "nonlin_kwargs": {"inplace": True},
            "deep_supervision": True,
            **changes,
        }
        with torch.device(device):
            return _class_of(name)(**kwargs), (1, channels, *(patch or planned))

    return make
