"""Trainers of CFFormer (docs/trainers.md): self-configuring, and as published.

"CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation of Heterogeneous
Medical Images", arXiv 2501.03629, Expert Systems with Applications. The network is very likely the authors'
(``architectures/cfformer_reference.py``); their code holds no recipe, so it is as an article about the paper reports
it, which nothing confirms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.compose import ComposeTransforms
from batchgeneratorsv2.transforms.utils.random import RandomTransform
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_reference import DIVISORS, PUBLISHED_CHANNELS, SIZES
from nnunet_ext.errors import UserError
from nnunet_ext.families.cfformer import PARTS
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.published import PublishedTrainer
from nnunet_ext.trainers.random_crop import RandomCropTransform
from nnunet_ext.trainers.recipe import Recipe

#: the parameters of Swin V2 that its authors exempt from weight decay
UNDECAYED = ("logit_scale", "cpb_mlp")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
RGB_TO_0_1 = "RGBTo01Normalization"
# a crop of half the area, as the length of its sides
MIN_SCALE = 0.5**0.5
ROTATION, P_ROTATION = np.deg2rad(15), 0.6
_RECIPE = Recipe(
    optimizer="AdamW",
    optimizer_options={},
    learning_rate=3e-4,
    weight_decay=3e-5,
    schedule="warmup_poly",
    undecayed=UNDECAYED,
)


class nnUNetTrainerCFFormer(BaseTrainer):
    """Self-configuring CFFormer for any plans of three stages or more, with nnU-Net's data and loss, and AdamW with
    learning rate, decay and schedule as an article about the paper reports them."""

    network_class = CFFormer
    recipe = _RECIPE


class nnUNetTrainerCFFormer_paper(PublishedTrainer):
    """CFFormer as in a copy that is very likely its authors' code, for 2D configurations, with the recipe as an article
    reports it: patches of 224 x 224, batches of 16, 130 epochs, 0.5 cross-entropy + 0.5 Dice, flips, rotations and
    crops alone. Drop path is that of the size.

    nnU-Net cuts patches and never resizes: convert with ``--resize 224x224`` for whole images. Pictures
    whose channels nnU-Net scales to 0..1 (``--rgb-norm 0_1``) are normalised like ImageNet inside the network; others
    stay as nnU-Net normalises them.
    """

    network_class = CFFormer
    recipe = replace(_RECIPE, epochs=130, loss="cfformer_paper", gradient_clip=1.0, deep_supervision=False)

    published_recipe = replace(recipe, network_options={"preset": "tiny"} | dict.fromkeys(PARTS, True))
    published_channels = PUBLISHED_CHANNELS
    fixed_patch_size = (224, 224)
    fixed_batch_size = 16
    alternative = "nnUNetTrainerCFFormer"

    @classmethod
    def published_network(
        cls, configuration_manager: ConfigurationManager, num_input_channels: int, num_output_channels: int
    ) -> nn.Module:
        """
        Raises:
            UserError: the published network has no such size or option, or 32 does not divide the patch.
        """
        options = dict(cls.recipe.network_options)
        size = options.pop("preset", "tiny")
        if size not in SIZES:
            raise UserError(f"the published CFFormer has no size {size}", remedy="use _tiny, _small or _base")
        if not set(options) <= set(PARTS):
            raise UserError(
                f"{cls.__name__} asks for what the published CFFormer is already", remedy="leave out that suffix"
            )
        _require_divisible(configuration_manager.patch_size)
        if _scaled_like_pictures(configuration_manager):
            options |= {"image_mean": IMAGENET_MEAN, "image_std": IMAGENET_STD}
        return CFFormer.reference(num_input_channels, num_output_channels, size, **options)

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> Any:
        """Of nnU-Net's transforms the spatial one with the article's numbers, mirroring, what prepares the target."""
        transforms = super().get_training_transforms(*args, **kwargs).transforms
        return ComposeTransforms(
            [
                _crop(transform) if isinstance(transform, SpatialTransform) else transform
                for transform in transforms
                if not isinstance(transform, RandomTransform)
            ]
        )

    def differences(self) -> list[str]:
        found = super().differences()
        size = [int(edge) for edge in self.configuration_manager.median_image_size_in_voxels]
        if size != list(self.fixed_patch_size):
            whole = " x ".join(map(str, self.fixed_patch_size))
            found.append(f"patches of images of {size[0]} x {size[1]} instead of whole images resized to {whole}")
        if not _scaled_like_pictures(self.configuration_manager):
            found.append("nnU-Net's normalisation instead of ImageNet's")
        return found

    def encoders(self) -> dict[str, nn.Module]:
        network: Any = self.bare_network()
        parts = {"CNN": network.cnn, "transformer": network.transformer}
        return {name: part for name, part in parts.items() if part is not None}


def _crop(transform: SpatialTransform) -> RandomCropTransform:
    """nnU-Net's spatial transform with the article's numbers."""
    return RandomCropTransform(
        transform.patch_size,
        patch_center_dist_from_border=0,
        random_crop=False,
        p_rotation=P_ROTATION,
        rotation=(-ROTATION, ROTATION),
        p_scaling=1.0,
        scaling=(MIN_SCALE, 1.0),
        p_synchronize_scaling_across_axes=1.0,
        border_mode_seg="constant",
        padding_value_seg=-1,
    )


def _require_divisible(patch_size: Sequence[int]) -> None:
    if any(edge % divisor for edge, divisor in zip(patch_size, DIVISORS, strict=True)):
        fitting = [max(1, round(edge / divisor)) * divisor for edge, divisor in zip(patch_size, DIVISORS, strict=True)]
        raise UserError(
            f"the published CFFormer needs patches whose sides are multiples of {DIVISORS[0]}; these plans have "
            f"{' x '.join(map(str, patch_size))}",
            remedy=f"use {' x '.join(map(str, fitting))}, or nnUNetTrainerCFFormer, which configures itself",
        )


def _scaled_like_pictures(configuration_manager: ConfigurationManager) -> bool:
    return list(configuration_manager.normalization_schemes) == [RGB_TO_0_1] * len(IMAGENET_MEAN)
