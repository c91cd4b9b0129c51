"""CFNet, self-configuring: two half-width encoders for two groups of image channels, fused stage by stage.

Idea: Y. Cheng, Y. Zheng, J. Wang, "CFNet: Automatic multi-modal brain tumor segmentation through hierarchical
coarse-to-fine fusion and feature communication", Biomedical Signal Processing and Control 2025, 106876, doi
10.1016/j.bspc.2024.106876. Reference implementation: YaruC/CFNet on GitHub, which names no licence; none of its code is
used. The published 2D network is ``CFNet.reference()`` (``cfnet_reference.py``).

Differences from the reference:
    - encoders, widths, strides, kernels, norm and nonlinearity are the plan's, in 2D and 3D; each stream is half as
      wide, so that two of them store what one of nnU-Net's does;
    - the streams share nothing; the reference shares stem and first projection, against its own description;
    - any number of image channels from two on, dealt out in turn, instead of four;
    - fusion at every stage but the first, whose skip is both streams side by side; the decoder's full-resolution level,
      which the reference lacks, is nnU-Net's own;
    - context of normalised columns: the published sums over tokens grow with the patch and saturate
      (``blocks/channel_context.py``);
    - a gate that can close, a softmax across branches, an up-sampling exact for every stride (``blocks/``);
    - deep supervision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He, init_last_bn_before_add_to_0
from torch import nn

from nnunet_ext.architectures.blocks.bottleneck_up import BottleneckUp
from nnunet_ext.architectures.blocks.deep_supervision import DeepSupervisionDecoder
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.modality_fusion import ModalityFusion, heads_for
from nnunet_ext.architectures.blocks.multi_scale_context import MultiScaleContext
from nnunet_ext.architectures.blocks.plan_encoder import plan_encoder
from nnunet_ext.architectures.blocks.streams import checked_streams, deal_channels, streams_by_name, take_channels
from nnunet_ext.architectures.blocks.topology import PlanKeywords, Topology, takes_plan
from nnunet_ext.architectures.cfnet_reference import CFNetReference

if TYPE_CHECKING:
    from typing_extensions import Unpack

MIN_STAGES = 2
MIN_WIDTH = 8  # of a stream
COMMUNICATION_CONVS = 2  # convolutions of a decoder level that the communication block already holds


@takes_plan
class CFNet(nn.Module):
    """Input: (B, input_channels, *spatial), each size a multiple of the product of its strides. Output: logits
    (B, num_classes, *spatial), or with ``decoder.deep_supervision`` a list of n_stages - 1, finest first.

    Takes the keyword arguments of a plans file of nnU-Net, for ``PlainConvUNet`` (``n_conv_per_stage``) or
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``).

    Args:
        stream_channels: image channels of each stream, two lists that may overlap and together name all; unless given,
            channel i goes to stream i mod 2.
        cascade_channels: how many of the last input channels are segmentations of a previous stage; both streams get
            them.
        recompute: run the fusions again in the backward pass, and what lies between the convolutions of the
            communications, instead of keeping what they computed (``blocks/recompute.py``).

    Raises:
        ValueError: fewer than two image channels, fewer than two stages, a first stride that is not 1, lists of the
            wrong length, or neither or both of ``n_conv_per_stage`` and ``n_blocks_per_stage``; in ``forward``, an
            input of other channels or of a size that the strides do not divide.
    """

    def __init__(
        self,
        *,
        stream_channels: Sequence[Sequence[int]] | None = None,
        cascade_channels: int = 0,
        recompute: bool = True,
        **plan: Unpack[PlanKeywords],
    ) -> None:
        super().__init__()
        topology = Topology.from_plan("CFNet", plan, MIN_STAGES, ", one of them fused")
        layers, features = topology.layers, topology.features
        self.input_channels = topology.input_channels
        self.divisors = topology.divisors
        self.stream_channels = _dealt_with_cascade(topology.input_channels, cascade_channels, stream_channels)

        widths = [max(MIN_WIDTH, channels // 2) for channels in features]
        self.encoders = nn.ModuleList(
            plan_encoder(topology, len(channels), widths) for channels in self.stream_channels
        )
        self.fusions = nn.ModuleList(
            ModalityFusion(layers, width, channels, heads_for(width), recompute=recompute)
            for width, channels in zip(widths[1:], features[1:], strict=True)
        )
        self.context = MultiScaleContext(layers, features[-1], topology.kernels[-1])
        self.decoder = CFNetDecoder(
            layers,
            [2 * widths[0], *features[1:]],
            features[0],
            topology.kernels,
            topology.strides,
            topology.decoder_convs,
            topology.num_classes,
            topology.deep_supervision,
            recompute,
        )
        self.apply(_initialize)

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input(x, self.input_channels, self.divisors)
        one, two = (
            encoder(take_channels(x, channels))
            for encoder, channels in zip(self.encoders, self.stream_channels, strict=True)
        )
        skips = [torch.cat((one[0], two[0]), dim=1)]
        skips += [fuse(a, b) for fuse, a, b in zip(self.fusions, one[1:], two[1:], strict=True)]
        return self.decoder(skips[:-1], self.context(skips[-1]))

    @classmethod
    def plan_options(cls, *, channel_names: Sequence[str], **_: Any) -> dict[str, Any]:
        """What plans for a dataset say beyond nnU-Net's keywords: the published pairs of channels, where the names of
        the channels tell them."""
        pairs = streams_by_name(channel_names)
        return {} if pairs is None else {"stream_channels": [list(pair) for pair in pairs]}

    @classmethod
    def reference(
        cls, num_classes: int = 4, stream_channels: Sequence[Sequence[int]] = ((0, 1), (2, 3))
    ) -> CFNetReference:
        """The published network, a class of its own: 2D, four image channels, one output.

        Args:
            num_classes: output channels.
            stream_channels: pairs of image channels; published are T1, T2 and T1ce, FLAIR, given in this order.
        """
        return CFNetReference(num_classes, stream_channels)


def _initialize(module: nn.Module) -> None:
    """nnU-Net's start of convolutions and residual blocks; linear maps as published (normal 0.02, truncated)."""
    InitWeights_He(1e-2)(module)
    init_last_bn_before_add_to_0(module)
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


class CFNetDecoder(DeepSupervisionDecoder):
    """Coarse to fine: up-sampling plus gated communication with the fused skip; nnU-Net's own level at full resolution.

    Args:
        layers: layer types.
        channels: channels of every skip, finest first, and of the bottleneck.
        full_channels: channels of the level at full resolution.
        kernels: kernel sizes of every stage.
        strides: strides of every stage.
        convs: convolutions of every level, coarsest first.
        num_classes: output channels.
        deep_supervision: whether coarse outputs are wanted.
        recompute: see ``GatedCommunication``.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: Sequence[int],
        full_channels: int,
        kernels: Sequence[tuple[int, ...]],
        strides: Sequence[tuple[int, ...]],
        convs: Sequence[int],
        num_classes: int,
        deep_supervision: bool,
        recompute: bool = False,
    ) -> None:
        fused = range(len(channels) - 2, 0, -1)  # levels with a fused skip, coarsest first
        super().__init__(layers.conv_op, [*(channels[s] for s in fused), full_channels], num_classes, deep_supervision)
        self.ups = nn.ModuleList(BottleneckUp(layers, channels[s + 1], channels[s], strides[s + 1]) for s in fused)
        self.communications = nn.ModuleList(
            GatedCommunication(layers, channels[s], channels[s + 1], kernels[s], recompute=recompute) for s in fused
        )
        self.stages = nn.ModuleList(
            layers.conv_blocks(count - COMMUNICATION_CONVS, channels[s], channels[s], kernels[s])
            for s, count in zip(fused, convs[:-1], strict=True)
        )
        self.full_up = layers.transposed_conv(channels[1], full_channels, strides[1], strides[1])
        self.full_stage = layers.conv_blocks(convs[-1], full_channels + channels[0], full_channels, kernels[0])

    def forward(self, skips: Sequence[torch.Tensor], x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Skips finest first, and the bottleneck."""
        full_skip, *fused_skips = skips
        levels = []
        for up, communicate, stage, skip in zip(
            self.ups, self.communications, self.stages, reversed(fused_skips), strict=True
        ):
            x = stage(up(x) + communicate(skip, x))
            levels.append(x)
        levels.append(self.full_stage(torch.cat((self.full_up(x), full_skip), dim=1)))
        return self.segment(levels)


def _dealt_with_cascade(
    input_channels: int, cascade_channels: int, stream_channels: Sequence[Sequence[int]] | None
) -> tuple[tuple[int, ...], ...]:
    """Input channels of each stream: its image channels, then all of the previous stage's."""
    image_channels = input_channels - cascade_channels
    if image_channels < 2:
        raise ValueError(
            f"CFNet needs at least two image channels; got {image_channels}. With one there is nothing to fuse: use "
            "nnU-Net's own nnUNetTrainer"
        )
    if stream_channels is None:
        streams = deal_channels(image_channels)
    else:
        streams = checked_streams(stream_channels, image_channels)
    return tuple((*stream, *range(image_channels, input_channels)) for stream in streams)
