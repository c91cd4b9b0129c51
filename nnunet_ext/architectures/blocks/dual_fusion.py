"""What CFFormer does where its two encoders meet: exchange channels, then make the skip for the decoder of both.

"CFFormer: Cross CNN-Transformer Channel Attention and Spatial Feature Fusion for Improved Segmentation of Heterogeneous
Medical Images", arXiv 2501.03629.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.spatial_fusion import SpatialFusion


class DualFusion(nn.Module):
    """U (B, Cu, *spatial) and V (B, Cv, *spatial) -> both after the exchange, and the skip (B, channels, *spatial).

    Args:
        use_cfca: False leaves out the exchange.
        use_xff: False leaves out the crossed convolutions: the skip is made by plain concatenation.
        layers, u_channels, v_channels, channels, kernel, wide_kernel, norm_act: as of ``SpatialFusion``.
    """

    def __init__(
        self,
        layers: LayerPlan,
        u_channels: int,
        v_channels: int,
        channels: int,
        kernel: Sequence[int],
        wide_kernel: Sequence[int],
        use_cfca: bool,
        use_xff: bool,
        norm_act: bool = False,
    ) -> None:
        super().__init__()
        self.cfca = ChannelExchange(u_channels, v_channels) if use_cfca else None
        self.xff = SpatialFusion(
            layers, u_channels, v_channels, channels, kernel, wide_kernel, norm_act, crossed=use_xff
        )

    def forward(self, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.cfca is not None:
            u, v = self.cfca(u, v)
        return u, v, self.xff(u, v)
