"""Levels of basic residual blocks from a plan's layers (K. He et al., "Deep Residual Learning for Image Recognition",
CVPR 2016), with a projection wherever stride or width change."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan


class BasicBlock(nn.Module):
    """(B, channels, *spatial) -> (B, out_channels, *spatial / stride): two convolutions, and the input added."""

    def __init__(
        self, layers: LayerPlan, channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]
    ) -> None:
        super().__init__()
        self.conv1 = layers.conv_op(
            channels,
            out_channels,
            tuple(kernel),
            stride=tuple(stride),
            padding=tuple((edge - 1) // 2 for edge in kernel),
            bias=layers.conv_bias,
        )
        self.norm1 = layers.norm(out_channels)
        self.activation1 = layers.activation()
        self.dropout = layers.dropout()
        self.conv2 = layers.conv(out_channels, out_channels, kernel)
        self.norm2 = layers.norm(out_channels)
        self.activation2 = layers.activation()
        self.projection: nn.Module = nn.Identity()
        if channels != out_channels or set(stride) != {1}:
            self.projection = nn.Sequential(
                layers.conv_op(channels, out_channels, 1, stride=tuple(stride), bias=False), layers.norm(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.dropout(self.activation1(self.norm1(self.conv1(x))))
        return self.activation2(self.norm2(self.conv2(y)) + self.projection(x))


def residual_level(
    layers: LayerPlan, blocks: int, channels: int, out_channels: int, kernel: Sequence[int], stride: Sequence[int]
) -> nn.Sequential:
    """``blocks`` basic blocks, the stride in the first."""
    first = BasicBlock(layers, channels, out_channels, kernel, stride)
    rest = (BasicBlock(layers, out_channels, out_channels, kernel, [1] * len(stride)) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
