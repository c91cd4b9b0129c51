"""Swin Transformer V2 as an encoder, in n dimensions, with strides and windows per axis.

Z. Liu et al., "Swin Transformer V2: Scaling Up Capacity and Resolution", CVPR 2022, doi 10.1109/CVPR52688.2022.01170.
Keys of the state dict are timm's (``SwinTransformerV2``), shapes too in 2D. Differences from timm: any number of axes;
merging by any strides; grids that windows do not divide are padded before the shift (``windows.py``); a window of one
token gives no NaN; masks and position tables are never stored; the final norm and head are not built. What torchvision
does otherwise are options: ``attend_to_padding``, ``stacked_bias``.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import cast

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.initialization import truncated_normal
from nnunet_ext.architectures.blocks.swin_v2_block import SwinV2Block
from nnunet_ext.architectures.blocks.window_attention import Tables

CONVOLUTIONS: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}


class SwinV2(nn.Module):
    """Stages that are called one by one, so that another network can act between them.

    ``patch_embed(image)`` gives the first grid, ``layers[i](grid)`` the next; all grids are (B, *size, C), channels
    last.

    Args:
        input_channels: of the image.
        dimension: spatial axes.
        patch: pixels of a token along each axis.
        widths: channels of each stage.
        depths: blocks of each stage.
        heads: of each stage; divide the widths.
        merges: strides that lead to each stage but the first.
        window: target for all stages, one an axis; None: of least padding (``least_padding_window``).
        trained_windows: of each stage, that loaded weights were trained with; None: whatever is used.
        drop_path: probability of leaving out the last block of a sample in training, rising linearly from 0.
        mask_value: see ``Windows.mask``.
        attend_to_padding: see ``Windows.over``.
        stacked_bias: see ``WindowAttention``.
        recompute: each block keeps its input alone in training, and is run again in the backward pass.
    """

    def __init__(
        self,
        input_channels: int,
        dimension: int,
        patch: Sequence[int],
        widths: Sequence[int],
        depths: Sequence[int],
        heads: Sequence[int],
        merges: Sequence[Sequence[int]],
        window: Sequence[int] | None = None,
        trained_windows: Sequence[Sequence[int] | None] | None = None,
        drop_path: float = 0.0,
        mask_value: float = -100.0,
        attend_to_padding: bool = False,
        stacked_bias: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.patch_embed = PatchEmbedding(input_channels, widths[0], dimension, patch)
        rates = [drop_path * block / max(1, sum(depths) - 1) for block in range(sum(depths))]
        self.layers = nn.ModuleList()
        for stage, (width, count) in enumerate(zip(widths, heads, strict=True)):
            merge = None if stage == 0 else PatchMerging(widths[stage - 1], width, merges[stage - 1])
            trained = None if trained_windows is None else trained_windows[stage]
            blocks = [
                SwinV2Block(
                    width,
                    count,
                    dimension,
                    bool(block % 2),
                    rate,
                    trained,
                    mask_value,
                    attend_to_padding,
                    stacked_bias,
                    recompute,
                )
                for block, rate in enumerate(rates[sum(depths[:stage]) : sum(depths[: stage + 1])])
            ]
            self.layers.append(SwinStage(merge, blocks, window))

    @property
    def stages(self) -> list[SwinStage]:
        return [cast(SwinStage, stage) for stage in self.layers]

    @property
    def trained_windows(self) -> list[tuple[int, ...] | None]:
        """Of each stage; kept in the state dict, since they decide what the weights of the position bias mean."""
        return [stage.trained_window for stage in self.stages]

    @trained_windows.setter
    def trained_windows(self, windows: Sequence[Sequence[int] | None]) -> None:
        for stage, window in zip(self.stages, windows, strict=True):
            stage.trained_window = None if window is None else tuple(int(edge) for edge in window)

    def set_trained_windows(self, windows: int | Sequence[Sequence[int]]) -> None:
        """``trained_windows`` from one number for all, or one window a stage."""
        axes = len(self.patch_embed.patch)
        each = [(windows,) * axes] * len(self.layers) if isinstance(windows, int) else list(windows)
        if len(each) != len(self.layers) or any(len(window) != axes for window in each):
            raise ValueError(f"{len(self.layers)} windows of {axes} axes are needed, one a stage; got {each}")
        self.trained_windows = each

    def get_extra_state(self) -> torch.Tensor:
        """``trained_windows`` as (stages, axes), 0 for none. A tensor, because loaders compare shapes."""
        axes = len(self.patch_embed.patch)
        return torch.tensor([window or (0,) * axes for window in self.trained_windows])

    def set_extra_state(self, state: torch.Tensor) -> None:
        self.trained_windows = [tuple(window) if all(window) else None for window in state.tolist()]

    @staticmethod
    def initialize(module: nn.Module) -> None:
        """As its authors do: linear maps normal 0.02, truncated; each block begins as the identity."""
        truncated_normal(module)
        if isinstance(module, SwinV2Block):
            for parameter in (*module.norm1.parameters(), *module.norm2.parameters()):
                nn.init.zeros_(parameter)


class PatchEmbedding(nn.Module):
    """(B, C, *size) -> (B, *size / patch, width); sizes that the patch does not divide are padded at their end."""

    def __init__(self, input_channels: int, width: int, dimension: int, patch: Sequence[int]) -> None:
        super().__init__()
        self.patch = tuple(patch)
        self.proj = CONVOLUTIONS[dimension](input_channels, width, self.patch, stride=self.patch)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        ends = [-size % step for size, step in zip(x.shape[2:], self.patch, strict=True)]
        if any(ends):
            x = functional.pad(x, [edge for end in reversed(ends) for edge in (0, end)])
        return self.norm(self.proj(x).movedim(1, -1))


class PatchMerging(nn.Module):
    """(B, *size, C) -> (B, *size / stride, width): tokens of a cell side by side, the first axis fastest; linear;
    norm."""

    def __init__(self, channels: int, width: int, stride: Sequence[int]) -> None:
        super().__init__()
        self.stride = tuple(stride)
        self.reduction = nn.Linear(prod(self.stride) * channels, width, bias=False)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        axes = len(self.stride)
        ends = [-size % step for size, step in zip(x.shape[1:-1], self.stride, strict=True)]
        if any(ends):
            x = functional.pad(x, [0, 0, *(edge for end in reversed(ends) for edge in (0, end))])
        split = [n for size, step in zip(x.shape[1:-1], self.stride, strict=True) for n in (size // step, step)]
        x = x.reshape(x.shape[0], *split, x.shape[-1])
        x = x.permute(0, *range(1, 2 * axes, 2), *range(2 * axes, 0, -2), 2 * axes + 1)
        return self.norm(self.reduction(x.flatten(axes + 1)))


class SwinStage(nn.Module):
    """Merging, where the stage begins with one, and blocks whose windows are shifted in turn. (B, *size, C) in and
    out."""

    def __init__(self, merge: PatchMerging | None, blocks: Sequence[SwinV2Block], window: Sequence[int] | None) -> None:
        super().__init__()
        self.downsample: nn.Module = nn.Identity() if merge is None else merge
        self.blocks = nn.ModuleList(blocks)
        self.window = None if window is None else tuple(window)

    @property
    def trained_window(self) -> tuple[int, ...] | None:
        """That the weights of the position bias were trained with."""
        return cast(SwinV2Block, self.blocks[0]).attn.trained_window

    @trained_window.setter
    def trained_window(self, window: tuple[int, ...] | None) -> None:
        for block in self.blocks:
            cast(SwinV2Block, block).attn.trained_window = window

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.downsample(x)
        made: dict[bool, Tables] = {}  # within one forward pass: what follows from sizes is never kept
        for module in self.blocks:
            block = cast(SwinV2Block, module)
            if block.shifted not in made:
                made[block.shifted] = block.attn.tables(block.windows(x, self.window))
            x = block(x, self.window, made[block.shifted])
        return x
