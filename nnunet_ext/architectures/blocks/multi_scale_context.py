"""Parallel dilated branches, mixed by weights that their pooled sum chooses.

The Multi-scale Context Perception Module of CFNet (Cheng, Zheng, Wang: Biomedical Signal Processing and Control 2025,
106876, doi 10.1016/j.bspc.2024.106876), after its reference implementation YaruC/CFNet.

Differences from the reference, each undone by an argument:
    - softmax across the branches of each channel; the published one runs over branches and channels jointly, so that
      the weights average 1/1024 and the module adds next to nothing at the start: ``joint_softmax=True``;
    - any number of channels; the published slices are constants for 1024.
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis
from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast

DILATIONS = (1, 2, 3, 4)
MIN_CHANNELS = 8


class MultiScaleContext(nn.Module):
    """Input and output: (B, channels, *spatial), any spatial size (far taps of a small map read padding).

    Args:
        layers: convolution, bias, norm, nonlinearity and, if the plan has one, dropout of the result.
        channels: C; the branches work on max(8, C / 4).
        kernel_size: of the branches; axes of kernel 1 are not dilated.
        joint_softmax: the published softmax.
    """

    def __init__(self, layers: LayerPlan, channels: int, kernel_size: PerAxis, joint_softmax: bool = False) -> None:
        super().__init__()
        middle = max(MIN_CHANNELS, channels // 4)
        self.reduce = layers.conv(channels, middle, 1)
        self.branches = nn.ModuleList(_branch(layers, middle, kernel_size, dilation) for dilation in DILATIONS)
        self.weights = BranchWeights(middle, len(DILATIONS), joint_softmax)
        self.activation = layers.activation()
        self.expand = layers.conv(middle, channels, 1)
        self.dropout = layers.dropout()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        reduced = self.reduce(x)
        branches = torch.stack([branch(reduced) for branch in self.branches], dim=1)  # (B, branches, C', *spatial)
        weights = self.branch_weights(branches).to(branches.dtype)
        mixed = (branches * weights.reshape(*weights.shape, *[1] * (x.ndim - 2))).sum(1)
        return self.dropout(x + self.expand(self.activation(mixed)))

    def branch_weights(self, branches: torch.Tensor) -> torch.Tensor:
        """What the branches (B, branches, C', *spatial) are multiplied by before they are added: (B, branches, C')."""
        pooled = branches.sum(1).flatten(2).mean(2)  # (B, C')
        weights: torch.Tensor = self.weights(pooled)
        return weights


def _branch(layers: LayerPlan, channels: int, kernel_size: PerAxis, dilation: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for rate in (1, 1, dilation):
        parts += [
            layers.conv(channels, channels, kernel_size, dilation=rate),
            layers.norm(channels),
            layers.activation(),
        ]
    return nn.Sequential(*parts)


class BranchWeights(nn.Module):
    """Input: pooled (B, C). Output: (B, branches, C), at least float32; over the branches of a channel they sum to 1
    (``joint``: over all branches and channels)."""

    def __init__(self, channels: int, branches: int, joint: bool) -> None:
        super().__init__()
        self.joint = joint
        self.maps = nn.ModuleList(nn.Linear(channels, channels) for _ in range(branches))

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        logits = torch.stack([linear(pooled) for linear in self.maps], dim=1)
        with without_autocast(logits):
            logits = at_least_float32(logits)
            if self.joint:
                return logits.flatten(1).softmax(1).unflatten(1, (len(self.maps), -1))
            return logits.softmax(1)
