"""The two-layer perceptron behind every gate of this folder: descriptor in, logits out.

One perceptron may serve all channels (squeeze-and-excitation), or each channel or group of channels may have its own
(slice attention, split attention); then the weights of all of them are stacked, and one product serves all at once.

The hidden bias starts at 1. A descriptor that is taken behind a nonlinearity hardly differs between samples, so with
the bias of ``nn.Linear`` a hidden unit is dead for every sample with a probability near one half, and narrow gates
would start without any gradient. ``uniform_bias=True`` restores the bias of ``nn.Linear``, with which the published
networks start. The weights are bare parameters: nnU-Net and others redraw convolutions, and would set that bias to 0.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.attention.descriptors import Descriptors, Pooling
from nnunet_ext.architectures.blocks.precision import at_least_float32


def hidden_width(features: int, reduction: int, clamp: bool = True) -> int:
    """``features`` divided by ``reduction``, rounded down; at least 1 unless ``clamp`` is off.

    Raises:
        ValueError: ``reduction`` below 1.
    """
    if reduction < 1:
        raise ValueError(f"the reduction of an attention block must be at least 1; got {reduction}")
    return max(1, features // reduction) if clamp else features // reduction


class GateMLP(nn.Module):
    """Descriptor (B, features), or (B, groups, features), to logits (B, outputs), or (B, groups, outputs).

    Args:
        features: of one descriptor.
        hidden: units of the hidden layer. Without any (0) the logits are the last bias.
        outputs: as many as features unless given.
        groups: number of perceptrons, each with weights of its own. None is one perceptron without a group axis.
        negative_slope: of the nonlinearity; 0 is ReLU.
        uniform_bias: the hidden bias starts as that of ``nn.Linear`` instead of 1.
    """

    def __init__(
        self,
        features: int,
        hidden: int,
        outputs: int | None = None,
        groups: int | None = None,
        negative_slope: float = 0.0,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        outputs = features if outputs is None else outputs
        stack = () if groups is None else (groups,)
        self.hidden = hidden
        self.negative_slope = negative_slope
        self.product = "bf,hf->bh" if groups is None else "bgf,ghf->bgh"
        self.reduce_weight = nn.Parameter(torch.empty(*stack, hidden, features))
        self.reduce_bias = nn.Parameter(torch.empty(*stack, hidden))
        self.expand_weight = nn.Parameter(torch.empty(*stack, outputs, hidden))
        self.expand_bias = nn.Parameter(torch.empty(*stack, outputs))
        self.reset_parameters(uniform_bias)

    def reset_parameters(self, uniform_bias: bool = False) -> None:
        """Uniform within one over the root of the layer's inputs, as ``nn.Linear``, and the hidden bias as told."""
        within_reduce = 1 / math.sqrt(self.reduce_weight.shape[-1])
        within_expand = 1 / math.sqrt(self.hidden) if self.hidden else 0.0
        nn.init.uniform_(self.reduce_weight, -within_reduce, within_reduce)
        if uniform_bias:
            nn.init.uniform_(self.reduce_bias, -within_reduce, within_reduce)
        else:
            nn.init.constant_(self.reduce_bias, 1.0)
        nn.init.uniform_(self.expand_weight, -within_expand, within_expand)
        nn.init.uniform_(self.expand_bias, -within_expand, within_expand)

    def forward(self, descriptor: torch.Tensor) -> torch.Tensor:
        hidden = torch.einsum(self.product, descriptor, at_least_float32(self.reduce_weight)) + self.reduce_bias
        hidden = functional.leaky_relu(hidden, self.negative_slope) if self.negative_slope else hidden.relu()
        return torch.einsum(self.product, hidden, at_least_float32(self.expand_weight)) + self.expand_bias

    def pooled(self, descriptors: Descriptors, pooling: Pooling) -> torch.Tensor:
        """Logits of the average, of the maximum, or the sum of both, with the same weights."""
        if pooling == "avg":
            return self(descriptors.average)
        if pooling == "max":
            return self(descriptors.maximum)
        return self(descriptors.average) + self(descriptors.maximum)
