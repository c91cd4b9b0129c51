"""Up-sampling by a transposed convolution on a quarter of the channels.

After the decoder block of CFNet's reference implementation (YaruC/CFNet; doi 10.1016/j.bspc.2024.106876).

Differences from the reference, each undone by an argument:
    - the transposed convolution's kernel equals its stride, as in nnU-Net; the published one is 3 at stride 2, so that
      its taps overlap: ``overlapping=True``;
    - at least 8 channels in the middle (a quarter of 32 or more is 8 or more: the published widths are unchanged).
"""

from __future__ import annotations

from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, per_axis

MIN_CHANNELS = 8


class BottleneckUp(nn.Sequential):
    """Input: (B, channels, *spatial). Output: (B, out_channels, *spatial * stride).

    Args:
        layers: convolution, bias, norm and nonlinearity.
        channels: input channels.
        out_channels: output channels.
        stride: factor of each axis.
        overlapping: the published transposed convolution, kernel 2 * stride - 1.
    """

    def __init__(
        self, layers: LayerPlan, channels: int, out_channels: int, stride: PerAxis, overlapping: bool = False
    ) -> None:
        middle = max(MIN_CHANNELS, channels // 4)
        if overlapping:
            factors = per_axis(stride, layers.dimension)
            kernel, rim = tuple(2 * s - 1 for s in factors), tuple(s - 1 for s in factors)
            transposed = layers.transposed_conv(middle, middle, kernel, stride, padding=rim, output_padding=rim)
        else:
            transposed = layers.transposed_conv(middle, middle, stride, stride)
        super().__init__(
            layers.conv(channels, middle, 1),
            layers.norm(middle),
            layers.activation(),
            transposed,
            layers.norm(middle),
            layers.activation(),
            layers.conv(middle, out_channels, 1),
            layers.norm(out_channels),
            layers.activation(),
        )
