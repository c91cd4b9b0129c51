"""A network run over the tiles of a case as nnU-Net's prediction runs it, and what its blocks show, put together.

Maps of overlapping tiles are averaged with nnU-Net's Gaussian weights, as it averages logits. Test-time mirroring is
left out: a mirrored tile has other weights, and their mean would be those of no pass of the network.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from torch import nn
from torch.nn import functional

from nnunet_ext.attention_maps.block_table import Kind
from nnunet_ext.attention_maps.recorder import Place, Recorded, places_of, recording
from nnunet_ext.errors import UserError
from nnunet_ext.progress import with_progress

#: as nnU-Net's prediction weights the voxels of a tile
SIGMA_SCALE, VALUE_SCALING = 1 / 8, 10


@dataclass
class Gathered:
    """One observation of one place over all tiles.

    Attributes:
        place, name, kind: of it.
        stride: size of a tile over the size of the feature map, along each axis of a tile.
        volume: of voxels and slices: (Z, Y, X) on the preprocessed grid.
        tiles: of channels: (groups, C) of each tile; of a matrix: one, the sum over tiles.
        count: tiles.
    """

    place: Place
    name: str
    kind: Kind
    stride: tuple[float, ...]
    volume: torch.Tensor | None = None
    tiles: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    @property
    def level(self) -> int:
        """0 at full resolution, 1 where the most pooled axis has half of it, and so on."""
        return round(float(np.log2(max(self.stride))))

    def mean(self) -> np.ndarray:
        """Of channels and matrices over tiles."""
        total: np.ndarray = np.sum(self.tiles, axis=0) / self.count
        return total


@dataclass(frozen=True)
class Case:
    """What ``gather`` found in one case.

    Attributes:
        starts: first voxel of each tile on the preprocessed grid (z, y, x); below 0 where the case was padded.
        found: observations in the order in which the network makes them.
    """

    starts: list[tuple[int, ...]]
    found: list[Gathered]


def tile_slicers(shape: Sequence[int], patch_size: Sequence[int], step_size: float) -> list[tuple[slice | int, ...]]:
    """Where nnU-Net puts tiles in a volume (Z, Y, X); a patch of two axes takes every slice on its own."""
    steps = compute_steps_for_sliding_window(tuple(shape[-len(patch_size) :]), tuple(patch_size), step_size)
    planes: list[list[slice | int]] = [[]] if len(patch_size) == len(shape) else [[z] for z in range(shape[0])]
    return [
        (*plane, *(slice(start, start + edge) for start, edge in zip(starts, patch_size, strict=True)))
        for plane in planes
        for starts in itertools.product(*steps)
    ]


def padded_to(data: torch.Tensor, patch_size: Sequence[int]) -> tuple[torch.Tensor, tuple[slice, ...]]:
    """A case (C, Z, Y, X) with zeros on both sides of every axis that is shorter than the patch, as nnU-Net pads it,
    and where the case lies in it."""
    shape = data.shape[1:]
    edges = (*shape[: len(shape) - len(patch_size)], *patch_size)
    lacking = [max(0, edge - size) for edge, size in zip(edges, shape, strict=True)]
    sides = [side for missing in reversed(lacking) for side in (missing // 2, missing - missing // 2)]
    inside = tuple(slice(missing // 2, missing // 2 + size) for missing, size in zip(lacking, shape, strict=True))
    return functional.pad(data, sides), inside


def gather(
    network: nn.Module,
    data: torch.Tensor,
    patch_size: Sequence[int],
    device: torch.device,
    step_size: float = 0.5,
    containing: Sequence[str] = (),
) -> Case:
    """Run the network over a preprocessed case and put together what its blocks show.

    Args:
        network: not compiled; it is set to evaluation and moved to the device.
        data: (C, Z, Y, X).
        patch_size: of a tile, three edges or two.
        device: that runs the network.
        step_size: from one tile to the next, in tiles.
        containing: as of ``places_of``.

    Raises:
        UserError: the network shows nothing, or numbers that are not finite.
    """
    places = places_of(network, containing)
    network.to(device).eval()
    padded, inside = padded_to(data, patch_size)
    slicers = tile_slicers(padded.shape[1:], patch_size, step_size)
    weight = compute_gaussian(
        tuple(patch_size), SIGMA_SCALE, VALUE_SCALING, dtype=torch.float32, device=torch.device("cpu")
    )
    total = torch.zeros(padded.shape[1:])
    found: dict[tuple[Place, str], Gathered] = {}
    autocast = torch.autocast("cuda") if device.type == "cuda" else nullcontext()
    with torch.inference_mode(), autocast, recording(places) as recorder:
        for slicer in with_progress(slicers, "attention", len(slicers), "tile"):
            where = (slice(None), *slicer)
            network(padded[where].unsqueeze(0).to(device))
            total[slicer] += weight
            for recorded in recorder.take():
                _add(found, recorded, slicer, patch_size, weight, padded.shape[1:])
    if not found:
        raise UserError("no block of this network has weights to show here")
    for gathered in found.values():
        if gathered.volume is not None:
            gathered.volume = (gathered.volume / total)[inside]
    return Case([_start(slicer, inside) for slicer in slicers], list(found.values()))


def _add(
    found: dict[tuple[Place, str], Gathered],
    recorded: Recorded,
    slicer: tuple[slice | int, ...],
    patch_size: Sequence[int],
    weight: torch.Tensor,
    shape: Sequence[int],
) -> None:
    if not torch.isfinite(recorded.values).all():
        raise UserError(
            f"{recorded.name} of {recorded.place.name} holds numbers that are not finite",
            remedy="the training has diverged, or the image holds such numbers",
        )
    key = recorded.place, recorded.name
    if key not in found:
        stride = tuple(edge / size for edge, size in zip(patch_size, recorded.spatial, strict=True))
        found[key] = Gathered(recorded.place, recorded.name, recorded.kind, stride)
    gathered = found[key]
    gathered.count += 1
    if recorded.kind in (Kind.VOXELS, Kind.SLICES):
        if gathered.volume is None:
            gathered.volume = torch.zeros(tuple(shape))
        gathered.volume[slicer] += weight * spread(recorded.values, recorded.kind, patch_size)
    elif recorded.kind is Kind.CHANNELS or not gathered.tiles:
        gathered.tiles.append(recorded.values.numpy())
    else:
        gathered.tiles[0] = gathered.tiles[0] + recorded.values.numpy()


def spread(values: torch.Tensor, kind: Kind, patch_size: Sequence[int]) -> torch.Tensor:
    """The weights of a feature map at every voxel of the tile: each voxel has that of the one which covers it, so that
    no value is shown by which nothing was multiplied."""
    if kind is Kind.SLICES:
        values = values.reshape(-1, *(1,) * (len(patch_size) - 1))
        size = [patch_size[0], *(1,) * (len(patch_size) - 1)]
    else:
        size = list(patch_size)
    return functional.interpolate(values[None, None], size=size, mode="nearest-exact")[0, 0].expand(list(patch_size))


def _start(slicer: tuple[slice | int, ...], inside: Sequence[slice]) -> tuple[int, ...]:
    firsts = (part.start if isinstance(part, slice) else part for part in slicer)
    return tuple(first - own.start for first, own in zip(firsts, inside, strict=True))
