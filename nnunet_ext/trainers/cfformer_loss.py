"""The loss that an article reports of CFFormer: logits in; targets as nnU-Net's augmentation makes them."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.trainers.losses import in_float32, masked_mean, soft_dice


class DiceCrossEntropyLoss(nn.Module):
    """0.5 cross-entropy + 0.5 Dice, as an article reports of CFFormer (arXiv 2501.03629), Dice as in ``soft_dice``.

    Args:
        regions: targets are overlapping regions: sigmoid and binary cross-entropy.
        ignore_label: pixels with this label count nowhere. Regions: the last target channel marks them.
    """

    def __init__(self, regions: bool = False, ignore_label: int | None = None) -> None:
        super().__init__()
        self.regions = regions
        self.ignore_label = ignore_label

    def forward(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Loss of logits (B, C, *spatial) for labels (B, 1, *spatial), or for regions (B, C[+1], *spatial)."""
        logits = in_float32(logits)
        if self.regions:
            if self.ignore_label is None:
                valid = torch.ones_like(target[:, :1], dtype=torch.bool)
            else:
                target, valid = target[:, :-1], ~target[:, -1:].bool()
            onehot = target.to(logits.dtype)
            entropy = -functional.logsigmoid(torch.where(target.bool(), logits, -logits))
            probabilities = logits.sigmoid()
        else:
            labels = target.long()
            valid = torch.ones_like(labels, dtype=torch.bool)
            if self.ignore_label is not None:
                valid = labels != self.ignore_label
            labels = torch.where(valid, labels, 0)
            log_p = functional.log_softmax(logits, dim=1)
            onehot = torch.zeros_like(log_p).scatter_(1, labels, 1)
            entropy = -log_p.gather(1, labels)
            probabilities = log_p.exp()
        return 0.5 * masked_mean(entropy, valid) + 0.5 * soft_dice(probabilities, onehot, valid)
