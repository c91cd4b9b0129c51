"""Slice attention: each slice of each channel weighted by what all slices of that channel say (the first half of the
Progressive Attention Module, Medical Physics, doi 10.1002/mp.15369).

Each channel has a perceptron of its own from the D numbers of its slices to D weights, so the weights of the block
belong to one depth. A map of another depth is met by linear interpolation along the slices: its descriptors are
brought to the block's depth, and the logits back. One slice alone has nothing to be weighted against: its weight is 1.

Differences from the reference (the authors' code, Puzzled-Hui/AttentionBased-MIS), each undone by an argument:
    - ``max`` is the maximum of a slice. The modules of csA and scA pool the average under this name, and twice the
      logits of the average under ``avg_and_max``: ``pooling_reference_quirks=True``.
    - the hidden width is at least 1. The module of PAM divides without a limit, and its weights become constants where
      the depth is below the reduction: ``clamp_hidden=False``.
    - the hidden bias starts at 1 (``gate_mlp.py``): ``uniform_bias=True`` restores the published start.
Not reproduced: one sample a batch only, the loop over channels, and the input overwritten in place, which makes the
backward pass of the reference fail behind some activations.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional

from nnunet_ext.architectures.blocks.attention.descriptors import (
    DescriptorGate,
    Descriptors,
    Gates,
    Pooling,
    check_pooling,
)
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP, hidden_width


class SliceAttention(DescriptorGate):
    """(B, C, D, H, W) -> the same shape; (B, C, H, W), which is one slice, is returned as it is.

    Args:
        channels: C.
        depth: slices of the map in training. With 1 the block is the identity, at every depth, and has no weights.
        reduction: depth over the hidden width.
        pooling: what is taken of a slice: its mean, its maximum, or both through the same perceptron, summed.
        pooling_reference_quirks: ``max`` pools the average, as in csA and scA.
        clamp_hidden: the hidden width is at least 1.
        uniform_bias: the hidden bias starts as published.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        reduction: int = 16,
        pooling: Pooling = "avg",
        pooling_reference_quirks: bool = False,
        clamp_hidden: bool = True,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        check_pooling(pooling)
        if depth < 1:
            raise ValueError(f"slice attention needs at least one slice; got a depth of {depth}")
        self.depth = depth
        self.pooling = pooling
        self.pooling_reference_quirks = pooling_reference_quirks
        self.mlp: GateMLP | None = None
        if depth > 1:
            hidden = hidden_width(depth, reduction, clamp_hidden)
            self.mlp = GateMLP(depth, hidden, groups=channels, uniform_bias=uniform_bias)

    @property
    def with_maximum(self) -> bool:
        return self.mlp is not None and self.pooling != "avg" and not self.pooling_reference_quirks

    def weights(self, descriptors: Descriptors) -> torch.Tensor | None:
        """(B, C, D) of the slices -> weights (B, C, D) within (0, 1); None stands for ones."""
        depth = descriptors.average.shape[-1]
        if self.mlp is None or depth == 1:
            return None
        if self.pooling_reference_quirks:
            descriptors = descriptors.average_twice()
        average, maximum = descriptors
        fitting = Descriptors(
            resized_depth(average, self.depth), None if maximum is None else resized_depth(maximum, self.depth)
        )
        return resized_depth(self.mlp.pooled(fitting, self.pooling), depth).sigmoid()

    def gates(self, descriptors: Descriptors) -> Gates:
        return Gates(slices=self.weights(descriptors))


def resized_depth(x: torch.Tensor, depth: int) -> torch.Tensor:
    """(A, B, D) interpolated linearly to ``depth`` along its last axis, corners not aligned; as it is if equal."""
    if not x.numel():  # a published module without hidden numbers
        return x.new_empty((*x.shape[:-1], depth))
    return x if x.shape[-1] == depth else functional.interpolate(x, size=depth, mode="linear", align_corners=False)


def resized_weights(state: Mapping[str, torch.Tensor], depth: int) -> dict[str, torch.Tensor]:
    """The state dict of a ``SliceAttention``, made to fit one of another depth and the same hidden width.

    The first layer reads an interpolated descriptor, its weights scaled so that their sum stays; the last layer writes
    interpolated logits. For descriptors that are equal in all slices and a whole multiple of the old depth, the new
    logits are exactly the old ones interpolated; otherwise nearly.
    """
    resized = dict(state)
    reduce, expand = state["mlp.reduce_weight"], state["mlp.expand_weight"]
    resized["mlp.reduce_weight"] = resized_depth(reduce, depth) * (reduce.shape[-1] / depth)
    resized["mlp.expand_weight"] = resized_depth(expand.transpose(1, 2), depth).transpose(1, 2).contiguous()
    resized["mlp.expand_bias"] = resized_depth(state["mlp.expand_bias"].unsqueeze(0), depth).squeeze(0)
    return resized
