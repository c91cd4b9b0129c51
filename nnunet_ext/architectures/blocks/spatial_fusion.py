"""Two feature maps joined by crossed convolutions (XFF of CFFormer).

X-Spatial Feature Fusion, equations 9 to 11 of CFFormer (arXiv 2501.03629; Expert Systems with Applications). The
published form is three bare convolutions, and the result as wide as V; in a plan's network norm and nonlinearity follow
the last one (``norm_act``). The authors' code joins U and V in the other order, which only permutes the last
convolution's columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan


class SpatialFusion(nn.Module):
    """U (B, Cu, *spatial) and V (B, Cv, *spatial) -> (B, channels, *spatial).

    Args:
        layers: convolution, norm and nonlinearity.
        u_channels: Cu.
        v_channels: Cv.
        channels: of the result.
        kernel: of the convolution from V to U and of the last one, along each axis.
        wide_kernel: of the convolution from U to V.
        norm_act: norm and nonlinearity after the last convolution, whose bias is then the plan's.
        crossed: False leaves out the two crossed convolutions: plain fusion by concatenation.
    """

    def __init__(
        self,
        layers: LayerPlan,
        u_channels: int,
        v_channels: int,
        channels: int,
        kernel: Sequence[int],
        wide_kernel: Sequence[int],
        norm_act: bool = False,
        crossed: bool = True,
    ) -> None:
        super().__init__()
        self.crossed = crossed
        if crossed:
            self.u_to_v = layers.conv(u_channels, v_channels, wide_kernel, bias=True)
            self.v_to_u = layers.conv(v_channels, u_channels, kernel, bias=True)
        self.out = layers.conv(u_channels + v_channels, channels, kernel, bias=None if norm_act else True)
        self.after: nn.Module = nn.Identity()
        if norm_act:
            self.after = nn.Sequential(layers.norm(channels), layers.activation())

    def forward(self, u: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        if self.crossed:
            u, v = self.v_to_u(v) + u, self.u_to_v(u) + v
        return self.after(self.out(torch.cat((v, u), dim=1)))
