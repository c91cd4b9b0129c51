"""Channel attention of DANet: to each channel a mean of all channels, weighted by how they correlate (J. Fu et al.,
CVPR 2019, arXiv 1809.02983).

As in the paper's code, the weights are the softmax of the largest correlation of a row minus the correlation: unlike
channels weigh most. The code of the PAM networks (doi 10.1002/mp.15369; Puzzled-Hui/AttentionBased-MIS) takes the
softmax of the correlation itself: ``like_channels=True``.
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast


class ChannelSelfAttention(nn.Module):
    """(B, C, *spatial) -> the same shape. With ``gamma`` at 0, where it starts, the block is the identity.

    Args:
        like_channels: like channels weigh most, instead of unlike ones.
    """

    def __init__(self, like_channels: bool = False) -> None:
        super().__init__()
        self.like_channels = like_channels
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = self.weights(x)
        return x + (weights.to(x.dtype) @ x.flatten(2)).to(x.dtype).view_as(x)

    def weights(self, x: torch.Tensor) -> torch.Tensor:
        """What each channel is given of all channels, (B, C, C), in float32 at least; every row sums to ``gamma``."""
        with without_autocast(x):
            # a sum over all voxels passes the largest half, 65,504
            exact = at_least_float32(x.flatten(2))
            correlation = exact @ exact.transpose(1, 2)
            if not self.like_channels:
                correlation = correlation.max(-1, keepdim=True).values - correlation
            return self.gamma * correlation.softmax(-1)
