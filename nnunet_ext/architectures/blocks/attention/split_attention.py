"""Split attention of ResNeSt: a convolution into several candidates for each channel, and their weighted sum (H. Zhang
et al., arXiv 2004.08955).

Differences from the paper:
    - norm and nonlinearity of the convolution are the plan's (batch norm and ReLU).
    - no norm between the two layers of the perceptron: an instance norm fails on the single voxel that is left there.
    - the hidden bias of the perceptron starts at 1 (``gate_mlp.py``): ``uniform_bias=True``.
The split attention of the PAM networks' code is not reproduced: it discards the result of its convolutions.
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, per_axis
from nnunet_ext.architectures.blocks.precision import exact_mean, without_autocast

MIN_HIDDEN = 32


class SplitAttention(nn.Module):
    """(B, C, *spatial) -> the same shape; it stands in the place of a convolution with norm and nonlinearity.

    Args:
        layers: convolution, bias, norm and nonlinearity.
        channels: C, a multiple of ``radix * groups``.
        kernel_size: of the convolution.
        radix: R, candidates for each channel.
        groups: K, cardinal groups.
        reduction: C R over the hidden width, which is at least 32 (and a multiple of K).
        uniform_bias: the hidden bias starts as published.

    Raises:
        ValueError: channels that the convolution's groups do not divide.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        kernel_size: PerAxis = 3,
        radix: int = 2,
        groups: int = 1,
        reduction: int = 4,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        if channels % (radix * groups):
            raise ValueError(
                f"split attention needs channels that radix times groups divides; got {channels} channels, "
                f"radix {radix}, groups {groups}"
            )
        kernel = per_axis(kernel_size, layers.dimension)
        self.radix, self.groups = radix, groups
        self.conv = layers.conv_op(
            channels,
            radix * channels,
            kernel,
            padding=tuple((edge - 1) // 2 for edge in kernel),
            groups=radix * groups,
            bias=layers.conv_bias,
        )
        self.norm = layers.norm(radix * channels)
        self.activation = layers.activation()
        hidden = max(channels * radix // reduction, MIN_HIDDEN)
        self.mlp = GateMLP(
            channels // groups,
            -(-hidden // groups),
            radix * channels // groups,
            groups=groups,
            uniform_bias=uniform_bias,
        )

    def weights(self, candidates: torch.Tensor) -> torch.Tensor:
        """Candidates (B, R, C, *spatial) -> weights (B, R, C), in float32 at least; they sum to 1 over R above 1."""
        batch, radix, channels = candidates.shape[:3]
        with without_autocast(candidates):
            means = exact_mean(candidates.flatten(3), (-1,)).sum(1)
            logits = self.mlp(means.view(batch, self.groups, -1)).view(batch, self.groups, radix, -1)
            weights = logits.sigmoid() if radix == 1 else logits.softmax(2)
            return weights.transpose(1, 2).reshape(batch, radix, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        candidates = self.activation(self.norm(self.conv(x))).unflatten(1, (self.radix, -1))
        weights = self.weights(candidates).to(candidates.dtype)
        return (candidates * weights.reshape(*weights.shape, *(1,) * (x.ndim - 2))).sum(1)
