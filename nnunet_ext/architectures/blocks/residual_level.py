"""Levels of basic residual blocks from a plan's layers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from nnunet_ext.architectures.blocks.basic_block import BasicBlock
from nnunet_ext.architectures.blocks.layers import LayerPlan


def residual_level(
    layers: LayerPlan,
    blocks: int,
    channels: int,
    out_channels: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    recompute: bool = False,
) -> nn.Sequential:
    """``blocks`` basic blocks, the stride in the first; ``recompute`` as of these."""
    first = BasicBlock(layers, channels, out_channels, kernel, stride, recompute=recompute)
    no_stride = [1] * len(stride)
    rest = (
        BasicBlock(layers, out_channels, out_channels, kernel, no_stride, recompute=recompute)
        for _ in range(blocks - 1)
    )
    return nn.Sequential(first, *rest)
