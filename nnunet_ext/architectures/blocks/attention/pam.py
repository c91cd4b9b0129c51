"""The Progressive Attention Module: slice attention, key slices, and channel attention that reads key slices alone
(Medical Physics, doi 10.1002/mp.15369; the abstract, the figure and the authors' code were at hand).

    slices    x1 = x * y, with y the slice weights (``slice_attention.py``)
    keys      K, the slices whose weight is above the mean (``key_slices.py``)
    channels  out = x1 * g, with g the channel weights of the mean of x1 over the key slices (``squeeze_excite.py``)

All of it depends on the mean (and maximum) of each slice, so the map is read once and multiplied once, for any batch.

Differences from the reference (the authors' code, Puzzled-Hui/AttentionBased-MIS), each undone by an argument:
    - the descriptor of the key slices carries gradient to the map and to slice attention; which slices are key slices
      never does. The published descriptor is cut off from both: ``detach_descriptor=True``.
    - the channels' ``max`` is the maximum over the key slices. The published one is the average, and ``avg_and_max``
      twice the logits of the average: ``pooling_reference_quirks=True``. (The slices' ``max`` is published as such.)
    - the hidden width of slice attention is at least 1: ``clamp_hidden=False`` restores the published rule.
    - the hidden biases start at 1 (``gate_mlp.py``): ``uniform_bias=True`` restores the published start.
The cast of key slices to float32 in the reference is not reproduced.
"""

from __future__ import annotations

from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate, Descriptors, Gates, Pooling
from nnunet_ext.architectures.blocks.attention.key_slices import key_slices, over_key_slices
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite


class ProgressiveAttention(DescriptorGate):
    """(B, C, D, H, W) -> the same shape. (B, C, H, W) is one slice: channel attention on the pooled map is left.

    Args:
        channels: C.
        depth: slices of the map in training; other depths are interpolated.
        channel_reduction, slice_reduction: channels, slices over the hidden widths.
        channel_pooling, slice_pooling: what the channel and the slice weights read.
        detach_descriptor: no gradient through what the channel weights read.
        pooling_reference_quirks: the channels' ``max`` pools the average.
        clamp_hidden: the hidden width of slice attention is at least 1.
        uniform_bias: the hidden biases start as published.
    """

    def __init__(
        self,
        channels: int,
        depth: int,
        channel_reduction: int = 8,
        slice_reduction: int = 16,
        channel_pooling: Pooling = "avg",
        slice_pooling: Pooling = "avg",
        detach_descriptor: bool = False,
        pooling_reference_quirks: bool = False,
        clamp_hidden: bool = True,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        self.detach_descriptor = detach_descriptor
        self.pooling_reference_quirks = pooling_reference_quirks
        self.slices = SliceAttention(
            channels, depth, slice_reduction, slice_pooling, clamp_hidden=clamp_hidden, uniform_bias=uniform_bias
        )
        self.channels = SqueezeExcite(channels, channel_reduction, channel_pooling, uniform_bias=uniform_bias)

    @property
    def with_maximum(self) -> bool:
        return self.slices.with_maximum or (self.channels.with_maximum and not self.pooling_reference_quirks)

    def gates(self, descriptors: Descriptors) -> Gates:
        weights = self.slices.weights(descriptors)
        if weights is None:
            keys, key_descriptors = None, descriptors.over_slices()
        else:
            keys = key_slices(weights)
            key_descriptors = over_key_slices(descriptors.times(weights), keys)
        if self.pooling_reference_quirks:
            key_descriptors = key_descriptors.average_twice()
        if self.detach_descriptor:
            key_descriptors = key_descriptors.detached()
        return Gates(weights, self.channels.weights(key_descriptors), keys)
