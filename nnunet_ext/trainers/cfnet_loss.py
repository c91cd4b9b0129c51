"""The loss of CFNet: logits in, without softmax or sigmoid; targets as nnU-Net's augmentation makes them.

Y. Cheng, Y. Zheng, J. Wang, "CFNet: Automatic multi-modal brain tumor segmentation through hierarchical coarse-to-fine
fusion and feature communication", Biomedical Signal Processing and Control 2025, 106876,
doi 10.1016/j.bspc.2024.106876, and the authors' code (YaruC/CFNet).

Differences from the reference
- The focal term is the standard one: the code also rewards the wrong classes' log-probabilities (weight 0.75), with the
  target's modulating factor. That form is kept behind ``coded_focal`` for comparison.
- Regions and nnU-Net's ignore label work; the code knows four exclusive classes only.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.trainers.losses import in_float32, masked_mean, soft_dice

DICE_WEIGHT, FOCAL_WEIGHT = 0.6, 0.4
ALPHA, GAMMA = 0.25, 2


class DiceFocalLoss(nn.Module):
    """0.6 Dice + 0.4 focal loss of CFNet.

    Dice: per class over batch and space, ``1 - (2 sum(pt) + s) / (sum(p^2) + sum(t^2) + s)`` with s = 1e-5, mean over
    all classes, background included. Focal: ``-0.25 (1 - p_t)^2 log p_t``, mean over pixels (regions: and over
    channels).

    Args:
        regions: targets are overlapping regions, one channel each; sigmoid instead of softmax.
        ignore_label: pixels with this label count nowhere. Regions: the last target channel marks them.
        coded_focal: the focal term as in the authors' code (exclusive classes only): mean over batch, all classes c and
            pixels of ``-a_c (1 - p_t)^2 log p_c``, a_c = 0.25 for the target class and 0.75 for the others.
    """

    def __init__(self, regions: bool = False, ignore_label: int | None = None, coded_focal: bool = False) -> None:
        super().__init__()
        if regions and coded_focal:
            raise ValueError("the coded focal term needs exclusive classes; region-based training has none")
        self.regions = regions
        self.ignore_label = ignore_label
        self.coded_focal = coded_focal

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
        log_pt = log_p.gather(1, labels)
        focus = (1 - log_pt.exp()) ** GAMMA
        if self.coded_focal:
            weight = torch.where(onehot == 1, ALPHA, 1 - ALPHA)
            focal = masked_mean(-weight * focus * log_p, valid)
        else:
            focal = masked_mean(-ALPHA * focus * log_pt, valid)
        return DICE_WEIGHT * soft_dice(log_p.exp(), onehot, valid) + FOCAL_WEIGHT * focal

    def _regions(self, logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        if self.ignore_label is None:
            valid = torch.ones_like(target[:, :1], dtype=torch.bool)
        else:
            target, valid = target[:, :-1], ~target[:, -1:].bool()
        onehot = target.to(logits.dtype)
        log_pt = functional.logsigmoid(torch.where(target.bool(), logits, -logits))
        focal = masked_mean(-ALPHA * (1 - log_pt.exp()) ** GAMMA * log_pt, valid)
        return DICE_WEIGHT * soft_dice(logits.sigmoid(), onehot, valid) + FOCAL_WEIGHT * focal
