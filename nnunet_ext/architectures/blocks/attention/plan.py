"""Which attention a network has, with which options, and how many slices each of its stages has."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from nnunet_ext.architectures.blocks.attention import Placement, attention, attention_block
from nnunet_ext.architectures.blocks.topology import Topology

NONE = "none"
#: slices of the first stage where a plan does not tell; other depths are interpolated
NOMINAL_DEPTH = 64
#: change of an entry of the spatial transformer's matrix, below which it is diagonally dominant and can be undone
LARGEST_TRANSFORM = 0.25
#: positions that may attend to one another all at once; above, those of a slice
POSITIONS = 4096
#: options of the networks -> name of the argument in blocks that have one reduction or pooling alone
CHANNELS_ALONE = {"channel_reduction": "reduction", "channel_pooling": "pooling"}
SLICES_ALONE = {
    "slice_reduction": "reduction",
    "slice_pooling": "pooling",
    "pooling_reference_quirks": "pooling_reference_quirks",
}


@dataclass(frozen=True)
class AttentionPlan:
    """Builds the attention blocks of a network.

    Args:
        topology: of the network.
        name: of the table of attention blocks, or ``"none"``.
        depths: slices of each stage in training.
        options: arguments of the blocks, under their own names.
        gate: skips pass an attention gate.
    """

    topology: Topology
    name: str
    depths: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    gate: bool = False

    @classmethod
    def of(
        cls,
        topology: Topology,
        name: str,
        gate: bool,
        patch_size: Sequence[int] | None,
        options: Mapping[str, Any],
    ) -> AttentionPlan:
        """From the options of a network, those that are None or False left out.

        Raises:
            ValueError: no such attention, an option that it does not have, or a patch of another dimension.
        """
        depths = stage_depths(topology, patch_size)
        given = {option: value for option, value in options.items() if value is not None and value is not False}
        if name == NONE:
            _refuse(name, given)
            return cls(topology, name, depths, {}, gate)
        row = attention(name)
        if row.placement is Placement.SKIP:
            _refuse(name, given)
            return cls(topology, NONE, depths, {}, True)
        known = inspect.signature(row.block).parameters
        alone = SLICES_ALONE if name == "slice" else CHANNELS_ALONE
        named = {option if option in known else alone.get(option, option): option for option in given}
        _refuse(name, {option: None for argument, option in named.items() if argument not in known})
        arguments = {argument: given[option] for argument, option in named.items()}
        if name == "dual":
            arguments["dropout"] = 0.0  # nnU-Net's plans drop nothing
        if name == "stn":
            arguments["limit"] = LARGEST_TRANSFORM
        if name in ("dual", "position") and not _few_positions(topology, patch_size):
            arguments["extent"] = "slice"
        return cls(topology, name, depths, arguments, gate)

    @property
    def placement(self) -> Placement | None:
        return None if self.name == NONE else attention(self.name).placement

    def behind(self, stage: int) -> nn.Module | None:
        """The block behind a stage, if there is one."""
        deepest = stage == self.topology.n_stages - 1
        if self.placement is Placement.STAGE or (self.placement is Placement.DEEPEST and deepest):
            return self.block(stage)
        return None

    def block(self, stage: int, **options: Any) -> nn.Module:
        """The block of a stage; ``options`` win over those of the plan."""
        topology = self.topology
        place = {
            "layers": topology.layers,
            "channels": topology.features[stage],
            "depth": self.depths[stage],
            "classes": topology.num_classes,
        }
        return attention_block(self.name, place, **{**self.options, **options})


def stage_depths(topology: Topology, patch_size: Sequence[int] | None) -> tuple[int, ...]:
    """Slices of every stage: the first edge of the patch over the strides so far; 1 in 2D.

    Raises:
        ValueError: a patch of another dimension.
    """
    if patch_size is not None and len(patch_size) != topology.dimension:
        raise ValueError(f"patch_size needs {topology.dimension} entries; got {list(patch_size)}")
    if topology.dimension == 2:
        return (1,) * topology.n_stages
    depth = NOMINAL_DEPTH if patch_size is None else int(patch_size[0])
    strides = (math.prod(stride[0] for stride in topology.strides[: stage + 1]) for stage in range(topology.n_stages))
    return tuple(max(1, depth // stride) for stride in strides)


def _few_positions(topology: Topology, patch_size: Sequence[int] | None) -> bool:
    if patch_size is None:
        return True
    edges = (edge // divisor for edge, divisor in zip(patch_size, topology.divisors, strict=True))
    return math.prod(edges) <= POSITIONS


def _refuse(name: str, options: Mapping[str, Any]) -> None:
    if options:
        raise ValueError(f"the attention {name!r} has no {', '.join(options)}")
