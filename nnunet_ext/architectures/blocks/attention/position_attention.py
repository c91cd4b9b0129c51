"""Position attention of DANet: to each voxel a mean of all voxels, weighted by how alike they are (J. Fu et al., CVPR
2019, arXiv 1809.02983).

Every voxel meets every other one: for the deepest stages, where few are left, or within slices (``extent``).

Differences from the paper:
    - keys have no bias, which the softmax takes away: ``key_bias=True``.
The in-plane form in the code of the PAM networks (doi 10.1002/mp.15369; Puzzled-Hui/AttentionBased-MIS) relates the
positions of a plane by the features of all slices together: ``extent="column"``.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast

Extent = Literal["volume", "slice", "column"]


class PositionAttention(nn.Module):
    """(B, C, *spatial) -> the same shape. With ``gamma`` at 0, where it starts, the block is the identity.

    Args:
        layers: convolution.
        channels: C.
        reduction: C over the width of queries and keys, which is at least 1.
        extent: which voxels meet: those of the volume; those of one slice; or columns along the slices, each with the
            features of all its slices, so that all slices share their weights. In 2D all three are the same.
        key_bias: keys have a bias.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        reduction: int = 8,
        extent: Extent = "volume",
        key_bias: bool = False,
    ) -> None:
        super().__init__()
        if extent not in get_args(Extent):
            raise ValueError(
                f"the extent of position attention is one of {', '.join(get_args(Extent))}; got {extent!r}"
            )
        inner = max(1, channels // reduction)
        self.extent = extent
        self.query = layers.conv(channels, inner, 1, bias=True)
        self.key = layers.conv(channels, inner, 1, bias=key_bias)
        self.value = layers.conv(channels, channels, 1, bias=True)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        query, key, value = (self.tokens(layer(x)) for layer in (self.query, self.key, self.value))
        with without_autocast(x):
            # float32 keeps the logits, which are not divided by anything, within range
            mean = functional.scaled_dot_product_attention(query, key, value, scale=1.0)
            mean = self.gamma * self.from_tokens(mean, x)
        return x + mean.to(x.dtype)

    def tokens(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) -> (B, groups, positions, features), in float32 at least: attention runs within a group."""
        x = at_least_float32(x)
        if x.ndim == 4 or self.extent == "volume":
            return x.flatten(2).transpose(1, 2).unsqueeze(1)
        if self.extent == "slice":
            return x.flatten(3).permute(0, 2, 3, 1)
        return x.flatten(3).flatten(1, 2).transpose(1, 2).unsqueeze(1)

    def from_tokens(self, tokens: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """The inverse of ``tokens`` for a result of the shape of ``x``."""
        if x.ndim == 5 and self.extent == "slice":
            return tokens.permute(0, 3, 1, 2).reshape(x.shape)
        return tokens.squeeze(1).transpose(1, 2).reshape(x.shape)
