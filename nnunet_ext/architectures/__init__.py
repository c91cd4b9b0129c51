"""The table of networks. Imports no torch: a network is imported from its ``class_path`` when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Network:
    """One row.

    Args:
        name: name of the network, as in lists and documentation.
        class_path: module and class, ``"package.module:Class"``.
        trainers: trainers that train it; suffixes make more of them.
        options: keyword arguments of the constructor beyond those of nnU-Net's plans.
        minimum_image_channels: the fewest image channels it accepts, previous-stage segmentations not counted.
        reference_parameters: published form -> its parameters.
        default_parameters: parameters of the self-configuring form on nnU-Net's default plans for BraTS (3d_fullres: 6
            stages, 32 to 320 features, 4 image channels, 4 outputs).
        default_training_gb: GB (1e9 bytes) of GPU memory estimated for training that form with nnU-Net's default patch
            and batch there (128 x 128 x 128, 2); PlainConvUNet's figure is 7.6.
        title: article.
        doi: of the article.
        licence: of the reference implementation.
    """

    name: str
    class_path: str
    trainers: tuple[str, ...]
    options: tuple[str, ...]
    minimum_image_channels: int
    reference_parameters: Mapping[str, int]
    default_parameters: int
    default_training_gb: float
    title: str
    doi: str
    licence: str


NETWORKS: tuple[Network, ...] = (
    Network(
        name="CFNet",
        class_path="nnunet_ext.architectures.cfnet:CFNet",
        trainers=("nnUNetTrainerCFNet", "nnUNetTrainerCFNet_paper"),
        options=("stream_channels", "cascade_channels"),
        minimum_image_channels=2,
        reference_parameters={"reference": 51_446_349},
        default_parameters=26_332_550,
        default_training_gb=9.4,
        title="CFNet: Automatic multi-modal brain tumor segmentation through hierarchical coarse-to-fine fusion and "
        "feature communication",
        doi="10.1016/j.bspc.2024.106876",
        licence="none named; written anew, none of its code is used",
    ),
    Network(
        name="CFFormer",
        class_path="nnunet_ext.architectures.cfformer:CFFormer",
        trainers=("nnUNetTrainerCFFormer", "nnUNetTrainerCFFormer_paper"),
        options=(
            "preset",
            "xff_kernel",
            "full_resolution_skip",
            "window",
            "use_cnn",
            "use_transformer",
            "use_cfca",
            "use_xff",
            "drop_path",
        ),
        minimum_image_channels=1,
        reference_parameters={"reference": 147_213_433, "small": 101_096_347, "tiny": 79_715_083},
        default_parameters=69_366_194,
        default_training_gb=9.6,
        title="CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation "
        "of Heterogeneous Medical Images",
        doi="10.48550/arXiv.2501.03629",
        licence="official code not read; written anew from the description",
    ),
)
