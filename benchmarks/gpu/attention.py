"""Pairs of attentions that compute the same, for part 3: which form is faster on this device."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from training import autocast

from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.swin_v2_block import SwinV2Block
from nnunet_ext.architectures.blocks.window_attention import WindowAttention
from nnunet_ext.architectures.blocks.windows import Windows

sys.path.append(str(Path(__file__).parents[1]))
from attention_loops import written_back

DTYPE = torch.float16
#: name of a form -> computes it; the base of the ratio first
Pair = dict[str, Callable[[], torch.Tensor]]


@dataclass(frozen=True)
class Shape:
    """Tokens of a grid, their channels, heads, and the window along each axis."""

    size: tuple[int, ...]
    channels: int
    heads: int
    window: int
    batch: int

    @property
    def name(self) -> str:
        grid = "x".join(map(str, self.size))
        return f"{grid}, {self.channels} channels, window {self.window}, batch {self.batch}"


# The first grids of Swin V2 on pictures of 224 and 256 pixels, and of CFFormer on 128^3 patches.
SHAPES = (
    Shape((56, 56), 128, 4, 7, 12),
    Shape((64, 64), 128, 4, 8, 12),
    Shape((64, 64), 96, 3, 16, 12),
    Shape((32, 32, 32), 96, 3, 4, 2),
)
TOY_SHAPES = (Shape((14, 14), 16, 2, 7, 1), Shape((16, 16), 16, 2, 8, 1))


class Absent(Exception):
    """What would be compared is not there."""


def fused_and_written_out(shape: Shape, device: torch.device) -> Pair:
    """Our windowed attention in both of its forms, shifted windows, one set of weights."""
    attention = WindowAttention(shape.channels, shape.heads, len(shape.size)).to(device)
    windows = Windows.over(shape.size, (shape.window,) * len(shape.size), shifted=True)
    image = torch.randn(shape.batch, *shape.size, shape.channels, device=device)
    tokens = windows.cut(image).detach().requires_grad_()
    tables = attention.tables(windows)
    return {
        "written out": lambda: attention(tokens, windows, fused=False, tables=tables),
        "fused": lambda: attention(tokens, windows, fused=True, tables=tables),
    }


def ours_and_timm(shape: Shape, device: torch.device) -> Pair:
    """One block of Swin V2 with shifted windows, equal weights.

    Raises:
        Absent: timm is not installed, or knows no such shape.
    """
    if len(shape.size) != 2:
        raise Absent("timm's block is 2D")
    try:
        from timm.models.swin_transformer_v2 import SwinTransformerV2Block
    except ImportError as error:
        raise Absent("timm is not installed") from error
    theirs = SwinTransformerV2Block(
        shape.channels, shape.size, shape.heads, window_size=shape.window, shift_size=shape.window // 2
    ).to(device)
    ours = SwinV2Block(shape.channels, shape.heads, 2, shifted=True).to(device)
    known = ours.state_dict()
    ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in known})
    image = torch.randn(shape.batch, *shape.size, shape.channels, device=device, requires_grad=True)
    window = (shape.window,) * 2
    return {"timm": lambda: theirs(image), "ours": lambda: ours(image, window)}


def progressive_and_loop(shape: Shape, device: torch.device) -> Pair:
    """The Progressive Attention Module, and the same written as the authors wrote it: a loop over channels.

    Raises:
        Absent: the shape has no slices.
    """
    if len(shape.size) != 3:
        raise Absent("a picture has one slice")
    block = ProgressiveAttention(shape.channels, shape.size[0]).to(device)
    image = torch.randn(shape.batch, shape.channels, *shape.size, device=device, requires_grad=True)
    return {"loop over channels": lambda: written_back(block, image), "vectorised": lambda: block(image)}


#: name -> what makes a pair
PAIRS: dict[str, Callable[[Shape, torch.device], Pair]] = {
    "windowed attention": fused_and_written_out,
    "Swin V2 block": ours_and_timm,
    "progressive attention": progressive_and_loop,
}


def passes(pair: Pair, device: torch.device) -> dict[str, dict[str, Callable[[], Any]]]:
    """``forward`` without gradient and ``step``, forward and backward, of both sides, under autocast."""

    def forward(call: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        def run() -> None:
            with torch.no_grad(), autocast(device, DTYPE):
                call()

        return run

    def step(call: Callable[[], torch.Tensor]) -> Callable[[], Any]:
        def run() -> None:
            with autocast(device, DTYPE):
                result = call()
            result.float().sum().backward()

        return run

    return {
        "forward": {name: forward(call) for name, call in pair.items()},
        "step": {name: step(call) for name, call in pair.items()},
    }


def difference(pair: Pair) -> float:
    """Relative difference of both results in float32: that they compute the same is part of the comparison."""
    with torch.no_grad():
        first, second = (call().float() for call in pair.values())
    return ((first - second).norm() / first.norm()).item()
