"""Key slices: those that slice attention weights above the mean, for each sample and channel (the middle of the
Progressive Attention Module, Medical Physics, doi 10.1002/mp.15369).

Differences from the reference (the authors' code, Puzzled-Hui/AttentionBased-MIS):
    - of weights that are all equal, every slice is a key slice, as in exact arithmetic. In the reference rounding can
      put them all below their mean, and nothing is selected: for 36 of the depths up to 256, whereupon it fails.
    - every sample has its own key slices; the reference is for one sample, and moves every slice to the host.
"""

from __future__ import annotations

import torch

from nnunet_ext.architectures.blocks.attention.descriptors import Descriptors


def key_slices(weights: torch.Tensor) -> torch.Tensor:
    """Weights (B, C, D) within (0, 1) -> (B, C, D), true where the softmax over slices is at least its mean.

    At least one slice of each channel is selected. Without gradient.
    """
    shares = weights.detach().softmax(-1)
    selected = shares >= shares.mean(-1, keepdim=True)
    return selected | ~selected.any(-1, keepdim=True)


def over_key_slices(descriptors: Descriptors, keys: torch.Tensor) -> Descriptors:
    """(B, C, D) of the slices -> (B, C), mean and maximum of the key slices, of which each channel has one or more."""
    average, maximum = descriptors
    selected = keys.to(average.dtype)
    mean = (average * selected).sum(-1) / selected.sum(-1)
    if maximum is None:
        return Descriptors(mean)
    return Descriptors(mean, maximum.masked_fill(~keys, -torch.inf).max(-1).values)
