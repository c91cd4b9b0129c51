"""CBAM: channel attention, then a weight for each voxel from the maximum and the mean over channels (S. Woo et al.,
ECCV 2018, arXiv 1807.06521).

Differences from the paper:
    - the norm of the voxel logits is the plan's (batch norm in the authors' code), and is left out for a single voxel.
    - the hidden bias of the channel perceptron starts at 1 (``gate_mlp.py``): ``uniform_bias=True``.
The CBAM of the PAM networks' code is not reproduced: its convolution never reaches the output.
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis
from nnunet_ext.architectures.blocks.precision import at_least_float32, exact_mean, without_autocast


class CBAM(nn.Module):
    """(B, C, *spatial) -> the same shape.

    Args:
        layers: convolution and norm.
        channels: C.
        reduction: C over the hidden width of the channel perceptron.
        kernel_size: of the convolution that gives the voxel weights, odd.
        uniform_bias: the hidden bias starts as published.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        reduction: int = 16,
        kernel_size: PerAxis = 7,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        self.channels = SqueezeExcite(channels, reduction, "avg_and_max", uniform_bias=uniform_bias)
        self.conv = layers.conv(2, 1, kernel_size, bias=False)
        self.norm = layers.norm(1)

    def attention_map(self, x: torch.Tensor) -> torch.Tensor:
        """Weights (B, 1, *spatial) within (0, 1) of a map that channel attention has scaled, in float32 at least."""
        with without_autocast(x):
            maximum = at_least_float32(x.max(1, keepdim=True).values)
            logits = self.conv(torch.cat((maximum, exact_mean(x, (1,), keepdim=True)), dim=1))
            return (self.norm(logits) if logits[0].numel() > 1 else logits).sigmoid()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.channels(x)
        return x * self.attention_map(x).to(x.dtype)
