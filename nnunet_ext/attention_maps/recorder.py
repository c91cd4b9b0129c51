"""Records what attention blocks multiply with while a network runs, without changing what it computes.

While ``recording`` lasts, the method that a row of ``block_table.py`` names is replaced, on each block of the network
and nowhere else, by one that calls it, keeps what it shows and hands its result on. Parameters, buffers and results of
the network stay as they are. The network must not be compiled: compiled code would not call the replacement.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnunet_ext.attention_maps.block_table import BlockRow, Kind, Observation, row_of


@dataclass(frozen=True)
class Place:
    """A block in a network: its name among the network's modules, its class, and its row of the table."""

    name: str
    block: str
    row: BlockRow


@dataclass(frozen=True)
class Recorded:
    """One observation of one place, its numbers in float32 on the CPU."""

    place: Place
    name: str
    kind: Kind
    values: torch.Tensor
    spatial: tuple[int, ...]


@dataclass
class Recorder:
    """What has been recorded since ``take`` was last called, in the order of the calls."""

    found: list[Recorded] = field(default_factory=list)

    def add(self, place: Place, observation: Observation) -> None:
        # A block that runs several times in one pass is told apart by the number of the run.
        runs = sum(other.place is place and other.name.partition("#")[0] == observation.name for other in self.found)
        self.found.append(
            Recorded(
                place,
                f"{observation.name}#{runs + 1}" if runs else observation.name,
                observation.kind,
                # a copy: the network may reuse the memory of the original
                observation.values.detach().to("cpu", torch.float32, copy=True),
                observation.spatial,
            )
        )

    def take(self) -> list[Recorded]:
        found, self.found = self.found, []
        return found


def places_of(network: nn.Module, containing: Sequence[str] = ()) -> dict[Place, nn.Module]:
    """The blocks of a network that have something to show, in the order of its modules. A block within another of the
    same row is a part of it, and shown with it.

    Args:
        network: any.
        containing: only places whose name contains one of these texts; all of them unless given.
    """
    found: dict[Place, nn.Module] = {}
    every: list[Place] = []
    for name, module in network.named_modules():
        row = row_of(module)
        if row is not None and any(name.startswith(f"{place.name}.") and place.row is row for place in every):
            continue
        if row is not None:
            every.append(Place(name, type(module).__name__, row))
        if row is not None and (not containing or any(text in name for text in containing)):
            found[Place(name, type(module).__name__, row)] = module
    return found


@contextmanager
def recording(places: dict[Place, nn.Module]) -> Iterator[Recorder]:
    """Within it, every call of a place is recorded."""
    recorder = Recorder()
    with ExitStack() as stack:
        for place, module in places.items():
            stack.enter_context(_replaced(module, place, recorder))
        yield recorder


@contextmanager
def _replaced(module: nn.Module, place: Place, recorder: Recorder) -> Iterator[None]:
    method = place.row.method
    original = getattr(module, method)

    def recorded(*arguments: Any) -> Any:
        result = original(*arguments)
        for observation in place.row.read(module, arguments, result):
            recorder.add(place, observation)
        return result

    # An entry in the instance's own dictionary hides the method of its class, and is no parameter and no submodule.
    vars(module)[method] = recorded
    try:
        yield
    finally:
        del vars(module)[method]
