"""The residual block with squeeze-and-excitation of AnatomyNet (W. Zhu et al., Medical Physics 2019, arXiv 1808.05238).

    h = norm(conv(act(norm(conv(x)))));  out = act(h * g(h) + skip(x))

Differences from the authors' code: norm, nonlinearity and the convolutions' bias are the plan's (batch norm, leaky ReLU
with slope 0.01, no bias); the hidden bias of the perceptron starts at 1 (``gate_mlp.py``).
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, per_axis

#: of the leaky ReLU inside the perceptron, as in the authors' code
NEGATIVE_SLOPE = 0.01


class ResidualSqueezeExcite(nn.Module):
    """(B, channels, *spatial) -> (B, out_channels, *spatial / stride); it stands in the place of two convolutions.

    Args:
        layers: convolution, bias, norm and nonlinearity.
        channels, out_channels: in and out.
        kernel_size: of both convolutions.
        stride: of the first.
        reduction: out_channels over the hidden width (published: 15 in the encoder, 16 in the decoder).
        uniform_bias: the hidden bias starts as published.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        out_channels: int,
        kernel_size: PerAxis = 3,
        stride: PerAxis = 1,
        reduction: int = 16,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        kernel, strides = per_axis(kernel_size, layers.dimension), per_axis(stride, layers.dimension)
        self.conv1 = layers.conv_op(
            channels,
            out_channels,
            kernel,
            stride=strides,
            padding=tuple((edge - 1) // 2 for edge in kernel),
            bias=layers.conv_bias,
        )
        self.norm1 = layers.norm(out_channels)
        self.activation1 = layers.activation()
        self.conv2 = layers.conv(out_channels, out_channels, kernel)
        self.norm2 = layers.norm(out_channels)
        self.attention = SqueezeExcite(
            out_channels, reduction, negative_slope=NEGATIVE_SLOPE, uniform_bias=uniform_bias
        )
        self.activation2 = layers.activation()
        self.skip: nn.Module = nn.Identity()
        if channels != out_channels or set(strides) != {1}:
            self.skip = nn.Sequential(
                layers.conv_op(channels, out_channels, 1, stride=strides, bias=False), layers.norm(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.norm2(self.conv2(self.activation1(self.norm1(self.conv1(x)))))
        return self.activation2(self.attention(h) + self.skip(x))
