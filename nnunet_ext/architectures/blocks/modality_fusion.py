"""Two streams of features fused by channel attention that crosses between them.

The Modality-Cross Attention Fusion Module of CFNet (Cheng, Zheng, Wang: Biomedical Signal Processing and Control 2025,
106876, doi 10.1016/j.bspc.2024.106876), after its reference implementation YaruC/CFNet.

Differences from the reference, each undone by an argument:
    - context of normalised columns (``channel_context.py``), since sums over tokens saturate the softmax at large
      patches and change with the patch size: ``token_sum=True``;
    - context products in float32 under autocast (always).
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.channel_context import ChannelContext
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.recompute import recomputed, repeatable

STREAMS = 2


class ModalityFusion(nn.Module):
    """Input: two of (B, C, *spatial), equal in shape. Output: (B, out_channels, *spatial).

    Each stream is projected to queries u, keys and values; the queries of one read the channel context of the other.
    Tokens have no geometry here, so the block is the same in 2D and 3D. Layer norm and ReLU inside are fixed; the
    plan's norm stands where the reference has batch norm.

    Args:
        layers: convolution, bias and norm.
        channels: channels C of each stream.
        out_channels: channels of the fused map.
        heads: heads of the context; divides C.
        token_sum: the published, unnormalised context.
        recompute: keep the inputs alone in training, and run the block again in the backward pass.
    """

    def __init__(
        self,
        layers: LayerPlan,
        channels: int,
        out_channels: int,
        heads: int,
        token_sum: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f"{heads} heads do not divide {channels} channels")
        self.heads = heads
        self.queries = nn.ModuleList(nn.Linear(channels, channels) for _ in range(STREAMS))
        self.keys_values = nn.ModuleList(nn.Linear(channels, 2 * channels, bias=False) for _ in range(STREAMS))
        self.contexts = nn.ModuleList(
            ChannelContext(heads, channels // heads, token_sum=token_sum) for _ in range(STREAMS)
        )
        self.project = nn.Linear(channels, channels)
        self.norm = nn.LayerNorm(channels)
        self.residual = layers.conv(2 * channels, out_channels, 1, bias=False)
        self.embed = layers.conv(2 * channels, out_channels, 1)
        self.embed_norm = layers.norm(out_channels)
        self.out_norm = layers.norm(out_channels)
        self.recompute = recompute and repeatable(self)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        fused: torch.Tensor = recomputed(self._fuse, one, two, enabled=self.recompute and self.training)
        return fused

    def _fuse(self, one: torch.Tensor, two: torch.Tensor) -> torch.Tensor:
        spatial = one.shape[2:]
        _, messages = self.crossing(one, two)
        crossed = [self.norm(self.project(_tokens(x) + m)) for x, m in zip((one, two), messages, strict=True)]
        z = torch.cat([y.transpose(1, 2) for y in crossed], dim=1).unflatten(2, spatial)  # (B, 2C, *spatial)
        embedded = self.embed_norm(functional.relu(self.embed(z), inplace=True))
        return self.out_norm(self.residual(z) + embedded)

    def crossing(self, one: torch.Tensor, two: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """The channel context of each stream, (B, heads, C / heads, C / heads), and the message that each reads from
        the other's context and adds to its own tokens, (B, N, C)."""
        queries = [functional.relu(query(_tokens(x))) for query, x in zip(self.queries, (one, two), strict=True)]
        contexts = [self._context(stream, u) for stream, u in enumerate(queries)]
        messages = [self._read(u, context) for u, context in zip(queries, reversed(contexts), strict=True)]
        return contexts, messages

    def _context(self, stream: int, queries: torch.Tensor) -> torch.Tensor:
        keys, values = self.keys_values[stream](queries).chunk(2, dim=-1)
        return self.contexts[stream](self._split(keys), self._split(values))

    def _read(self, queries: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        return (self._split(queries) @ context.to(queries.dtype)).transpose(1, 2).flatten(2)

    def _split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, N, C) -> (B, heads, N, C / heads); head j owns the j-th run of channels."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _tokens(x: torch.Tensor) -> torch.Tensor:
    """(B, C, *spatial) -> (B, N, C)."""
    return x.flatten(2).transpose(1, 2)


def heads_for(channels: int, head_channels: int = 32) -> int:
    """The largest divisor of ``channels`` whose heads have at least ``head_channels`` each; 1 if there is none."""
    return next(heads for heads in range(max(1, channels // head_channels), 0, -1) if channels % heads == 0)
