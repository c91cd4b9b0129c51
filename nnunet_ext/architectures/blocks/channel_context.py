"""Attention over channels: what keys and values of all tokens say together, in one small matrix a head.

The matrix is (channels x channels) a head, never (tokens x tokens): its cost is linear in the number of tokens.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast

EPSILON = 1e-6
MAX_TEMPERATURE = 100.0


class ChannelContext(nn.Module):
    """Keys, values (B, heads, N, d) -> context (B, heads, d, d), rows the key channels; every column sums to 1.

    Logits are the cosine of key channel i and value channel j over the N tokens, times a temperature that each head
    learns from sqrt(d) on: bounded, and independent of the number of tokens and of the scale of the features.

    Args:
        heads: number of heads.
        channels: channels d of one head.
        token_sum: logits are k^T v / sqrt(d) instead, the sum over all tokens as published (CFNet): they grow with the
            number of tokens.
    """

    def __init__(self, heads: int, channels: int, token_sum: bool = False) -> None:
        super().__init__()
        self.scale = math.sqrt(channels)
        self.token_sum = token_sum
        if not token_sum:
            self.temperature = nn.Parameter(torch.full((heads, 1, 1), self.scale))

    def logits(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        # Sums over up to 262,144 tokens (a 128^3 patch, first fused stage) pass the largest half, 65,504.
        with without_autocast(keys):
            keys, values = at_least_float32(keys), at_least_float32(values)
            products = keys.transpose(-1, -2) @ values
            if self.token_sum:
                return products / self.scale
            lengths = _lengths(keys).unsqueeze(-1) * _lengths(values).unsqueeze(-2)
            return self.temperature.clamp(max=MAX_TEMPERATURE) * (products / lengths)

    def forward(self, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        """The result has at least float32 precision, under autocast too."""
        return self.logits(keys, values).softmax(dim=-2)


def _lengths(x: torch.Tensor) -> torch.Tensor:
    return (x.square().sum(-2) + EPSILON).sqrt()
