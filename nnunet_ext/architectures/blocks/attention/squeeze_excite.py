"""Squeeze-and-excitation: each channel weighted by what the whole volume says (J. Hu et al., CVPR 2018, arXiv
1709.01507).

Put it behind a nonlinearity. Directly behind an instance norm the mean of a channel is the bias of the norm, whatever
the image, and the weights would be constants.

Differences from the channel attention of the PAM networks (doi 10.1002/mp.15369), which is this block otherwise:
    - the hidden bias starts at 1 (``gate_mlp.py``): ``uniform_bias=True`` restores the published start.
"""

from __future__ import annotations

import torch

from nnunet_ext.architectures.blocks.attention.descriptors import (
    DescriptorGate,
    Descriptors,
    Gates,
    Pooling,
    check_pooling,
)
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP, hidden_width


class SqueezeExcite(DescriptorGate):
    """(B, C, *spatial) -> the same shape, in 2D and in 3D.

    Args:
        channels: C.
        reduction: C over the hidden width, which is at least 1.
        pooling: what is taken of the volume: its mean, its maximum, or both through the same perceptron, summed.
        negative_slope: of the perceptron's nonlinearity; 0 is ReLU.
        uniform_bias: the hidden bias starts as published.
    """

    def __init__(
        self,
        channels: int,
        reduction: int = 8,
        pooling: Pooling = "avg",
        negative_slope: float = 0.0,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        check_pooling(pooling)
        self.pooling = pooling
        self.mlp = GateMLP(
            channels, hidden_width(channels, reduction), negative_slope=negative_slope, uniform_bias=uniform_bias
        )

    @property
    def with_maximum(self) -> bool:
        return self.pooling != "avg"

    def weights(self, descriptors: Descriptors) -> torch.Tensor:
        """(B, C) of the volume -> weights (B, C) within (0, 1)."""
        return self.mlp.pooled(descriptors, self.pooling).sigmoid()

    def gates(self, descriptors: Descriptors) -> Gates:
        return Gates(channels=self.weights(descriptors.over_slices()))
