"""The basic residual block (K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, doi
10.1109/CVPR.2016.90), from a plan's layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.recompute import (
    draws_random_numbers,
    makes_new_tensor,
    recomputed,
    repeatable,
)

#: names of the two norms and of the shortcut: of our networks, and those of timm and torchvision
OWN_NAMES = ("norm1", "norm2", "projection")
PUBLISHED_NAMES = ("bn1", "bn2", "downsample")


class BasicBlock(nn.Module):
    """(B, channels, *spatial) -> (B, out_channels, *spatial / stride): two convolutions, and the input added, through a
    projection where stride or width change.

    Args:
        layers: layer types.
        channels, out_channels: in and out.
        kernel, stride: of the first convolution, one an axis; the second has the kernel and no stride.
        names: of both norms and of the shortcut in the state dict.
        recompute: keep what the convolutions give in training, and repeat norm and activation between them in the
            backward pass.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        out_channels: int,
        kernel: Sequence[int],
        stride: Sequence[int],
        names: tuple[str, str, str] = OWN_NAMES,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.names = names
        self.conv1 = layers.conv_op(
            channels,
            out_channels,
            tuple(kernel),
            stride=tuple(stride),
            padding=tuple((edge - 1) // 2 for edge in kernel),
            bias=layers.conv_bias,
        )
        self.add_module(names[0], layers.norm(out_channels))
        self.activation1 = layers.activation()
        self.dropout = layers.dropout()
        self.conv2 = layers.conv(out_channels, out_channels, kernel)
        self.add_module(names[1], layers.norm(out_channels))
        self.activation2 = layers.activation()
        shortcut: nn.Module = nn.Identity()
        if channels != out_channels or set(stride) != {1}:
            shortcut = nn.Sequential(
                layers.conv_op(channels, out_channels, 1, stride=tuple(stride), bias=False), layers.norm(out_channels)
            )
        self.add_module(names[2], shortcut)
        self.recompute = recompute and makes_new_tensor(self.get_submodule(names[0])) and repeatable(self)
        self.random = draws_random_numbers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, norm2, shortcut = (getattr(self, name) for name in self.names)
        again = self.recompute and self.training
        y = recomputed(
            self._to_second_convolution, self.conv1(x), enabled=again, random=self.random, ends_with_convolution=True
        )
        return self.activation2(norm2(y) + shortcut(x))

    def _to_second_convolution(self, x: torch.Tensor) -> torch.Tensor:
        """From the first convolution's result to the second's."""
        norm1 = getattr(self, self.names[0])
        return self.conv2(self.dropout(self.activation1(norm1(x))))

    @property
    def last_norm(self) -> nn.Module:
        """The norm before the sum: zero weights there make the block its shortcut."""
        return self.get_submodule(self.names[1])
