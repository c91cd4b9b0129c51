"""Dual attention of DANet: position and channel attention side by side, on fewer channels (J. Fu et al., CVPR 2019,
arXiv 1809.02983).

Differences from the reference (the code of the PAM networks, doi 10.1002/mp.15369; Puzzled-Hui/AttentionBased-MIS),
each undone by an argument:
    - position attention over the volume (``extent="column"``), queries an eighth of the inner width (``reduction=4``),
      keys without bias (``key_bias=True``), unlike channels weigh most (``like_channels=True``);
    - the convolutions are the plan's (``unit``).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention
from nnunet_ext.architectures.blocks.attention.position_attention import Extent, PositionAttention
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis


class DualAttention(nn.Module):
    """(B, C, *spatial) -> (B, out_channels, *spatial).

    Args:
        layers: of the convolutions.
        channels: C.
        out_channels: C unless given.
        kernel_size: of the convolutions around each attention and behind their sum.
        reduction: of position attention, from the inner width, which is a quarter of C.
        extent: of position attention.
        key_bias: of position attention.
        like_channels: of channel attention.
        dropout: share of inner channels that are dropped in training, behind the sum.
        unit: builds a convolution with norm and nonlinearity from channels in and out; the plan's unless given.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        out_channels: int | None = None,
        kernel_size: PerAxis = 3,
        reduction: int = 8,
        extent: Extent = "volume",
        key_bias: bool = False,
        like_channels: bool = False,
        dropout: float = 0.1,
        unit: Callable[[int, int], nn.Module] | None = None,
    ) -> None:
        super().__init__()

        def plan_unit(in_channels: int, out_channels: int) -> nn.Module:
            return layers.conv_blocks(1, in_channels, out_channels, kernel_size)

        make = unit or plan_unit
        inner = max(1, channels // 4)
        self.to_position, self.to_channel = make(channels, inner), make(channels, inner)
        self.position = PositionAttention(layers, inner, reduction, extent, key_bias)
        self.channel = ChannelSelfAttention(like_channels)
        self.from_position, self.from_channel = make(inner, inner), make(inner, inner)
        self.dropout = (nn.Dropout2d if layers.dimension == 2 else nn.Dropout3d)(dropout)
        self.out = make(inner, channels if out_channels is None else out_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        position = self.from_position(self.position(self.to_position(x)))
        channel = self.from_channel(self.channel(self.to_channel(x)))
        return self.out(self.dropout(position + channel))
