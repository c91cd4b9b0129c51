"""The attention gate: a skip weighted, voxel by voxel, by how it fits the coarser map (O. Oktay et al., "Attention
U-Net", MIDL 2018, arXiv 1804.03999; the grid gate of the authors' code).

    f = relu(theta(x) + phi(g));  map = sigmoid(psi(f)), at the size of x;  out = norm(out(map * x))

Differences from the PAM networks' gate (doi 10.1002/mp.15369; the authors' code, Puzzled-Hui/AttentionBased-MIS):
    - theta has the stride between both maps as its kernel, which may differ between axes; published: 2 everywhere.
    - the norm is the plan's; published: instance norm (batch norm in Attention U-Net).
    - the last convolution has no bias, which a norm behind it takes away: ``out_bias=True``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan, resize_to
from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast


class AttentionGate(nn.Module):
    """Skip (B, C, *spatial) and coarser map (B, G, *coarser) -> (B, C, *spatial).

    Args:
        layers: convolution and norm; without a norm the last convolution has a bias.
        channels: C.
        gate_channels: G.
        stride: from the skip to the coarser map, along each axis.
        out_bias: the last convolution has a bias in front of a norm, too.
    """

    def __init__(
        self, layers: LayerPlan, channels: int, gate_channels: int, stride: Sequence[int], out_bias: bool = False
    ) -> None:
        super().__init__()
        inner = max(1, channels // 2)
        self.theta = layers.conv_op(channels, inner, tuple(stride), stride=tuple(stride), bias=False)
        self.phi = layers.conv(gate_channels, inner, 1, bias=True)
        self.psi = layers.conv(inner, 1, 1, bias=True)
        self.out = layers.conv(channels, channels, 1, bias=out_bias or layers.norm_op is None)
        self.norm = layers.norm(channels)

    def attention_map(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """(B, 1, *spatial) within (0, 1), in float32 at least."""
        own, coarse = self.theta(x), self.phi(gate)
        if coarse.shape != own.shape:
            coarse = resize_to(coarse, own.shape[2:])
        fit = (own + coarse).relu()
        with without_autocast(x):
            return resize_to(self.psi(at_least_float32(fit)).sigmoid(), x.shape[2:])

    def forward(self, x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        return self.norm(self.out(x * self.attention_map(x, gate).to(x.dtype)))
