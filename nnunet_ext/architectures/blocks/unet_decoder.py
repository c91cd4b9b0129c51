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

    ``upsample_last`` gives the order of CFFormer's authors instead: the bottleneck is convolved before it is
    up-sampled, the convolutions of a level keep the width of what enters them until the last one narrows it to what the
    next level wants, and the skip comes first in the concatenation.

    Args:
        layers: layer types.
        features: channels of every skip, finest first, and of the bottleneck. A skip of 0 channels is none.
        kernels: kernel sizes of every stage.
        strides: strides of every stage.
        convs: convolutions of every level, coarsest first.
        widths: channels that every level is up-sampled to, finest first; None: those of the skips.
        num_classes: output channels.
        deep_supervision: whether coarse outputs are wanted.
        upsample_last: see above.
        single_head: only the finest level has a head.
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
        upsample_last: bool = False,
        single_head: bool = False,
    ) -> None:
        levels = range(len(features) - 2, -1, -1)  # coarsest first
        wide = list(features[:-1] if widths is None else widths)
        out = [wide[max(0, level - 1) if upsample_last else level] for level in levels]
        super().__init__(layers.conv_op, out[-1:] if single_head else out, num_classes, deep_supervision)
        self.upsample_last = upsample_last
        below = [wide[-1] if upsample_last else features[-1], *out[:-1]]
        self.transpconvs = nn.ModuleList(
            layers.transposed_conv(channels, wide[level], strides[level + 1], strides[level + 1])
            for channels, level in zip(below, levels, strict=True)
        )
        joined = [wide[level] + features[level] for level in levels]
        blocks = list(zip(convs, joined, out, (kernels[level] for level in levels), strict=True))
        if upsample_last:
            blocks.insert(0, (convs[0], features[-1], wide[-1], kernels[-1]))
        self.stages = nn.ModuleList(
            layers.conv_blocks(count, channels, [channels if upsample_last else last] * (count - 1) + [last], kernel)
            for count, channels, last, kernel in blocks
        )

    def forward(self, skips: Sequence[torch.Tensor | None]) -> torch.Tensor | list[torch.Tensor]:
        """Skips finest first, the bottleneck last; None where a level has none."""
        *above, x = skips
        stages = list(self.stages)
        if self.upsample_last:
            x = stages.pop(0)(x)
        levels = []
        for up, stage, skip in zip(self.transpconvs, stages, reversed(above), strict=True):
            x = up(x)
            if skip is not None:
                x = torch.cat((skip, x) if self.upsample_last else (x, skip), dim=1)
            x = stage(x)
            levels.append(x)
        return self.segment(levels[-len(self.seg_layers) :])
