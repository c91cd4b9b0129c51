"""Where half precision would overflow or round too much: at least float32, autocast or not."""

from __future__ import annotations

import torch


def at_least_float32(x: torch.Tensor) -> torch.Tensor:
    """Half precision raised to float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def without_autocast(x: torch.Tensor) -> torch.autocast:
    """Context in which autocast leaves operations on the device of ``x`` alone."""
    # torch.autocast refuses devices without it: meta, on which costs are counted, and mps in older releases.
    device = x.device.type
    return torch.autocast(device if device in ("cuda", "cpu") else "cpu", enabled=False)
