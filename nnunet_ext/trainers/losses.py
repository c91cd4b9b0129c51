"""What losses share: logits in, without softmax or sigmoid; targets as nnU-Net's augmentation makes them.

The loss of a family stands in a file of its own, ``trainers/<family>_loss.py``, and its row names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from nnunet_ext import families
from nnunet_ext.architectures.blocks.precision import at_least_float32

SMOOTH = 1e-5


def in_float32(output: Any) -> Any:
    """Half precision logits (one tensor or a list of them) as float32; float32 and float64 as they are."""
    if isinstance(output, (list, tuple)):
        return [in_float32(logits) for logits in output]
    return at_least_float32(output)


class Float32Loss(nn.Module):
    """Another loss on logits raised to float32: bfloat16 keeps 8 bits, too few for sums over a patch."""

    def __init__(self, loss: nn.Module) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, output: Any, target: Any) -> torch.Tensor:
        return self.loss(in_float32(output), target)


def follow_dice(loss: nn.Module, dice: Sequence[float]) -> None:
    """Hand the online Dice of the epoch before, per foreground class or region, to every part of a loss that asks for
    it, by a method ``follow``."""
    for part in loss.modules():
        follow = getattr(part, "follow", None)
        if follow is not None:
            follow(dice)


def soft_dice(probabilities: torch.Tensor, onehot: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Dice loss with squared sums over batch and space, mean over channels; all (B, C, *spatial), valid (B, 1,
    *spatial)."""
    axes = (0, *range(2, probabilities.ndim))
    intersection = (probabilities * onehot * valid).sum(axes)
    total = (probabilities.square() * valid).sum(axes) + (onehot.square() * valid).sum(axes)
    return (1 - (2 * intersection + SMOOTH) / (total + SMOOTH)).mean()


def masked_mean(values: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Over batch, channels and the pixels of ``valid`` (B, 1, *spatial); 0 where there is none."""
    return (values * valid).sum() / (valid.sum() * values.shape[1]).clamp(min=1)


def loss_of(key: str, regions: bool, ignore_label: int | None) -> nn.Module:
    """The loss of a family that a recipe names, as its row says.

    Raises:
        KeyError: there is none.
    """
    row = families.LOSSES[key]
    return families.load(row.class_path)(regions=regions, ignore_label=ignore_label, **row.options)
