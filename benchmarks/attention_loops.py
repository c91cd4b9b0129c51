"""Slice attention, csA, scA and PAM written plainly, for one sample after the other, from the same formulas.

Two forms of each. ``looped`` goes over channels and over slices: each slice is pooled, and multiplied, on its own.
``written_back`` goes over channels and writes each into a copy of the map, as the authors' code does with the map
itself; the key slices of PAM are gathered in a loop over channels and slices. Both give the results of the vectorised
blocks; pooling by the average, one perceptron for each channel.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.channel_then_slice import ChannelThenSlice
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP
from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.slice_then_channel import SliceThenChannel
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite

#: multiplies a map (C, D, H, W) by slice weights: returns it, and the weights (C, D)
Slices = Callable[[SliceAttention, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def perceptron(mlp: GateMLP | None, descriptor: torch.Tensor, channel: int | None = None) -> torch.Tensor:
    """Weights of one descriptor."""
    assert mlp is not None
    w1, b1, w2, b2 = mlp.parameters() if channel is None else (p[channel] for p in mlp.parameters())
    return (w2 @ torch.relu(w1 @ descriptor + b1) + b2).sigmoid()


def slices_looped(block: SliceAttention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    attended, weights = [], []
    for index, channel in enumerate(x.unbind()):
        slices = channel.unbind()
        weight = perceptron(block.mlp, torch.stack([each.mean() for each in slices]), index)
        attended.append(torch.stack([each * w for each, w in zip(slices, weight.unbind(), strict=True)]))
        weights.append(weight)
    return torch.stack(attended), torch.stack(weights)


def slices_written_back(block: SliceAttention, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    attended, weights = x.clone(), []
    for index in range(len(x)):
        channel = x[index].clone()
        weight = perceptron(block.mlp, channel.mean((1, 2)), index)
        attended[index] = channel * weight[:, None, None]
        weights.append(weight)
    return attended, torch.stack(weights)


def channels(block: SqueezeExcite, x: torch.Tensor, descriptor: torch.Tensor | None = None) -> torch.Tensor:
    weights = perceptron(block.mlp, x.mean((1, 2, 3)) if descriptor is None else descriptor)
    return x * weights[:, None, None, None]


def key_mean(weights: torch.Tensor, slices: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean over the key slices of one channel, of which each slice is looked at."""
    shares = weights.detach().softmax(0)
    mean = shares.mean()
    keys = [each for share, each in zip(shares, slices, strict=True) if share >= mean]
    return torch.stack([each.mean() for each in keys or slices]).mean()


def one_sample(block: nn.Module, x: torch.Tensor, slices: Slices) -> torch.Tensor:
    if isinstance(block, SliceAttention):
        return slices(block, x)[0]
    if isinstance(block, ChannelThenSlice):
        return slices(block.slices, channels(block.channels, x))[0]
    if isinstance(block, SliceThenChannel):
        return channels(block.channels, slices(block.slices, x)[0])
    assert isinstance(block, ProgressiveAttention)
    attended, weights = slices(block.slices, x)
    means = [
        key_mean(weight, channel.unbind()) for weight, channel in zip(weights.unbind(), attended.unbind(), strict=True)
    ]
    return channels(block.channels, attended, torch.stack(means))


def looped(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([one_sample(block, sample, slices_looped) for sample in x])


def written_back(block: nn.Module, x: torch.Tensor) -> torch.Tensor:
    return torch.stack([one_sample(block, sample, slices_written_back) for sample in x])
