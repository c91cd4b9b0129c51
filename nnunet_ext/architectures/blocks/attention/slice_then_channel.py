"""scA: slice attention, and channel attention of what it gives (one of the two series compared with the Progressive
Attention Module, Medical Physics, doi 10.1002/mp.15369). Options and differences are those of csA
(``channel_then_slice.py``)."""

from __future__ import annotations

from nnunet_ext.architectures.blocks.attention.channel_then_slice import SliceChannelSeries
from nnunet_ext.architectures.blocks.attention.descriptors import Descriptors, Gates


class SliceThenChannel(SliceChannelSeries):
    """scA: the channel weights read the map that the slice weights have scaled."""

    def gates(self, descriptors: Descriptors) -> Gates:
        slices = self.slices.weights(descriptors)
        attended = descriptors if slices is None else descriptors.times(slices)
        return Gates(slices, self.channels.weights(attended.over_slices()))
