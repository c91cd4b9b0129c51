"""A block of Swin Transformer V2: attention in windows, and a perceptron (``swin_v2.py`` names the paper)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.recompute import recomputed
from nnunet_ext.architectures.blocks.window_attention import Tables, WindowAttention
from nnunet_ext.architectures.blocks.windows import Windows

MLP_RATIO = 4
# smallest and largest window along an axis
WINDOW_RANGE = {2: (4, 8), 3: (3, 6)}


class SwinV2Block(nn.Module):
    """Window attention and a perceptron, each normalised before it is added ("residual post-norm")."""

    def __init__(
        self,
        channels: int,
        heads: int,
        dimension: int,
        shifted: bool,
        drop_path: float = 0.0,
        trained_window: Sequence[int] | None = None,
        mask_value: float = -100.0,
        attend_to_padding: bool = False,
        stacked_bias: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.shifted = shifted
        self.recompute = recompute
        self.drop_path = drop_path
        self.attend_to_padding = attend_to_padding
        self.attn = WindowAttention(channels, heads, dimension, trained_window, mask_value, stacked_bias)
        self.norm1 = nn.LayerNorm(channels)
        self.mlp = MLP(channels)
        self.norm2 = nn.LayerNorm(channels)

    def windows(self, x: torch.Tensor, window: Sequence[int] | None) -> Windows:
        """Over the grid of ``x``; ``window`` is the target along each axis, None: of least padding."""
        size = [int(edge) for edge in x.shape[1:-1]]
        target = least_padding_window(size) if window is None else window
        return Windows.over(size, target, self.shifted, self.attend_to_padding)

    def forward(
        self, x: torch.Tensor, window: Sequence[int] | None = None, tables: Tables | None = None
    ) -> torch.Tensor:
        """(B, *size, C) in and out; ``tables`` of a block of the same geometry may be handed in."""
        windows = self.windows(x, window)
        tables = self.attn.tables(windows) if tables is None else tables
        again = self.recompute and self.training
        y: torch.Tensor = recomputed(self._run, x, windows, *tables, enabled=again, random=self.drop_path > 0)
        return y

    def _run(self, x: torch.Tensor, windows: Windows, *tables: torch.Tensor | None) -> torch.Tensor:
        attended = windows.join(self.attn(windows.cut(x), windows, tables=cast(Tables, tables)))
        x = x + self._kept(self.norm1(attended))
        return x + self._kept(self.norm2(self.mlp(x)))

    def _kept(self, x: torch.Tensor) -> torch.Tensor:
        """Stochastic depth: in training, nothing for some samples, and more for the others."""
        if not self.training or not self.drop_path:
            return x
        keep = torch.rand(x.shape[:1], device=x.device) >= self.drop_path
        return x * (keep.to(x.dtype) / (1.0 - self.drop_path)).view(-1, *[1] * (x.ndim - 1))


class MLP(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, MLP_RATIO * channels)
        self.fc2 = nn.Linear(MLP_RATIO * channels, channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc2(functional.gelu(self.fc1(x)))


def least_padding_window(size: Sequence[int]) -> tuple[int, ...]:
    """For each axis the window within ``WINDOW_RANGE`` that pads least, the larger of equals, at most the axis."""
    least, most = WINDOW_RANGE[len(size)]
    chosen = []
    for edge in size:
        best, padding = least, -1
        for window in range(least, most + 1):
            added = -edge % window
            if padding < 0 or added <= padding:
                best, padding = window, added
        chosen.append(min(best, edge))
    return tuple(chosen)
