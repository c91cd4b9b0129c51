"""nnU-Net's decoder without its encoder: up-sampling, the skip beside it, convolutions, a head at every level."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.deep_supervision import DeepSupervisionDecoder
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis


class UNetDecoder(DeepSupervisionDecoder):
    """As ``dynamic_network_architectures.building_blocks.unet_decoder.UNetDecoder``, whose names it keeps; that one
    holds the encoder too, so that every key of an encoder would stand twice in the state dict.

    Args:
        layers: layer types.
        features: channels of every skip, finest first, and of the bottleneck. A skip of 0 channels is none.
        kernels: kernel sizes of every stage.
        strides: strides of every stage.
        convs: convolutions of every level, coarsest first.
        widths: channels of every level, finest first; None: those of the skips.
        num_classes: output channels.
        deep_supervision: whether coarse outputs are wanted.
    """

    def __init__(
        self,
        layers: LayerPlan,
        features: Sequence[int],
        kernels: Sequence[PerAxis],
        strides: Sequence[PerAxis],
        convs: Sequence[int],
        num_classes: int,
        deep_supervision: bool,
        widths: Sequence[int] | None = None,
    ) -> None:
        levels = range(len(features) - 2, -1, -1)  # coarsest first
        wide = list(features[:-1] if widths is None else widths)
        super().__init__(layers.conv_op, [wide[level] for level in levels], num_classes, deep_supervision)
        below = [features[-1], *(wide[level] for level in levels)]
        self.transpconvs = nn.ModuleList(
            layers.transposed_conv(channels, wide[level], strides[level + 1], strides[level + 1])
            for channels, level in zip(below[:-1], levels, strict=True)
        )
        self.stages = nn.ModuleList(
            layers.conv_blocks(count, wide[level] + features[level], wide[level], kernels[level])
            for count, level in zip(convs, levels, strict=True)
        )

    def forward(self, skips: Sequence[torch.Tensor | None]) -> torch.Tensor | list[torch.Tensor]:
        """Skips finest first, the bottleneck last; None where a level has none."""
        *above, x = skips
        levels = []
        for up, stage, skip in zip(self.transpconvs, self.stages, reversed(above), strict=True):
            x = up(x)
            x = stage(x if skip is None else torch.cat((x, skip), dim=1))
            levels.append(x)
        return self.segment(levels)
