"""A wrong input told in words, before a convolution or a concatenation stumbles over it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch


def total_strides(strides: Sequence[Sequence[int]]) -> tuple[int, ...]:
    """Product of all stages' strides along each axis: what must divide an input's size."""
    return tuple(math.prod(axis) for axis in zip(*strides, strict=True))


def check_input(x: torch.Tensor, channels: int, divisors: Sequence[int]) -> None:
    """
    Raises:
        ValueError: ``x`` is not (B, channels, *spatial) with one spatial axis a divisor and sizes they divide.
    """
    if x.ndim != len(divisors) + 2 or x.shape[1] != channels:
        raise ValueError(
            f"this network takes (batch, {channels} channels, {len(divisors)} spatial axes); got {tuple(x.shape)}"
        )
    if any(size % divisor for size, divisor in zip(x.shape[2:], divisors, strict=True)):
        fitting = tuple(-(-size // divisor) * divisor for size, divisor in zip(x.shape[2:], divisors, strict=True))
        raise ValueError(
            f"the strides of this network need sizes that are multiples of {tuple(divisors)}; got "
            f"{tuple(x.shape[2:])}: pad to {fitting}"
        )
