"""The files of one case: maps as NIfTI, weights as CSV, matrices as NumPy arrays, a picture of each, and the index."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ext.attention_maps import map_pictures
from nnunet_ext.attention_maps.block_table import Kind
from nnunet_ext.attention_maps.image_grid import ImageGrid
from nnunet_ext.attention_maps.tiles import Gathered
from nnunet_ext.report.grid import Grid
from nnunet_ext.report.style import save
from nnunet_ext.shown import csv_cell

INDEX, SLICES = "maps.json", "slices.csv"
#: characters of a place in a file name; the longest of ours has 47
MAX_PLACE = 80
DPI = 150


@dataclass(frozen=True)
class MapFile:
    """One file and what it holds, as ``maps.json`` lists it.

    Attributes:
        file: its name.
        place: of the block in the network; empty for a table of several places.
        block: class of the block.
        name: of what is shown, within the block.
        kind: what the numbers belong to, a value of ``Kind``.
        level: 0 at full resolution, 1 where the most pooled axis has half of it, and so on.
        how_to_read: in a sentence or two.
        minimum, maximum: of the numbers; of a map, where the network saw the image.
    """

    file: str
    place: str
    block: str
    name: str
    kind: str
    level: int | None
    how_to_read: str
    minimum: float
    maximum: float


@dataclass
class MapWriter:
    """Writes what was gathered of one case into a folder.

    Args:
        folder: to write into.
        case: its name.
        grid: of the image file.
        image: what pictures show: (Z, Y, X), (Y, X) or (Y, X, 3).
        image_grid: of that image.
        starts: first voxel of every tile.
    """

    folder: Path
    case: str
    grid: ImageGrid
    image: np.ndarray
    image_grid: Grid
    starts: Sequence[tuple[int, ...]]
    files: list[MapFile] = field(default_factory=list)
    curves: dict[str, np.ndarray] = field(default_factory=dict)
    places: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.inside, self.axis = self.grid.inside(), self.grid.slice_axis()

    def write(self, gathered: Gathered) -> None:
        """The files of one observation.

        Raises:
            UserError, OSError: a file cannot be written.
        """
        if gathered.kind in (Kind.VOXELS, Kind.SLICES):
            self._write_map(gathered)
        elif gathered.kind is Kind.CHANNELS:
            self._write_channels(gathered)
        else:
            self._write_matrix(gathered)

    def _write_map(self, gathered: Gathered) -> None:
        assert gathered.volume is not None
        volume = self.grid.from_network(gathered.volume.numpy())
        curve = None
        if gathered.kind is Kind.SLICES:
            curve = map_pictures.curve_of(volume, self.inside, self.axis)
            self.curves[f"{gathered.place.name} {gathered.name}"] = curve
        self.grid.write(volume, self._new(gathered, ".nii.gz", volume[self.inside]))
        figure = map_pictures.map_figure(
            self.image, volume, self.inside, self.image_grid, self.axis, self._title(gathered), curve
        )
        save(figure, self._new(gathered, ".png", volume[self.inside]), DPI)

    def _write_channels(self, gathered: Gathered) -> None:
        tiles = np.stack(gathered.tiles)
        _, groups, channels = tiles.shape
        names = [f"{group}_c{channel}" for group in range(1, groups + 1) for channel in range(channels)]
        if groups == 1:
            names = [f"c{channel}" for channel in range(channels)]
        rows: list[list[Any]] = [["tile", "z", "y", "x", *names]]
        rows += [
            [number, *start, *values.ravel().tolist()]
            for number, (start, values) in enumerate(zip(self.starts, tiles, strict=True), 1)
        ]
        rows.append(["mean", "", "", "", *gathered.mean().ravel().tolist()])
        _write_csv(self._new(gathered, ".csv", tiles), rows)
        figure = map_pictures.channels_figure(tiles, self._title(gathered))
        save(figure, self._new(gathered, ".png", tiles), DPI)

    def _write_matrix(self, gathered: Gathered) -> None:
        mean = gathered.mean()
        np.save(self._new(gathered, ".npy", mean), mean[0] if len(mean) == 1 else mean)
        save(map_pictures.matrix_figure(mean, self._title(gathered)), self._new(gathered, ".png", mean), DPI)

    def _title(self, gathered: Gathered) -> str:
        return map_pictures.title_of(self.case, gathered.place.name, gathered.name)

    def _new(self, gathered: Gathered, ending: str, values: np.ndarray) -> Path:
        """The path of a new file, which is in the index from now on."""
        place, name = gathered.place, gathered.name
        if place.name not in self.places:
            self.places.append(place.name)
        # The network may be a user's own, and the name of a module may hold more than a file name takes.
        safe = re.sub(r"[^A-Za-z0-9_.-]", "_", place.name[-MAX_PLACE:] or "network")
        file = f"{self.places.index(place.name) + 1:02d}_{safe}_{name.replace('#', '_run')}{ending}"
        self.files.append(
            MapFile(
                file,
                place.name,
                place.block,
                name,
                gathered.kind.value,
                gathered.level,
                place.row.explained(name),
                float(values.min()),
                float(values.max()),
            )
        )
        return self.folder / file

    def write_index(self, facts: dict[str, Any]) -> None:
        """The table of slices, if there are slice weights, and ``maps.json`` with the facts and the list of files."""
        if self.curves:
            count = len(next(iter(self.curves.values())))
            rows: list[list[Any]] = [["slice", *self.curves]]
            for index in range(count):
                values = [float(curve[index]) for curve in self.curves.values()]
                rows.append([index + 1, *("" if np.isnan(value) else value for value in values)])
            _write_csv(self.folder / SLICES, rows)
            every = np.stack(list(self.curves.values()))
            text = (
                f"mean of each slice of the image along array axis {self.axis} (0: z, as SimpleITK reads it), counted "
                "from 1; empty where the image is nothing but zeros"
            )
            low, high = float(np.nanmin(every)), float(np.nanmax(every))
            self.files.append(MapFile(SLICES, "", "", "", Kind.SLICES.value, None, text, low, high))
        content = {**facts, "maps": [asdict(file) for file in self.files]}
        (self.folder / INDEX).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_csv(file: Path, rows: Sequence[Sequence[Any]]) -> None:
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([csv_cell(cell) for cell in row] for row in rows)
