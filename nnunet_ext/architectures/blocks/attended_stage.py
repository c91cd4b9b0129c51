"""A stage of a U-Net with its attention, which in training keeps no more than the stage alone does."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn

from nnunet_ext.architectures.blocks.attention import Placement
from nnunet_ext.architectures.blocks.attention.descriptors import scaled
from nnunet_ext.architectures.blocks.attention.plan import AttentionPlan
from nnunet_ext.architectures.blocks.attention.residual_squeeze_excite import ResidualSqueezeExcite
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.recompute import (
    draws_random_numbers,
    makes_new_tensor,
    recomputed,
    repeatable,
)


def attended_stage(
    plan: AttentionPlan,
    stage: int,
    count: int,
    channels: int,
    stride: Sequence[int] | None = None,
    recompute: bool = True,
) -> nn.Module:
    """nnU-Net's convolutions of a stage, with the plan's attention behind or among them.

    Args:
        plan: of the network.
        stage: index, whose width, kernel and depth the stage has.
        count: convolutions; residual squeeze-and-excitation has two, whatever the count.
        channels: in.
        stride: of the first convolution; none unless given.
        recompute: repeat what is not a convolution in the backward pass where that keeps less.
    """
    layers, width = plan.topology.layers, plan.topology.features[stage]
    kernel = plan.topology.kernels[stage]
    stride = [1] * len(kernel) if stride is None else list(stride)
    if plan.placement is Placement.CONVOLUTIONS:
        return RecomputedResidualSqueezeExcite(
            layers, channels, width, kernel, stride, recompute=recompute, **plan.options
        )
    if plan.placement is Placement.SECOND_CONVOLUTION:
        convs = _convs(layers, max(1, count - 1), channels, width, kernel, stride)
        return SplitStage(convs, SplitAttention(layers, width, kernel, **plan.options), recompute)
    convs = _convs(layers, count, channels, width, kernel, stride)
    attention = plan.behind(stage)
    return convs if attention is None else AttendedConvs(convs, attention, recompute)


def _convs(
    layers: LayerPlan, count: int, channels: int, width: int, kernel: Sequence[int], stride: Sequence[int]
) -> StackedConvBlocks:
    return StackedConvBlocks(
        count,
        input_channels=channels,
        output_channels=width,
        kernel_size=kernel,
        initial_stride=stride,
        **layers.arguments(),
    )


def _repeatable_behind(last: nn.Module, attention: nn.Module) -> bool:
    """Whether what stands behind the convolution of nnU-Net's last block, and the attention, can be repeated."""
    return makes_new_tensor(getattr(last, "norm", None)) and repeatable(last) and repeatable(attention)


class AttendedConvs(nn.Module):
    """Convolutions, each with norm and nonlinearity, and attention behind the last nonlinearity.

    Args:
        convs: nnU-Net's blocks.
        attention: keeps the shape.
        recompute: keep what the last convolution gives in training, and repeat norm, nonlinearity and attention in the
            backward pass.
    """

    def __init__(self, convs: StackedConvBlocks, attention: nn.Module, recompute: bool = True) -> None:
        super().__init__()
        self.convs = convs
        self.attention = attention
        self.recompute = recompute and _repeatable_behind(convs.convs[-1], attention)
        self.random = draws_random_numbers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        *before, last = self.convs.convs
        for conv in before:
            x = conv(x)
        x = last.all_modules[0](x)
        attended: torch.Tensor = recomputed(
            self._behind_convolution, x, enabled=self.recompute and self.training, random=self.random
        )
        return attended

    def _behind_convolution(self, x: torch.Tensor) -> torch.Tensor:
        for layer in list(self.convs.convs[-1].all_modules)[1:]:
            x = layer(x)
        attended: torch.Tensor = self.attention(x)
        return attended


class SplitStage(nn.Module):
    """Convolutions, each with norm and nonlinearity, and split attention in the place of the last one.

    Args:
        convs: nnU-Net's blocks.
        attention: with a convolution of its own.
        recompute: keep what the last convolutions give in training, and repeat what lies between and behind them in the
            backward pass.
    """

    def __init__(self, convs: StackedConvBlocks, attention: SplitAttention, recompute: bool = True) -> None:
        super().__init__()
        self.convs = convs
        self.attention = attention
        self.recompute = recompute and _repeatable_behind(convs.convs[-1], attention)
        self.random = draws_random_numbers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run = partial(recomputed, enabled=self.recompute and self.training, random=self.random)
        *before, last = self.convs.convs
        for conv in before:
            x = conv(x)
        x = run(self._to_split_convolution, last.all_modules[0](x), ends_with_convolution=True)
        attended: torch.Tensor = run(self._behind_convolutions, x)
        return attended

    def _to_split_convolution(self, x: torch.Tensor) -> torch.Tensor:
        for layer in list(self.convs.convs[-1].all_modules)[1:]:
            x = layer(x)
        y: torch.Tensor = self.attention.conv(x)
        return y

    def _behind_convolutions(self, x: torch.Tensor) -> torch.Tensor:
        split = self.attention
        candidates = split.activation(split.norm(x)).unflatten(1, (split.radix, -1))
        weights = split.weights(candidates).to(candidates.dtype)
        return (candidates * weights.reshape(*weights.shape, *(1,) * (x.ndim - 2))).sum(1)


class RecomputedResidualSqueezeExcite(ResidualSqueezeExcite):
    """``ResidualSqueezeExcite`` whose channel weights g read the map h behind a nonlinearity: behind an instance norm
    alone, its mean is the bias of that norm, whatever the image. It keeps what its convolutions give, and repeats the
    rest in the backward pass.

        h = norm(conv(act(norm(conv(x)))));  out = act(h * g(act(h)) + skip(x))
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        out_channels: int,
        kernel_size: Sequence[int],
        stride: Sequence[int],
        recompute: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(layers, channels, out_channels, kernel_size, stride, **options)
        self.read_activation = layers.activation()
        self.recompute = recompute and makes_new_tensor(self.norm1) and repeatable(self)
        self.random = draws_random_numbers(self)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        run = partial(recomputed, enabled=self.recompute and self.training, random=self.random)
        y = run(self._to_second_convolution, self.conv1(x), ends_with_convolution=True)
        skip = self.skip[0](x) if isinstance(self.skip, nn.Sequential) else x
        attended: torch.Tensor = run(self._behind_convolutions, y, skip)
        return attended

    def _to_second_convolution(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv2(self.activation1(self.norm1(x)))
        return y

    def _behind_convolutions(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        if isinstance(self.skip, nn.Sequential):
            skip = self.skip[1](skip)
        attended: torch.Tensor = self.activation2(self._attended(self.norm2(x)) + skip)
        return attended

    def _attended(self, h: torch.Tensor) -> torch.Tensor:
        # A copy, since the nonlinearity may act in place.
        weights = self.attention.gates_of(self.read_activation(h.clone())).channels
        assert weights is not None
        return scaled(h, weights)
