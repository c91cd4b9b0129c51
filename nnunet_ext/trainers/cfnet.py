"""Trainers of CFNet (docs/trainers.md): self-configuring with nnU-Net's own recipe, and as published.

Y. Cheng, Y. Zheng, J. Wang, "CFNet: Automatic multi-modal brain tumor segmentation through hierarchical coarse-to-fine
fusion and feature communication", Biomedical Signal Processing and Control 2025, 106876, doi
10.1016/j.bspc.2024.106876; recipe from the authors' code (YaruC/CFNet, train.py).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.errors import UserError
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.published import PublishedTrainer
from nnunet_ext.trainers.recipe import Recipe

# (T1, T2) and (T1ce, FLAIR), the published pairs, in nnU-Net's channel order T1, T1ce, T2, FLAIR
BRATS_PAIRS = ((0, 2), (1, 3))
STRIDE = 16  # of the deepest map of the published network


class nnUNetTrainerCFNet(BaseTrainer):
    """Self-configuring CFNet for any plans, trained as nnU-Net trains: what differs from ``nnUNetTrainer`` is the
    network."""

    network_class = CFNet


class nnUNetTrainerCFNet_paper(PublishedTrainer):
    """CFNet as published, for 2D configurations with four image channels in nnU-Net's BraTS order T1, T1ce, T2, FLAIR.

    Network, loss and optimizer are the published ones; batch, patch, augmentation, folds and evaluation are
    nnU-Net's. The published schedule of 200 epochs is stretched over the epochs trained. Weights start at random;
    ``nnunet_ext pretrained`` makes a start from a ResNet-50.
    """

    network_class = CFNet
    recipe = Recipe(
        # authors' train.py: SGD, lr 0.01, momentum 0.9, weight decay 5e-4 on all parameters, no clipping
        optimizer_options={"momentum": 0.9},
        learning_rate=0.01,
        weight_decay=5e-4,
        gradient_clip=None,
        schedule="cfnet_paper",
        loss="cfnet_paper",
        deep_supervision=False,
    )

    alternative = "nnUNetTrainerCFNet"
    # the focal term as coded, slices of 240 x 240 without augmentation, 6,000 of them in batches of 12
    published_recipe = replace(recipe, loss="cfnet_paper_coded_focal", epochs=200, augmentation=False, mirroring=False)
    published_iterations = 500
    published_patch_size = (240, 240)
    published_batch_size = 12
    published_channels = 4

    @classmethod
    def published_network(
        cls, configuration_manager: ConfigurationManager, num_input_channels: int, num_output_channels: int
    ) -> nn.Module:
        """
        Raises:
            UserError: the configuration is not 2D, or has not four channels, or a patch size that 16 does not divide.
        """
        patch_size = list(configuration_manager.patch_size)
        if len(patch_size) != 2 or num_input_channels != 4 or any(size % STRIDE for size in patch_size):
            raise UserError(
                f"the published CFNet needs a 2d configuration, four image channels and sizes divisible by {STRIDE}; "
                f"here: patch size {patch_size}, {num_input_channels} input channels",
                remedy=f"use {cls.alternative}, which configures itself for any of these",
            )
        return CFNet.reference(num_classes=num_output_channels, stream_channels=BRATS_PAIRS)

    def differences(self) -> list[str]:
        found = super().differences()
        if self.device.type == "cuda" and not self.recipe.bf16:
            found.append("autocast to float16 instead of float32")
        return found

    def encoders(self) -> dict[str, nn.Module]:
        network: Any = self.bare_network()
        return {"encoders": nn.ModuleList([network.stem_norm, network.stages_one, network.stages_two])}
