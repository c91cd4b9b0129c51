"""Two feature maps that exchange channels by attention between them (CFCA of CFFormer).

Cross Feature Channel Attention, equations 1 to 8 of CFFormer (arXiv 2501.03629; Expert Systems with Applications). It
computes what the authors' code does (``cfformer_reference.py`` tells which that is).
"""

from __future__ import annotations

import torch
from torch import nn

from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast


class ChannelExchange(nn.Module):
    """U (B, Cu, *spatial) and V (B, Cv, *spatial), equal in space -> both fused, same shapes.

    Each gets, added to itself, a weighted mean of the other's channels; the weights come from what the spatial means of
    both say. Nothing here knows the number of spatial axes.

    Args:
        u_channels: Cu.
        v_channels: Cv.
    """

    def __init__(self, u_channels: int, v_channels: int) -> None:
        super().__init__()
        self.u_expand = nn.Linear(u_channels, v_channels)
        self.u_compress = nn.Linear(v_channels, u_channels)
        self.v_compress = nn.Linear(v_channels, u_channels)
        self.v_expand = nn.Linear(u_channels, v_channels)

    def forward(self, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        flat_u, flat_v = u.flatten(2), v.flatten(2)
        to_u, to_v = self.matrices(u, v)
        into_u = (to_u.to(flat_v.dtype) @ flat_v).view_as(u)
        into_v = (to_v.to(flat_u.dtype) @ flat_u).view_as(v)
        return u + into_u, v + into_v

    def matrices(self, u: torch.Tensor, v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """What each channel takes of the other map's channels, in float32 at least: (B, Cu, Cv) for U, (B, Cv, Cu) for
        V; every row sums to 1."""
        u_weights, v_weights = self.attention(u.flatten(2), v.flatten(2))
        # (B, Cu, Cv): how channel i of U and channel j of V correspond
        with without_autocast(u):
            correspondence = u_weights.unsqueeze(2) * v_weights.unsqueeze(1)
            return correspondence.softmax(dim=2), correspondence.transpose(1, 2).softmax(dim=2)

    def attention(self, flat_u: torch.Tensor, flat_v: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Channel weights within (0, 1) of (B, C, N) maps: (B, Cu) and (B, Cv), in float32 at least."""
        with without_autocast(flat_u):
            u_mean = at_least_float32(flat_u).mean(2)
            v_mean = at_least_float32(flat_v).mean(2)
            u_weights = self.u_compress(self.u_expand(u_mean).relu()).sigmoid()
            v_weights = self.v_expand(self.v_compress(v_mean).relu()).sigmoid()
        return u_weights, v_weights
