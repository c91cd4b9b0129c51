"""Trainers of the U-Nets and V-Nets with attention (docs/networks/attention.md). The family file lists them as data;
their classes are made from its rows when they are asked for.

"Progressive Attention Module for Segmentation of Volumetric Medical Images", Medical Physics, doi 10.1002/mp.15369;
recipe of the ``_paper`` trainers from its code (Puzzled-Hui/AttentionBased-MIS; none of it is used).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_ext.architectures.attention_vnet_reference import AttentionVNetReference
from nnunet_ext.architectures.attention_weights import published_depth
from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORKS, TRAINERS, load
from nnunet_ext.families.rows import Trainer
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.published import PublishedTrainer
from nnunet_ext.trainers.recipe import Recipe

#: attentions that weigh slices
SLICE_ATTENTIONS = ("pam", "csa", "sca", "slice")
#: image channels -> width of the published V-Net, which adds each channel to as many maps, or one channel to all
VNET_WIDTHS = {1: 16, 4: 8, 8: 16}
#: edges of its patches, which four halvings must divide; an instance norm needs two voxels at the deepest level
VNET_DIVISOR = 16
#: slices of published slice attention, which three halvings leave one of
FEWEST_SLICES = 8
#: smallest edge for the published U-Net, whose three halvings leave one voxel of it; an instance norm needs two voxels
UNET_EDGE = 8


class AttentionTrainer(BaseTrainer):
    """Self-configuring, for any plans, trained as nnU-Net trains; base of the classes that rows describe."""

    def on_train_start(self) -> None:
        super().on_train_start()
        has_slices = self.recipe.network_options.get("attention") in SLICE_ATTENTIONS
        if self.local_rank == 0 and has_slices and len(self.configuration_manager.patch_size) == 2:
            self.print_to_log_file(
                "a 2d configuration has one slice, so that slice attention is the identity: what remains is channel "
                "attention"
            )


class PublishedAttentionTrainer(PublishedTrainer):
    """A network as in the paper's code, trained by its recipe; base of the classes that rows describe.

    Network, optimizer and schedule are the published ones, the loss but for the weight of the background
    (``attention_loss.py``); batch, patch, augmentation, folds and evaluation are nnU-Net's. The published schedule of
    80 epochs is stretched over the epochs trained. Weights of classes follow the Dice on validation patches of the
    fold, which favours these trainers a little where they are compared on that fold. Slice attention is made for the
    patch's depth, or for the one that the suffix ``_depth<N>`` names.
    """

    recipe = Recipe(
        optimizer="Adam",
        optimizer_options={},
        learning_rate=2e-3,
        weight_decay=0.0,
        gradient_clip=None,
        schedule="pam_paper",
        loss="pam_paper",
        deep_supervision=False,
    )
    published_recipe = replace(recipe, epochs=80)
    published_batch_size = 1
    #: class of the reference
    published_name: ClassVar[str]

    @classmethod
    def published_network(
        cls, configuration_manager: ConfigurationManager, num_input_channels: int, num_output_channels: int
    ) -> nn.Module:
        """
        Raises:
            UserError: the configuration is not 3D, or too small; for a V-Net, a patch that 16 does not divide, or a
                number of channels that it cannot add to its first maps.
        """
        patch_size = [int(edge) for edge in configuration_manager.patch_size]
        width, needs = 16, f"edges of {UNET_EDGE} voxels or more, one of {2 * UNET_EDGE}"
        fits = len(patch_size) == 3 and min(patch_size) >= UNET_EDGE and max(patch_size) >= 2 * UNET_EDGE
        if cls.network_class.__name__ == "AttentionVNet":
            width = VNET_WIDTHS.get(num_input_channels, 0)
            needs = (
                f"edges that {VNET_DIVISOR} divides, one of {2 * VNET_DIVISOR}, and {_or(VNET_WIDTHS)} image channels"
            )
            divided = len(patch_size) == 3 and all(edge % VNET_DIVISOR == 0 for edge in patch_size)
            fits = divided and width > 0 and max(patch_size) >= 2 * VNET_DIVISOR
        if not fits:
            raise UserError(
                f"the published {cls.published_name} needs a 3d configuration, {needs}; here: patch size "
                f"{patch_size}, {num_input_channels} input channels",
                remedy=f"use {cls.alternative}, which configures itself for any of these",
            )
        depth = cls.recipe.network_options.get("depth", patch_size[0])
        if depth < FEWEST_SLICES:
            raise UserError(
                f"slice attention of the published {cls.published_name} needs {FEWEST_SLICES} slices or more, so that "
                f"its last level has one; here: {depth}",
                remedy=f"give _depth{FEWEST_SLICES} or more, or leave it out",
            )
        return cls._reference(num_input_channels, num_output_channels, width, depth)

    @classmethod
    def network_for_weights(
        cls,
        weights: Mapping[str, torch.Tensor],
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
    ) -> nn.Module:
        """With slice attention for the depth that these weights are for."""
        width = VNET_WIDTHS[num_input_channels] if cls.network_class.__name__ == "AttentionVNet" else 16
        depth = published_depth(weights) or int(configuration_manager.patch_size[0])
        return cls._reference(num_input_channels, num_output_channels, width, depth)

    @classmethod
    def _reference(cls, in_channels: int, num_classes: int, width: int, depth: int) -> nn.Module:
        network: Any = cls.network_class
        gate = {"attention_gate": True} if cls.recipe.network_options.get("gate") else {}
        return network.reference(
            cls.published_name, in_channels=in_channels, num_classes=num_classes, width=width, depth=depth, **gate
        )

    def differences(self) -> list[str]:
        found = super().differences()
        network = self.bare_network()
        if isinstance(network, AttentionVNetReference) and self.num_input_channels == 4:
            found.append("width 8 instead of 16, which cannot take four channels")
        found.append("patches instead of whole volumes, and nnU-Net's normalisation")
        if self.recipe.loss == self.published_recipe.loss:
            found.append("weight 1 of the background instead of 0, class weights from validation patches")
        if self.recipe.augmentation:
            found.append("nnU-Net's augmentation instead of flips and rotations by up to 10 degrees")
        if self.device.type == "cuda" and not self.recipe.bf16:
            found.append("autocast to float16 instead of float32")
        return found

    def encoders(self) -> dict[str, nn.Module]:
        """None starts from published weights."""
        return {}


def _or(numbers: Any) -> str:
    *first, last = map(str, numbers)
    return f"{', '.join(first)} or {last}"


def _made(row: Trainer) -> type[BaseTrainer]:
    network = NETWORKS[row.network]
    body: dict[str, Any] = {
        "__module__": __name__,
        "__doc__": f"{row.summary[0].upper()}{row.summary[1:]}.",
        "network_class": load(network.class_path),
    }
    if not row.published:
        body |= {"network_identity": network.built_with, "recipe": Recipe(network_options=network.built_with)}
        return type(row.name, (AttentionTrainer,), body)
    (form, *_) = network.reference_forms
    return type(
        row.name,
        (PublishedAttentionTrainer,),
        {**body, "published_name": form, "alternative": row.name.removesuffix("_paper")},
    )


def __getattr__(name: str) -> Any:
    row = TRAINERS.get(name)
    if row is None or row.class_path != f"{__name__}:{name}":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    made = globals()[name] = _made(row)
    return made
