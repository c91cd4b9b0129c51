"""Attention blocks, one idea a file, and the table in which networks and plans files find them by name."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any

from torch import nn

from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.cbam import CBAM
from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention
from nnunet_ext.architectures.blocks.attention.channel_then_slice import ChannelThenSlice
from nnunet_ext.architectures.blocks.attention.class_activation import ClassActivation
from nnunet_ext.architectures.blocks.attention.dual_attention import DualAttention
from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.attention.position_attention import PositionAttention
from nnunet_ext.architectures.blocks.attention.project_excite import ProjectExcite
from nnunet_ext.architectures.blocks.attention.residual_squeeze_excite import ResidualSqueezeExcite
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.slice_then_channel import SliceThenChannel
from nnunet_ext.architectures.blocks.attention.spatial_transformer import SpatialTransformer
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite


class Placement(Enum):
    """Where a block stands in a network."""

    STAGE = "behind the last nonlinearity of every stage; keeps the shape"
    DEEPEST = "behind the deepest stages, where few voxels are left; keeps the shape"
    SECOND_CONVOLUTION = "in the place of the second convolution of a stage"
    CONVOLUTIONS = "in the place of all convolutions of a stage"
    SKIP = "on a skip; takes the coarser map, too"
    INPUT = "before the first stage; what the network returns must be transformed back"


@dataclass(frozen=True)
class Attention:
    """A block, where it stands, and what its constructor takes of that place before its own options."""

    block: type[nn.Module]
    placement: Placement
    takes: tuple[str, ...] = ("channels",)


#: name in a plans file -> block
ATTENTION: dict[str, Attention] = {
    "se": Attention(SqueezeExcite, Placement.STAGE),
    "slice": Attention(SliceAttention, Placement.STAGE, ("channels", "depth")),
    "csa": Attention(ChannelThenSlice, Placement.STAGE, ("channels", "depth")),
    "sca": Attention(SliceThenChannel, Placement.STAGE, ("channels", "depth")),
    "pam": Attention(ProgressiveAttention, Placement.STAGE, ("channels", "depth")),
    "pe": Attention(ProjectExcite, Placement.STAGE),
    "cbam": Attention(CBAM, Placement.STAGE, ("layers", "channels")),
    "cam": Attention(ClassActivation, Placement.DEEPEST, ("channels", "classes")),
    "position": Attention(PositionAttention, Placement.DEEPEST, ("layers", "channels")),
    "channel": Attention(ChannelSelfAttention, Placement.DEEPEST, ()),
    "dual": Attention(DualAttention, Placement.DEEPEST, ("layers", "channels")),
    "split": Attention(SplitAttention, Placement.SECOND_CONVOLUTION, ("layers", "channels")),
    "se_residual": Attention(ResidualSqueezeExcite, Placement.CONVOLUTIONS, ("layers", "channels", "out_channels")),
    "gate": Attention(AttentionGate, Placement.SKIP, ("layers", "channels", "gate_channels", "stride")),
    "stn": Attention(SpatialTransformer, Placement.INPUT, ("channels", "dimension")),
}


def attention(name: str) -> Attention:
    """The row of a name.

    Raises:
        ValueError: no such attention.
    """
    if name not in ATTENTION:
        raise ValueError(f"there is no attention {name!r}; choose one of {', '.join(ATTENTION)}")
    return ATTENTION[name]


def attention_block(name: str, place: dict[str, Any], **options: Any) -> nn.Module:
    """The block of a name for a place in a network.

    ``place`` says what the network knows there: ``layers``, ``channels``, ``depth`` and so on; a block takes what it
    needs. ``options`` are the block's own, for instance ``slice_reduction=8``.

    Raises:
        ValueError: no such attention.
    """
    row = attention(name)
    return row.block(**{argument: place[argument] for argument in row.takes}, **options)
