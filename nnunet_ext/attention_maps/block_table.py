"""Which blocks have something to show, what it is and how to read it: one row a block.

A row names the method by which the block's own ``forward`` gets its weights. What that method returns while the network
runs is recorded (``recorder.py``), so that what is shown is what was multiplied, and a block needs nothing beyond that
method. A new block adds its row to ``BLOCKS``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.cbam import CBAM
from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention
from nnunet_ext.architectures.blocks.attention.class_activation import ClassActivation
from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate, Gates
from nnunet_ext.architectures.blocks.attention.project_excite import ProjectExcite
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.modality_fusion import ModalityFusion
from nnunet_ext.architectures.blocks.multi_scale_context import MultiScaleContext


class Kind(Enum):
    """What the numbers belong to; the value is the word for it in ``maps.json``."""

    VOXELS = "voxels"
    SLICES = "slices"
    CHANNELS = "channels"
    MATRIX = "matrix"


@dataclass(frozen=True)
class Observation:
    """What one call of a block shows of the one sample in its batch.

    Attributes:
        name: of it within its block, such as ``"slices"``.
        kind: what the numbers belong to.
        values: (*spatial) for voxels; (D,) for slices; (groups, C) for channels; (groups, rows, columns) for a matrix.
        spatial: size of the feature map that the block works on.
    """

    name: str
    kind: Kind
    values: torch.Tensor
    spatial: tuple[int, ...]


#: the block, the arguments of the call and its result -> what they show
Reader = Callable[[Any, Sequence[Any], Any], Iterator[Observation]]


@dataclass(frozen=True, eq=False)
class BlockRow:
    """A block that has something to show.

    Attributes:
        block: class; its subclasses have this row too.
        method: by which ``forward`` gets the weights.
        read: what a call of that method shows.
        how_to_read: name of an observation, or its beginning -> what it is and how to read it, one sentence or two.
    """

    block: type[nn.Module]
    method: str
    read: Reader
    how_to_read: dict[str, str]

    def explained(self, name: str) -> str:
        """How to read the observation of a name."""
        return next(text for beginning, text in self.how_to_read.items() if name.startswith(beginning))


def _spatial(x: torch.Tensor) -> tuple[int, ...]:
    return tuple(x.shape[2:])


def _gates(block: DescriptorGate, arguments: Sequence[Any], gates: Gates) -> Iterator[Observation]:
    spatial = _spatial(arguments[0])
    if gates.slices is not None:
        yield Observation("slices", Kind.SLICES, gates.slices[0].mean(0), spatial)
    if gates.keys is not None:
        yield Observation("keys", Kind.SLICES, gates.keys[0].float().mean(0), spatial)
    if gates.channels is not None:
        yield Observation("channels", Kind.CHANNELS, gates.channels, spatial)


def _voxel_map(block: nn.Module, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    """(B, C, *spatial), of which the mean over C is shown."""
    yield Observation("voxels", Kind.VOXELS, found[0].mean(0), _spatial(found))


def _gate_map(block: nn.Module, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    yield Observation("gate", Kind.VOXELS, found[0].mean(0), _spatial(found))


def _project_excite(block: ProjectExcite, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    if found.ndim > 2:
        yield from _voxel_map(block, arguments, found)
    else:
        yield Observation("channels", Kind.CHANNELS, found, _spatial(arguments[0]))


def _class_activation(block: ClassActivation, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    yield from _voxel_map(block, arguments, found)
    for number, values in enumerate(block.class_maps(arguments[0])[0]):
        yield Observation(f"class_{number}", Kind.VOXELS, values, _spatial(found))


def _channel_matrix(block: nn.Module, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    yield Observation("matrix", Kind.MATRIX, found, _spatial(arguments[0]))


def _candidates(block: nn.Module, arguments: Sequence[Any], found: torch.Tensor) -> Iterator[Observation]:
    """(B, candidates, C), weights of (B, candidates, C, *spatial)."""
    yield Observation("channels", Kind.CHANNELS, found[0], tuple(arguments[0].shape[3:]))


def _fusion(
    block: ModalityFusion, arguments: Sequence[Any], found: tuple[list[torch.Tensor], list[torch.Tensor]]
) -> Iterator[Observation]:
    spatial = _spatial(arguments[0])
    for number, context in enumerate(found[0], 1):
        yield Observation(f"context_{number}", Kind.MATRIX, context[0], spatial)
    for number, message in enumerate(found[1], 1):
        strength = message[0].float().square().mean(-1).sqrt()
        yield Observation(f"message_{number}", Kind.VOXELS, strength.reshape(spatial), spatial)


def _exchange(
    block: ChannelExchange, arguments: Sequence[Any], found: tuple[torch.Tensor, torch.Tensor]
) -> Iterator[Observation]:
    for name, matrix in zip(("to_convolutional", "to_transformer"), found, strict=True):
        yield Observation(name, Kind.MATRIX, matrix, _spatial(arguments[0]))


#: the table
BLOCKS: tuple[BlockRow, ...] = (
    BlockRow(
        DescriptorGate,
        "gates_of",
        _gates,
        {
            "slices": "slice weights between 0 and 1, mean over channels: slices with more are passed on more",
            "keys": "share of channels for which a slice is a key slice, which the channel weights are read from",
            "channels": "channel weights between 0 and 1: each channel of the map is multiplied by its own",
        },
    ),
    BlockRow(
        AttentionGate,
        "attention_map",
        _gate_map,
        {"gate": "gate between 0 and 1: what it lets through of the skip at each voxel, all channels alike"},
    ),
    BlockRow(
        CBAM,
        "attention_map",
        _voxel_map,
        {"voxels": "weight between 0 and 1 of each voxel, all channels alike, behind the channel weights"},
    ),
    BlockRow(
        ClassActivation,
        "attention_map",
        _class_activation,
        {
            "voxels": "weight between 0 and 1 of each voxel, all channels alike",
            "class_": "class activation map: logit of one class of the block's own classifier at each voxel, a "
            "read-out that nothing is multiplied by",
        },
    ),
    BlockRow(
        ProjectExcite,
        "weights",
        _project_excite,
        {
            "voxels": "weight between 0 and 1 of each voxel, mean over channels, each of which has its own",
            "channels": "channel weights between 0 and 1, the same for every image",
        },
    ),
    BlockRow(
        ChannelSelfAttention,
        "weights",
        _channel_matrix,
        {"matrix": "row: a channel; column: what it is given of each channel, times the learned factor of the block"},
    ),
    BlockRow(
        SplitAttention,
        "weights",
        _candidates,
        {"channels": "weight of each candidate of a channel in their sum; over the candidates they sum to 1"},
    ),
    BlockRow(
        ModalityFusion,
        "crossing",
        _fusion,
        {
            "context_": "channel context of one encoder, a matrix a head; row: key channel, column: value channel; "
            "every column sums to 1. The other encoder reads it",
            "message_": "root mean square over channels of what an encoder reads from the other one's context at each "
            "voxel, which is added to its own features: no weight, and without an upper bound",
        },
    ),
    BlockRow(
        MultiScaleContext,
        "branch_weights",
        _candidates,
        {
            "channels": "weight of each dilated branch (1, 2, 3, 4) in the sum of a channel; over the branches they "
            "sum to 1, in the published form over branches and channels together"
        },
    ),
    BlockRow(
        GatedCommunication,
        "gate_map",
        _gate_map,
        {"gate": "gate between 0 and 1, mean over channels: what it lets through of the skip at each voxel"},
    ),
    BlockRow(
        ChannelExchange,
        "matrices",
        _exchange,
        {
            "to_convolutional": "row: a channel of the convolutional encoder; column: what it takes of each channel of "
            "the transformer; every row sums to 1",
            "to_transformer": "row: a channel of the transformer; column: what it takes of each channel of the "
            "convolutional encoder; every row sums to 1",
        },
    ),
)


def row_of(module: nn.Module) -> BlockRow | None:
    """The row of a module, if it has something to show."""
    return next((row for row in BLOCKS if isinstance(module, row.block)), None)
