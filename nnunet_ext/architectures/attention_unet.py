"""U-Net with attention, self-configuring: nnU-Net's network with an attention block behind every stage.

Idea: "Progressive Attention Module for Segmentation of Volumetric Medical Images", Medical Physics, doi
10.1002/mp.15369, which compares attention mechanisms in one U-Net. Reference implementation: Puzzled-Hui/
AttentionBased-MIS on GitHub, which names no licence; none of its code is used. The published 3D networks are
``AttentionUNet.reference()`` (``attention_unet_reference.py``).

Differences from the reference:
    - stages, widths, strides, kernels, norm and nonlinearity are the plan's, in 2D and 3D, residual plans too: strided
      convolutions instead of pooling, transposed convolutions instead of interpolation;
    - attention follows the nonlinearity. Behind a norm, where the reference has it, the mean that channel attention
      reads is the bias of that norm, whatever the image;
    - project & excite stands in the decoder, too;
    - the gate's coarser map is the one below the skip; its stride is the plan's;
    - what each block does otherwise is told in its file (``blocks/attention/``);
    - attention in the place of convolutions leaves no residual blocks: in plans that count these, a stage has as many
      convolutions, two at least;
    - deep supervision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_ext.architectures.attention_unet_reference import GATED, AttentionUNetReference
from nnunet_ext.architectures.blocks.attended_decoder import AttendedDecoder
from nnunet_ext.architectures.blocks.attended_stage import attended_stage
from nnunet_ext.architectures.blocks.attention import Placement, attention_block
from nnunet_ext.architectures.blocks.attention.descriptors import Pooling
from nnunet_ext.architectures.blocks.attention.plan import AttentionPlan
from nnunet_ext.architectures.blocks.attention.spatial_transformer import SpatialTransformer, inverted, transformed
from nnunet_ext.architectures.blocks.basic_block import BasicBlock
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layers import per_stage
from nnunet_ext.architectures.blocks.residual_level import residual_level
from nnunet_ext.architectures.blocks.topology import PlanKeywords, Topology, takes_plan

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_plan
class AttentionUNet(nn.Module):
    """Input: (B, input_channels, *spatial), each size a multiple of the product of its strides. Output: logits
    (B, num_classes, *spatial), or with ``decoder.deep_supervision`` a list of n_stages - 1, finest first.

    Takes the keyword arguments of a plans file of nnU-Net, for ``PlainConvUNet`` (``n_conv_per_stage``) or
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``).

    Args:
        attention: a name of the table of attention blocks (``blocks/attention/__init__.py``), or ``"none"``.
        gate: every skip passes an attention gate.
        patch_size: of the plan, for slice attention, whose weights belong to a number of slices: the first edge of the
            patch, and what the strides leave of it. Unless given it is 64; maps of another depth are interpolated. In
            2D there is one slice: slice attention is the identity, and has no weights.
        channel_reduction, slice_reduction: channels, slices over the hidden widths of the blocks; theirs unless given.
        channel_pooling, slice_pooling: what the channel and the slice weights read: ``"avg"``, ``"max"``,
            ``"avg_and_max"``.
        detach_descriptor, pooling_reference_quirks: as published (``blocks/attention/pam.py``).
        recompute: repeat norm, nonlinearity and attention of a stage, and gates, in the backward pass, instead of
            keeping what they computed (``blocks/recompute.py``).

    Raises:
        ValueError: no such attention, or an option that it does not have; fewer than two stages, a first stride that is
            not 1, lists of the wrong length, neither or both of ``n_conv_per_stage`` and ``n_blocks_per_stage``; in
            ``forward``, an input of other channels or of a size that the strides do not divide.
    """

    def __init__(
        self,
        *,
        attention: str = "pam",
        gate: bool = False,
        patch_size: Sequence[int] | None = None,
        channel_reduction: int | None = None,
        slice_reduction: int | None = None,
        channel_pooling: Pooling | None = None,
        slice_pooling: Pooling | None = None,
        detach_descriptor: bool = False,
        pooling_reference_quirks: bool = False,
        recompute: bool = True,
        **plan: Unpack[PlanKeywords],
    ) -> None:
        super().__init__()
        topology = Topology.from_plan("AttentionUNet", plan)
        options = {
            "channel_reduction": channel_reduction,
            "slice_reduction": slice_reduction,
            "channel_pooling": channel_pooling,
            "slice_pooling": slice_pooling,
            "detach_descriptor": detach_descriptor,
            "pooling_reference_quirks": pooling_reference_quirks,
        }
        attentions = AttentionPlan.of(topology, attention, gate, patch_size, options)
        self.input_channels = topology.input_channels
        self.divisors = topology.divisors
        self.transformer: SpatialTransformer | None = None
        if attentions.placement is Placement.INPUT:
            place = {"channels": topology.input_channels, "dimension": topology.dimension}
            transformer = attention_block(attentions.name, place, **attentions.options)
            assert isinstance(transformer, SpatialTransformer)
            self.transformer = transformer
        self.encoder = _encoder(attentions, recompute)
        self.decoder = AttendedDecoder(attentions, recompute)
        self.apply(InitWeights_He(1e-2))
        for block in self.modules():
            if isinstance(block, BasicBlock) and isinstance(block.last_norm.weight, nn.Parameter):
                nn.init.zeros_(block.last_norm.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input(x, self.input_channels, self.divisors)
        if self.transformer is None:
            return self.decoder(self._maps(x))
        transform = self.transformer.transform(x)
        found = self.decoder(self._maps(transformed(x, transform)))
        back = inverted(transform)
        # Zeros beyond the border would be logits that no image changes and that learn nothing.
        if isinstance(found, list):
            return [transformed(y, back, "border") for y in found]
        return transformed(found, back, "border")

    def _maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for stage in self.encoder:
            x = stage(x)
            maps.append(x)
        return maps

    @classmethod
    def plan_options(cls, *, patch_size: Sequence[int], **_: Any) -> dict[str, Any]:
        """What plans for a dataset say beyond nnU-Net's keywords: the patch, whose slices have weights."""
        return {"patch_size": [int(edge) for edge in patch_size]}

    @classmethod
    def reference(cls, network: str = GATED, **options: Any) -> AttentionUNetReference:
        """A published network, a class of its own: 3D, four levels.

        Args:
            network: class of the reference, for instance ``"agscSEUNet3D"``, the U-Net with the progressive module.
            options: of ``AttentionUNetReference``.
        """
        return AttentionUNetReference(network, **options)


def _encoder(plan: AttentionPlan, recompute: bool) -> nn.ModuleList:
    """Attended stages, finest first; of residual blocks where the plan counts these."""
    topology = plan.topology
    convs, blocks = topology.encoder_convs, topology.encoder_blocks
    if (convs is None) == (blocks is None):
        raise ValueError("give either n_conv_per_stage or n_blocks_per_stage, as nnU-Net's plans do, and not both")
    below = (topology.input_channels, *topology.features[:-1])
    instead_of_convolutions = plan.placement in (Placement.CONVOLUTIONS, Placement.SECOND_CONVOLUTION)
    if blocks is None or instead_of_convolutions:
        name, given = ("n_conv_per_stage", convs) if blocks is None else ("n_blocks_per_stage", blocks)
        counts = [
            max(2, count) if instead_of_convolutions else count for count in per_stage(name, given, topology.n_stages)
        ]
        return nn.ModuleList(
            attended_stage(plan, stage, count, below[stage], topology.strides[stage], recompute)
            for stage, count in enumerate(counts)
        )
    stages = nn.ModuleList()
    for stage, count in enumerate(per_stage("n_blocks_per_stage", blocks, topology.n_stages)):
        level = residual_level(
            topology.layers,
            count,
            below[stage],
            topology.features[stage],
            topology.kernels[stage],
            topology.strides[stage],
            recompute,
        )
        attention = plan.behind(stage)
        stages.append(level if attention is None else nn.Sequential(level, attention))
    return stages
