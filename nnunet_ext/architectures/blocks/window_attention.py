"""Scaled cosine attention within windows, with a continuous position bias on a logarithmic scale, in n dimensions.

Z. Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022, doi 10.1109/CVPR52688.2022.01170.
Keys of the state dict and, in 2D, shapes are timm's, so that its weights load.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.precision import at_least_float32, without_autocast
from nnunet_ext.architectures.blocks.windows import Windows, relative_coordinates, relative_index

Tables = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
POSITION_WIDTH = 512
LARGEST_SCALE = math.log(100.0)
# From this many tokens on the fused kernel is used, on every device and in training too, so that what is measured
# without data is what trains. On a CPU it predicts up to 1.6 times as fast (256 tokens), and trains 4 % slower (64
# tokens) to 13 % slower (256) than the attention written out; on CUDA neither was measured.
FUSED_FROM = 64


class WindowAttention(nn.Module):
    """(B, windows, tokens, C) -> the same shape.

    Args:
        channels: C.
        heads: divides C.
        dimension: axes of a window.
        trained_window: window that loaded weights were trained with; None: whatever window is used.
        mask_value: added to the logits of tokens that a shift has brought together.
        stacked_bias: True keeps the biases of query, key and value as one tensor, as torchvision does; the third of the
            key, which is never used, is a part of it then. False: two tensors, as in timm.
    """

    def __init__(
        self,
        channels: int,
        heads: int,
        dimension: int,
        trained_window: Sequence[int] | None = None,
        mask_value: float = -100.0,
        stacked_bias: bool = False,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.trained_window = None if trained_window is None else tuple(trained_window)
        self.mask_value = mask_value
        self.logit_scale = nn.Parameter(torch.full((heads, 1, 1), math.log(10.0)))
        self.cpb_mlp = nn.Sequential(
            nn.Linear(dimension, POSITION_WIDTH), nn.ReLU(inplace=True), nn.Linear(POSITION_WIDTH, heads, bias=False)
        )
        self.qkv = nn.Linear(channels, 3 * channels, bias=stacked_bias)
        if not stacked_bias:
            self.q_bias = nn.Parameter(torch.zeros(channels))
            self.v_bias = nn.Parameter(torch.zeros(channels))
        self.proj = nn.Linear(channels, channels)

    def forward(
        self, x: torch.Tensor, windows: Windows, fused: bool | None = None, tables: Tables | None = None
    ) -> torch.Tensor:
        """
        Args:
            x: as ``windows.cut`` gives it.
            windows: geometry.
            fused: force the fused kernel, or the attention written out; None: by the number of tokens.
            tables: of ``tables``, made before; None: made here.
        """
        qkv = functional.linear(x, self.qkv.weight, self._bias())
        qkv = qkv.unflatten(-1, (3, self.heads, -1))
        query, key, value = qkv.permute(3, 0, 1, 4, 2, 5).unbind(0)  # each B, windows, heads, tokens, C / heads
        # Half precision rounds a cosine times 100 by whole units.
        with without_autocast(x):
            query = functional.normalize(at_least_float32(query), dim=-1) * self._scale()
            key = at_least_float32(key)
            if windows.attend_to_padding and windows.padded != windows.size:
                # Keys of padding are zero, where the cosine has a gradient of up to 1e12: infinite in float16, and NaN
                # once it meets the zero that the token is. Nothing is to be learnt from it.
                key = key.masked_fill((key == 0).all(dim=-1, keepdim=True), 0.0)
            key = functional.normalize(key, dim=-1)
            coordinates, index, mask = self.tables(windows) if tables is None else tables
            added = self.position_bias(coordinates, index)  # heads, tokens, tokens
            if mask is not None:
                added = added + mask.unsqueeze(1)  # windows, heads, tokens, tokens
            fused = windows.tokens >= FUSED_FROM if fused is None else fused
            out = _fused(query, key, value, added) if fused else _written_out(query, key, value, added)
        return self.proj(out.to(x.dtype).transpose(2, 3).flatten(-2))

    def _scale(self) -> torch.Tensor:
        # At use, not in the parameter: weights above the bound load, and get no gradient, as published.
        return self.logit_scale.clamp(max=LARGEST_SCALE).exp()

    def _bias(self) -> torch.Tensor:
        """Of query, key and value, one behind the other; the key has none."""
        if self.qkv.bias is None:
            query, value = self.q_bias, self.v_bias
        else:
            query, _, value = self.qkv.bias.chunk(3)
        return torch.cat((query, torch.zeros_like(query), value))

    def position_bias(self, coordinates: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """(heads, tokens, tokens), between 0 and 16."""
        pairs = self.cpb_mlp(coordinates)[index]  # tokens, tokens, heads
        return 16.0 * pairs.permute(2, 0, 1).sigmoid()

    def tables(self, windows: Windows) -> Tables:
        """What follows from the geometry alone, the same for all blocks of a stage that are shifted alike: distances,
        the row of each pair of tokens among them, and the mask."""
        like = self.proj.weight
        return (
            relative_coordinates(windows.window, self.trained_window, like),
            relative_index(windows.window, like.device),
            windows.mask(like, self.mask_value),
        )


def _written_out(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    weights = (query @ key.transpose(-2, -1) + added).softmax(dim=-1)
    return weights.to(value.dtype) @ value


def _fused(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, added: torch.Tensor) -> torch.Tensor:
    batch, windows, heads = query.shape[:3]
    # One mask an image without a shift or padding, else one a window: either way no copy for each image.
    lead = (batch, windows * heads) if added.ndim == 4 else (batch * windows, heads)
    q, k, v = (x.reshape(*lead, *x.shape[-2:]) for x in (query, key, value.to(query.dtype)))
    out = functional.scaled_dot_product_attention(
        q,
        k,
        v,
        attn_mask=added.reshape(1, lead[1], *added.shape[-2:]),
        scale=1.0,
    )
    return out.reshape(batch, windows, heads, *out.shape[-2:])
