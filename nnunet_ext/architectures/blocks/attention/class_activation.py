"""Class activation: where in the image a linear classifier of the pooled map finds its classes (B. Zhou et al., CVPR
2016, doi 10.1109/CVPR.2016.319).

The paper's map is a read-out (``class_maps``): the classifier's weights applied to each voxel instead of to the mean.
As attention, the maps of all classes, each weighted by how likely the classifier finds it in the image, become one
weight for each voxel. This step is ours; the paper has none. It needs no label of the image: the classifier learns
through the segmentation, and an auxiliary loss on ``scores`` may help it.
"""

from __future__ import annotations

import math

import torch
from torch import nn

from nnunet_ext.architectures.blocks.precision import at_least_float32, exact_mean, without_autocast


class ClassActivation(nn.Module):
    """(B, C, *spatial) -> the same shape.

    Args:
        channels: C.
        classes: K, of the classifier.
    """

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        within = 1 / math.sqrt(channels)
        self.weight = nn.Parameter(torch.empty(classes, channels).uniform_(-within, within))

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """(B, K), logits of the classes in the whole image, in float32 at least."""
        with without_autocast(x):
            return exact_mean(x.flatten(2), (-1,)) @ self.weight.T

    def class_maps(self, x: torch.Tensor) -> torch.Tensor:
        """(B, K, *spatial); the mean of a map is the score of its class."""
        return torch.einsum("kc,bc...->bk...", self.weight.to(x.dtype), x)

    def attention_map(self, x: torch.Tensor) -> torch.Tensor:
        """(B, 1, *spatial) within (0, 1), in float32 at least."""
        with without_autocast(x):
            combined = self.scores(x).softmax(-1) @ self.weight
            logits = combined.unsqueeze(1) @ at_least_float32(x).flatten(2)
            return logits.sigmoid().view(x.shape[0], 1, *x.shape[2:])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.attention_map(x).to(x.dtype)
