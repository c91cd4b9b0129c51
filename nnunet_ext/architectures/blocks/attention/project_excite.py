"""Project & excite: each voxel of each channel weighted by the means of the planes that cross in it (A.-M. Rickmann et
al., MICCAI 2019, arXiv 1906.04649).

The map is projected onto each of its axes; the profiles, added up, pass two 1x1 convolutions. The first is linear and
runs on the profiles before they are added up, where it costs nearly nothing.

Differences from the published block: none but the start of the hidden bias (``gate_mlp.py``, ``uniform_bias``). The
version in the PAM networks (doi 10.1002/mp.15369; the authors' code, Puzzled-Hui/AttentionBased-MIS) has its arguments:
    - the profiles are averaged instead of added up: ``average_profiles=True``;
    - PReLU with a slope for each hidden channel instead of ReLU: ``prelu=True``;
    - the hidden width may be 0 where there are fewer channels than the reduction: ``clamp_hidden=False``.

Under autocast the logits, one a voxel and channel, are in the precision of the map, unlike those of the other blocks:
in float32 they would keep as much as two maps.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.attention.descriptors import scaled
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP, hidden_width
from nnunet_ext.architectures.blocks.precision import at_least_float32, exact_mean, without_autocast

CONVOLUTIONS = {4: functional.conv2d, 5: functional.conv3d}


class ProjectExcite(nn.Module):
    """(B, C, *spatial) -> the same shape: two profiles in 2D, three in 3D.

    Args:
        channels: C.
        reduction: C over the hidden width.
        average_profiles: the mean of the profiles instead of their sum.
        prelu: PReLU instead of ReLU.
        clamp_hidden: the hidden width is at least 1.
        uniform_bias: the hidden bias starts as that of a convolution.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 2,
        average_profiles: bool = False,
        prelu: bool = False,
        clamp_hidden: bool = True,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, clamp_hidden)
        self.average_profiles = average_profiles
        self.mlp = GateMLP(channels, hidden, uniform_bias=uniform_bias)
        self.slope = nn.Parameter(torch.full((hidden,), 0.25)) if prelu else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scaled(x, self.weights(x))

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """Weights within (0, 1): (B, C, *spatial), or (B, C) without hidden units."""
        if self.mlp.hidden == 0:
            return self.mlp.expand_bias.sigmoid().expand(x.shape[:2])
        hidden = self.hidden(x)
        weight = self.mlp.expand_weight.reshape(*self.mlp.expand_weight.shape, *(1,) * (x.ndim - 2))
        logits = CONVOLUTIONS[x.ndim](hidden, weight.to(hidden.dtype), self.mlp.expand_bias.to(hidden.dtype))
        return logits.sigmoid()

    def hidden(self, x: torch.Tensor) -> torch.Tensor:
        """(B, hidden, *spatial) in the precision of ``x``, behind the nonlinearity."""
        axes = tuple(range(2, x.ndim))
        with without_autocast(x):
            weight = at_least_float32(self.mlp.reduce_weight)
            if self.average_profiles:
                weight = weight / len(axes)
            hidden = self.mlp.reduce_bias.reshape(-1, *(1,) * len(axes))
            for axis in axes:
                others = tuple(other for other in axes if other != axis)
                profile = exact_mean(x, others, keepdim=True)
                hidden = hidden + torch.einsum("bc...,hc->bh...", profile, weight)
        hidden = hidden.to(x.dtype)
        return hidden.relu() if self.slope is None else functional.prelu(hidden, self.slope.to(hidden.dtype))
