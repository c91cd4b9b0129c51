"""Windows of an n-dimensional grid of tokens: cutting, shifting, padding, and who may attend to whom.

After Swin Transformer (Liu et al., ICCV 2021, doi 10.1109/ICCV48922.2021.00986), in any number of dimensions.
Difference from it: a grid that the windows do not divide is padded at the end of its axes *before* the shift, and
padded tokens are never attended to. ``attend_to_padding`` gives what torchvision's code does instead.

Everything follows from sizes alone, is made of Python integers and comparisons, and is never stored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch.nn import functional

# Finite, because a row of -inf gives NaN and NaN gradients.
NEVER = -1e30


@dataclass(frozen=True)
class Windows:
    """The windows over one grid.

    Attributes:
        size: tokens of the grid along each axis.
        window: tokens of a window along each axis.
        shift: by how many tokens the windows are moved along each axis.
        attend_to_padding: whether the tokens that padding adds are attended to like others.
    """

    size: tuple[int, ...]
    window: tuple[int, ...]
    shift: tuple[int, ...]
    attend_to_padding: bool = False

    @classmethod
    def over(
        cls, size: Sequence[int], target: Sequence[int], shifted: bool, attend_to_padding: bool = False
    ) -> Windows:
        """Windows of at most ``target``, or with ``attend_to_padding`` always of it: a smaller grid is padded to one
        window. Shifted by half of the target on axes that hold more than one window."""
        window = tuple(target if attend_to_padding else (min(t, s) for t, s in zip(target, size, strict=True)))
        shift = tuple(t // 2 if shifted and s > w else 0 for t, s, w in zip(target, size, window, strict=True))
        return cls(tuple(size), window, shift, attend_to_padding)

    @property
    def padded(self) -> tuple[int, ...]:
        """Size of the grid once the windows divide it."""
        return tuple(-(-s // w) * w for s, w in zip(self.size, self.window, strict=True))

    @property
    def tokens(self) -> int:
        """Tokens of one window."""
        return prod(list(self.window))

    @property
    def hides_padding(self) -> bool:
        return self.padded != self.size and not self.attend_to_padding

    @property
    def needs_mask(self) -> bool:
        return self.hides_padding or any(self.shift)

    def cut(self, x: torch.Tensor) -> torch.Tensor:
        """(B, *size, C) -> (B, number of windows, tokens, C)."""
        axes = len(self.size)
        if self.padded != self.size:
            ends = [p - s for s, p in zip(self.size, self.padded, strict=True)]
            x = functional.pad(x, [0, 0, *(edge for end in reversed(ends) for edge in (0, end))])
        if any(self.shift):
            x = x.roll([-s for s in self.shift], list(range(1, axes + 1)))
        split = [n for p, w in zip(self.padded, self.window, strict=True) for n in (p // w, w)]
        x = x.reshape(x.shape[0], *split, x.shape[-1])
        x = x.permute(0, *range(1, 2 * axes, 2), *range(2, 2 * axes + 1, 2), 2 * axes + 1)
        return x.reshape(x.shape[0], -1, self.tokens, x.shape[-1])

    def join(self, x: torch.Tensor) -> torch.Tensor:
        """The inverse of ``cut``."""
        axes = len(self.size)
        counts = [p // w for p, w in zip(self.padded, self.window, strict=True)]
        x = x.reshape(x.shape[0], *counts, *self.window, x.shape[-1])
        order = [axis for a in range(axes) for axis in (1 + a, 1 + axes + a)]
        x = x.permute(0, *order, 2 * axes + 1).reshape(x.shape[0], *self.padded, x.shape[-1])
        if any(self.shift):
            x = x.roll(list(self.shift), list(range(1, axes + 1)))
        if self.padded != self.size:
            for axis, size in enumerate(self.size, start=1):
                x = x.narrow(axis, 0, size)
        return x

    def mask(self, like: torch.Tensor, mask_value: float) -> torch.Tensor | None:
        """What is added to the logits: (number of windows, tokens, tokens), or None where nothing is.

        Tokens that a shift has brought together from opposite ends get ``mask_value``. A padded token is attended to by
        itself alone, unless ``attend_to_padding`` is set.

        Args:
            like: device and dtype.
            mask_value: -100 as published, which still lets logits above it through, or ``NEVER``.
        """
        if not self.needs_mask:
            return None
        labels = torch.zeros((1, *self.padded, 1), dtype=torch.long, device=like.device)
        real = torch.ones((1, *self.padded, 1), dtype=torch.bool, device=like.device)
        for axis, (size, padded, window, shift) in enumerate(
            zip(self.size, self.padded, self.window, self.shift, strict=True), start=1
        ):
            position = torch.arange(padded, device=like.device)
            view = [1] * labels.ndim
            view[axis] = padded
            if shift:
                label = (position >= padded - window).long() + (position >= padded - shift).long()
                labels = 3 * labels + label.view(view)
            real = real & (((position + shift) % padded) < size).view(view)
        # The positions are those after the shift already, so that windows are cut without another one.
        still = Windows(self.padded, self.window, (0,) * len(self.size))
        labels = still.cut(labels)[0, :, :, 0]
        real = still.cut(real)[0, :, :, 0]
        mask = (labels.unsqueeze(1) != labels.unsqueeze(2)).to(like.dtype) * mask_value
        if not self.hides_padding:
            return mask
        itself = torch.eye(self.tokens, dtype=torch.bool, device=like.device)
        return mask.masked_fill(~(real.unsqueeze(1) | itself), NEVER)


def relative_coordinates(
    window: Sequence[int], trained_window: Sequence[int] | None, like: torch.Tensor
) -> torch.Tensor:
    """Distances between two tokens of a window on Swin V2's logarithmic scale: (prod(2 w - 1), axes).

    Args:
        window: tokens along each axis.
        trained_window: window that the weights were trained with, which sets the scale; None: this one.
        like: device, and dtype of the result.
    """
    axes = []
    for axis, w in enumerate(window):
        trained = w if trained_window is None else trained_window[axis]
        # In float32 whatever the weights are, as timm does: the published weights were trained with these roundings.
        distance = torch.arange(-(w - 1), w, device=like.device, dtype=torch.float32)
        # A window of one has no distances; published code divides by zero there.
        scaled = 8.0 * distance / max(trained - 1, 1)
        axes.append(scaled.sign() * (scaled.abs() + 1.0).log2() / 3.0)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2).to(like.dtype)


def relative_index(window: Sequence[int], device: torch.device) -> torch.Tensor:
    """Row of ``relative_coordinates`` for each pair of tokens of a window: (tokens, tokens)."""
    positions = torch.meshgrid(*(torch.arange(w, device=device) for w in window), indexing="ij")
    index = torch.zeros((), dtype=torch.long, device=device)
    for position, w in zip(positions, window, strict=True):
        flat = position.flatten()
        index = index * (2 * w - 1) + flat.unsqueeze(1) - flat.unsqueeze(0) + w - 1
    return index
