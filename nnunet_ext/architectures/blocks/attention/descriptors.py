"""What gates read of a feature map, one number a slice and channel, and how a gate is applied to the map.

A slice is a plane across the first spatial axis, which nnU-Net's planner gives the largest spacing. A 2D map is one
slice. Everything that a gate needs of the whole volume is the mean and the maximum of each slice: gates lie within
(0, 1), so that scaling commutes with both, and the map is multiplied once, by the product of all gates.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, get_args

import torch
from torch import nn

from nnunet_ext.architectures.blocks.precision import at_least_float32, exact_mean, without_autocast

Pooling = Literal["avg", "max", "avg_and_max"]


def check_pooling(pooling: str) -> None:
    """
    Raises:
        ValueError: no such pooling.
    """
    if pooling not in get_args(Pooling):
        raise ValueError(f"the pooling of an attention block is one of {', '.join(get_args(Pooling))}; got {pooling!r}")


class Descriptors(NamedTuple):
    """Mean and maximum, each (B, C, D) of the slices or (B, C) of the volume; the maximum only where asked for."""

    average: torch.Tensor
    maximum: torch.Tensor | None = None

    def times(self, gate: torch.Tensor) -> Descriptors:
        """Of the map multiplied by a positive gate of the same shape, or one that broadcasts to it."""
        return Descriptors(self.average * gate, None if self.maximum is None else self.maximum * gate)

    def over_slices(self) -> Descriptors:
        """Of the whole volume."""
        return Descriptors(self.average.mean(-1), None if self.maximum is None else self.maximum.max(-1).values)

    def average_twice(self) -> Descriptors:
        """The average in the place of the maximum, which is what some published blocks pool under that name."""
        return Descriptors(self.average, self.average)

    def detached(self) -> Descriptors:
        return Descriptors(self.average.detach(), None if self.maximum is None else self.maximum.detach())


def slice_descriptors(x: torch.Tensor, with_maximum: bool) -> Descriptors:
    """Mean and maximum over the planes of (B, C, D, H, W), or of (B, C, H, W) with D = 1, in float32 at least."""
    planes = x.flatten(3) if x.ndim == 5 else x.flatten(2).unsqueeze(2)
    average = exact_mean(planes, (-1,))
    # max() hands its gradient to one voxel; amax() would compare the whole volume again to share it out among equals.
    return Descriptors(average, at_least_float32(planes.max(-1).values) if with_maximum else None)


def scaled(x: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """``x`` times a gate with its leading axes, for instance (B, C) or (B, C, D), in the precision of ``x``."""
    return x * gate.reshape(*gate.shape, *(1,) * (x.ndim - gate.ndim)).to(x.dtype)


class Gates(NamedTuple):
    """The gates of one call; None where a block has no such gate, or where it is 1 because there is one slice.

    ``slices`` is (B, C, D) within (0, 1), ``channels`` (B, C) within (0, 1), ``keys`` (B, C, D), true at key slices.
    """

    slices: torch.Tensor | None = None
    channels: torch.Tensor | None = None
    keys: torch.Tensor | None = None

    def product(self) -> torch.Tensor | None:
        """(B, C, D) or (B, C): what the map is multiplied by."""
        if self.slices is None or self.channels is None:
            return self.channels if self.slices is None else self.slices
        return self.slices * self.channels.unsqueeze(-1)


class DescriptorGate(nn.Module):
    """(B, C, D, H, W) or (B, C, H, W), times gates that depend on its slice descriptors alone: the same shape.

    A subclass says what gates follow from the descriptors (``gates``) and whether they need maxima.
    """

    @property
    def with_maximum(self) -> bool:
        raise NotImplementedError

    def gates(self, descriptors: Descriptors) -> Gates:
        raise NotImplementedError

    def gates_of(self, x: torch.Tensor) -> Gates:
        """The gates that ``forward`` multiplies by, in float32 at least, under autocast too."""
        with without_autocast(x):
            return self.gates(slice_descriptors(x, self.with_maximum))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate = self.gates_of(x).product()
        return x if gate is None else scaled(x, gate)
