"""Where half precision would overflow or round too much: at least float32, autocast or not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Half precision raised to float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def exact_mean(x: torch.Tensor, axes: Sequence[int], keepdim: bool = False) -> torch.Tensor:
    """Mean over axes, in float32 at least; call it where autocast is off."""
    half = x.dtype in (torch.float16, torch.bfloat16)
    total = x.sum(tuple(axes), keepdim=keepdim, dtype=torch.float32 if half else x.dtype)
    # The gradient of a sum is a view of one value a mean; mean() would write it out, a whole map in float32.
    return total / math.prod([x.shape[axis] for axis in axes])


def without_autocast(x: torch.Tensor) -> torch.autocast:
    """Context in which autocast leaves operations on the device of ``x`` alone."""
    # torch.autocast refuses devices without it: meta, on which costs are counted, and mps in older releases.
    device = x.device.type
    return torch.autocast(device if device in ("cuda", "cpu") else "cpu", enabled=False)
