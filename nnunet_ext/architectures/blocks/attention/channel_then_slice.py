"""csA: channel attention, and slice attention of what it gives (one of the two series compared with the Progressive
Attention Module, Medical Physics, doi 10.1002/mp.15369).

Differences from the reference (the authors' code, Puzzled-Hui/AttentionBased-MIS), each undone by an argument:
    - the slices' ``max`` is a maximum (``slice_attention.py``): ``pooling_reference_quirks=True``.
    - the hidden biases start at 1 (``gate_mlp.py``): ``uniform_bias=True``.
"""

from __future__ import annotations

from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate, Descriptors, Gates, Pooling
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite


class SliceChannelSeries(DescriptorGate):
    """Channel and slice attention, each with weights of its own; a subclass says which comes first.

    (B, C, D, H, W) -> the same shape. (B, C, H, W) is one slice: channel attention alone is left.

    Args:
        channels: C.
        depth: slices of the map in training; other depths are interpolated.
        channel_reduction, slice_reduction: channels, slices over the hidden widths.
        channel_pooling, slice_pooling: what the channel and the slice weights read.
        pooling_reference_quirks: the slices' ``max`` pools the average.
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
        pooling_reference_quirks: bool = False,
        uniform_bias: bool = False,
    ) -> None:
        super().__init__()
        self.slices = SliceAttention(
            channels, depth, slice_reduction, slice_pooling, pooling_reference_quirks, uniform_bias=uniform_bias
        )
        self.channels = SqueezeExcite(channels, channel_reduction, channel_pooling, uniform_bias=uniform_bias)

    @property
    def with_maximum(self) -> bool:
        return self.slices.with_maximum or self.channels.with_maximum


class ChannelThenSlice(SliceChannelSeries):
    """csA: the slice weights read the map that the channel weights have scaled."""

    def gates(self, descriptors: Descriptors) -> Gates:
        channels = self.channels.weights(descriptors.over_slices())
        return Gates(self.slices.weights(descriptors.times(channels.unsqueeze(-1))), channels)
