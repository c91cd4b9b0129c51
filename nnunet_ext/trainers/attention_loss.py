"""The loss of the Progressive Attention Module's code: Dice and cross-entropy, with weights that follow the Dice.

"Progressive Attention Module for Segmentation of Volumetric Medical Images", Medical Physics, doi 10.1002/mp.15369, and
its code (Puzzled-Hui/AttentionBased-MIS on GitHub; none of it is used).

Differences from the reference
- Voxels of the background have weight 1 in the cross-entropy; the code gives them 0 once weights have been set, so that
  nothing there is learnt from it. ``background_weight=0`` computes the code's.
- Weights follow nnU-Net's online Dice of the epoch before, on validation patches; the code reads the training images.
  Before the first they are 1; the code reads them from a file that it does not hold.
- Regions and nnU-Net's ignore label work; the code knows exclusive classes only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.trainers.losses import SMOOTH, in_float32, masked_mean

#: what the worst class is taken to be below itself, so that its weight is finite
MARGIN = 0.05


def class_weights(dice: Sequence[float]) -> tuple[float, ...]:
    """Weights of the foreground classes from their Dice: of the median class 1, of the worst the largest.

    ``(median - m) / (dice - m)`` with ``m = min - 0.05``. A class of which no voxel was seen has no Dice, and gets 1.
    """
    known = [value for value in dice if math.isfinite(value)]
    if not known:
        return (1.0,) * len(dice)
    least = min(known) - MARGIN
    middle = median(known) - least
    return tuple(middle / (value - least) if math.isfinite(value) else 1.0 for value in dice)


class WeightedDiceCrossEntropyLoss(nn.Module):
    """Dice loss plus cross-entropy, whose voxels weigh as much as their class.

    Dice: per class over batch and space, ``1 - (2 sum(pt) + s) / (sum(p) + sum(t) + s)`` with s = 1e-5, mean over all
    classes, background included. Cross-entropy: mean over voxels of weight times ``-log p_t``; regions: binary, mean
    over voxels and regions, voxels of a region weigh as much as that region, those outside ``background_weight``.

    Args:
        regions: targets are overlapping regions, one channel each; sigmoid instead of softmax.
        ignore_label: voxels with this label count nowhere. Regions: the last target channel marks them.
        background_weight: of voxels of the background in the cross-entropy.
    """

    def __init__(self, regions: bool = False, ignore_label: int | None = None, background_weight: float = 1.0) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label
        self.background_weight = background_weight
        self.foreground_weights: tuple[float, ...] = ()

    def follow(self, dice: Sequence[float]) -> None:
        """Weigh the foreground classes, or the regions, by their Dice of the epoch before."""
        self.foreground_weights = class_weights([float(value) for value in dice])

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of logits (B, C, *spatial) for labels (B, 1, *spatial), or for regions (B, C[+1], *spatial)."""
        logits = in_float32(logits)
        if self.regions:
            return self._regions(logits, target)
        labels = target.long()
        valid = torch.ones_like(labels, dtype=torch.bool) if self.ignore_label is None else labels != self.ignore_label
        labels = torch.where(valid, labels, 0)
        log_p = functional.log_softmax(logits, dim=1)
        onehot = torch.zeros_like(log_p).scatter_(1, labels, 1)
        weights = logits.new_tensor((self.background_weight, *self._weights(logits.shape[1] - 1)))
        entropy = masked_mean(-weights[labels] * log_p.gather(1, labels), valid)
        return entropy + _dice(log_p.exp(), onehot, valid)

    def _regions(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.ignore_label is None:
            valid = torch.ones_like(target[:, :1], dtype=torch.bool)
        else:
            target, valid = target[:, :-1], ~target[:, -1:].bool()
        inside = target.bool()
        weights = logits.new_tensor(self._weights(logits.shape[1])).view(1, -1, *[1] * (logits.ndim - 2))
        weights = torch.where(inside, weights, self.background_weight)
        entropy = masked_mean(-weights * functional.logsigmoid(torch.where(inside, logits, -logits)), valid)
        return entropy + _dice(logits.sigmoid(), target.to(logits.dtype), valid)

    def _weights(self, count: int) -> tuple[float, ...]:
        return self.foreground_weights or (1.0,) * count


def _dice(probabilities: torch.Tensor, onehot: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """With linear denominators over batch and space, mean over channels; valid is (B, 1, *spatial)."""
    axes = (0, *range(2, probabilities.ndim))
    overlap = (probabilities * onehot * valid).sum(axes)
    total = (probabilities * valid).sum(axes) + (onehot * valid).sum(axes)
    return (1 - (2 * overlap + SMOOTH) / (total + SMOOTH)).mean()
