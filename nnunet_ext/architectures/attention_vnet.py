"""V-Net with attention, self-configuring: residual stages from nnU-Net's plans, attention behind each.

Idea: "Progressive Attention Module for Segmentation of Volumetric Medical Images", Medical Physics, doi
10.1002/mp.15369, on a V-Net (F. Milletari et al., 3DV 2016, arXiv 1606.04797). Reference implementation: Puzzled-Hui/
AttentionBased-MIS on GitHub, which names no licence; none of its code is used. The published 3D networks are
``AttentionVNet.reference()`` (``attention_vnet_reference.py``).

Differences from the reference:
    - stages, widths, strides, kernels (5 everywhere in the reference), norm and nonlinearity are the plan's, in 2D and
      3D; a stage has one residual block over as many convolutions as the plan counts convolutions or residual blocks;
    - norm before nonlinearity, as in nnU-Net's blocks;
    - the identity of the first stage is a projection of the image, for any number of channels;
    - what each block does otherwise is told in its file (``blocks/attention/``);
    - deep supervision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_ext.architectures.attention_vnet_reference import AttentionVNetReference
from nnunet_ext.architectures.blocks.attention import Placement
from nnunet_ext.architectures.blocks.attention.descriptors import Pooling
from nnunet_ext.architectures.blocks.attention.plan import AttentionPlan
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layers import per_stage
from nnunet_ext.architectures.blocks.topology import PlanKeywords, Topology, takes_plan
from nnunet_ext.architectures.blocks.vnet import ResidualConvs, Unit, VNetDecoder

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: attention -> its reductions in the published V-Nets
REDUCTIONS = {
    "csa": {"channel_reduction": 4, "slice_reduction": 8},
    "sca": {"channel_reduction": 4, "slice_reduction": 8},
    "pam": {"channel_reduction": 4, "slice_reduction": 8},
    "slice": {"slice_reduction": 8},
}


@takes_plan
class AttentionVNet(nn.Module):
    """Input: (B, input_channels, *spatial), each size a multiple of the product of its strides. Output: logits
    (B, num_classes, *spatial), or with ``decoder.deep_supervision`` a list of n_stages - 1, finest first.

    Takes the keyword arguments of a plans file of nnU-Net, for ``PlainConvUNet`` (``n_conv_per_stage``) or
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``).

    Args:
        attention: a name of the table of attention blocks (``blocks/attention/__init__.py``) that stands behind stages,
            or ``"none"``. The deepest stage has no slice attention, as published: channel attention alone.
        gate, patch_size, channel_reduction, slice_reduction, channel_pooling, slice_pooling, detach_descriptor,
            pooling_reference_quirks: as of ``AttentionUNet``; the reductions are those of the published V-Nets unless
            given.
        recompute: repeat all but convolutions in the backward pass, instead of keeping what they computed
            (``blocks/recompute.py``).

    Raises:
        ValueError: as of ``AttentionUNet``, or attention that stands in the place of convolutions or before the image.
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
        topology = Topology.from_plan("AttentionVNet", plan)
        published = REDUCTIONS.get(attention, {})
        options = {
            "channel_reduction": channel_reduction or published.get("channel_reduction"),
            "slice_reduction": slice_reduction or published.get("slice_reduction"),
            "channel_pooling": channel_pooling,
            "slice_pooling": slice_pooling,
            "detach_descriptor": detach_descriptor,
            "pooling_reference_quirks": pooling_reference_quirks,
        }
        attentions = AttentionPlan.of(topology, attention, gate, patch_size, options)
        if attentions.placement not in (None, Placement.STAGE, Placement.DEEPEST):
            raise ValueError(
                f"the attention {attention!r} stands behind no stage, which a V-Net needs: use AttentionUNet"
            )
        self.input_channels = topology.input_channels
        self.divisors = topology.divisors
        layers, features, kernels, strides = topology.layers, topology.features, topology.kernels, topology.strides
        counts = _convolutions(topology)
        self.downs = nn.ModuleList(
            Unit(
                layers,
                layers.conv_op(above, here, stride, stride=stride, bias=layers.conv_bias),
                here,
            )
            for above, here, stride in zip(features[:-1], features[1:], strides[1:], strict=True)
        )
        self.stages = nn.ModuleList(
            ResidualConvs(
                layers,
                counts[stage],
                features[stage] if stage else topology.input_channels,
                features[stage],
                kernels[stage],
                project=stage == 0,
                attention=attentions.behind(stage),
                recompute=recompute,
            )
            for stage in range(topology.n_stages - 1)
        )
        self.bottleneck = layers.conv_blocks(counts[-1], features[-1], features[-1], kernels[-1])
        self.bottleneck_attention = _bottleneck_attention(attentions)
        self.decoder = VNetDecoder(attentions, recompute)
        self.apply(InitWeights_He(1e-2))

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input(x, self.input_channels, self.divisors)
        maps = []
        for stage, down in zip(self.stages, self.downs, strict=True):
            x = stage(x)
            maps.append(x)
            x = down(x)
        maps.append(self.bottleneck_attention(self.bottleneck(x)))
        return self.decoder(maps)

    @classmethod
    def plan_options(cls, *, patch_size: Sequence[int], **_: Any) -> dict[str, Any]:
        """What plans for a dataset say beyond nnU-Net's keywords: the patch, whose slices have weights."""
        return {"patch_size": [int(edge) for edge in patch_size]}

    @classmethod
    def reference(cls, network: str = "agscSEVNet", **options: Any) -> AttentionVNetReference:
        """A published network, a class of its own: 3D, four levels and a bottleneck.

        Args:
            network: class of the reference, for instance ``"agscSEVNet"``, the V-Net with the progressive module.
            options: of ``AttentionVNetReference``.
        """
        return AttentionVNetReference(network, **options)


def _convolutions(topology: Topology) -> list[int]:
    """Of every stage; a residual block of a plan counts as one."""
    convs, blocks = topology.encoder_convs, topology.encoder_blocks
    if (convs is None) == (blocks is None):
        raise ValueError("give either n_conv_per_stage or n_blocks_per_stage, as nnU-Net's plans do, and not both")
    name, counts = ("n_conv_per_stage", convs) if blocks is None else ("n_blocks_per_stage", blocks)
    return per_stage(name, counts, topology.n_stages)


def _bottleneck_attention(plan: AttentionPlan) -> nn.Module:
    """Channel attention alone where the stages have slice attention."""
    deepest = plan.topology.n_stages - 1
    if plan.name == "slice":
        return nn.Identity()
    if plan.name in ("csa", "sca", "pam"):
        chosen = (("reduction", "channel_reduction"), ("pooling", "channel_pooling"))
        options = {argument: plan.options[option] for argument, option in chosen if option in plan.options}
        return SqueezeExcite(plan.topology.features[deepest], **options)
    return plan.behind(deepest) or nn.Identity()
