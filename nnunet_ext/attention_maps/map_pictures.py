"""Pictures of maps over the image, of slice weights as a curve, of channel weights and of channel matrices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnunet_ext.report.captions import shortened, wrapped
from nnunet_ext.report.cuts import Cut, cut, whole_picture
from nnunet_ext.report.grid import Grid
from nnunet_ext.report.panels import MAP_COLOURS, filled_box, show_image, show_map
from nnunet_ext.report.style import DARK, LIGHT, REGIONS, SERIES
from nnunet_ext.shown import plot_text

PANEL = 3.6  # inches across
CURVE = 1.5  # inches, height of the slice weights
WIDE, HIGH = 8.0, 3.0
TITLE, NAME, SMALL = 9, 8, 7  # points of letters
#: matrices side by side in one picture; a head each
MAX_GROUPS = 8


def map_figure(
    image: np.ndarray,
    volume: np.ndarray,
    inside: np.ndarray,
    grid: Grid,
    axis: int,
    title: str,
    curve: np.ndarray | None = None,
) -> Figure:
    """A plane of the image, and the same plane with the map over it; below them a curve of all slices.

    The plane is the slice in which the map varies most; where there is a curve, one through the middle that all slices
    cross, so that their weights are seen as bands. Colours run from the least to the largest number of the whole map.

    Args:
        image: (Z, Y, X) or (Y, X), or (Y, X, 3) for colours.
        volume: the map, (Z, Y, X) or (Y, X).
        inside: of the same shape: where the map says something.
        grid: of the image.
        axis: of a volume, along which slices follow each other.
        title: of the figure.
        curve: a number for each slice along the axis, NaN where the network saw nothing.
    """
    if volume.ndim == 2:
        shown = whole_picture(grid)
    elif curve is None:
        shown = cut(grid, volume.shape, telling_slice(volume, inside, axis), axis)
    else:
        across = 1 if axis == 0 else 0
        middle = int(np.median(np.nonzero(inside.any(axis=tuple(set(range(3)) - {across})))[0]))
        shown = cut(grid, volume.shape, middle, across)
    limits = limits_of(volume[inside])
    plane = shown.of(image)
    box = filled_box([plane])
    rows, columns = box
    high = PANEL * shown.aspect * (rows.stop - rows.start) / max(columns.stop - columns.start, 1)
    heights = [min(max(high, 1.0), 3 * PANEL), *([CURVE] if curve is not None else [])]
    figure = Figure(figsize=(2 * PANEL + 1.0, sum(heights) + 0.9), facecolor=DARK["figure"], layout="constrained")
    layout = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    left, right = (figure.add_subplot(layout[0, column]) for column in (0, 1))
    grey = plane.mean(axis=-1) if plane.ndim == 3 else plane  # its colours would mix with those of the map
    for panel, name, pixels in ((left, "image", plane), (right, "map over the image", grey)):
        show_image(panel, pixels, box, shown)
        panel.set_title(name, fontsize=NAME, color=DARK["text"])
    masked = np.ma.masked_array(shown.of(volume), ~shown.of(inside))
    bar = figure.colorbar(show_map(right, masked, limits), ax=right, shrink=0.8)
    bar.ax.tick_params(labelsize=SMALL, colors=DARK["text"])
    if curve is not None:
        below = figure.add_subplot(layout[1, :])
        _draw_curve(below, curve)
        if runs_backwards(shown, volume.shape, axis):
            below.invert_xaxis()
    heading = ", ".join(filter(None, (title, shown.words())))
    figure.suptitle(wrapped(heading, figure.get_figwidth(), TITLE), fontsize=TITLE, color=DARK["text"])
    return figure


def runs_backwards(shown: Cut, shape: Sequence[int], axis: int) -> bool:
    """Whether slices along an axis are shown from the last on the left to the first on the right."""
    numbers = np.arange(shape[axis]).reshape([-1 if each == axis else 1 for each in range(len(shape))])
    plane = shown.of(np.broadcast_to(numbers, tuple(shape)))
    return bool(plane[0, 0] > plane[0, -1])


def _draw_curve(axes: Axes, curve: np.ndarray) -> None:
    axes.plot(
        np.arange(1, len(curve) + 1), curve, color=REGIONS[2], linewidth=1.2, marker="." if len(curve) < 60 else ""
    )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, len(curve) + 0.5)
    axes.set_facecolor(DARK["figure"])
    axes.set_xlabel("slice", fontsize=SMALL, color=DARK["text"])
    axes.set_ylabel("mean of the slice", fontsize=SMALL, color=DARK["text"])
    axes.tick_params(labelsize=SMALL, colors=DARK["text"])
    axes.spines[:].set_color(DARK["muted"])


def channels_figure(tiles: np.ndarray, title: str) -> Figure:
    """Channel weights: the mean over tiles as bars, and every tile in colours where there are several.

    Args:
        tiles: (tiles, groups, C).
        title: of the figure.
    """
    mean = tiles.mean(0)
    several = len(tiles) > 1
    figure = Figure(figsize=(WIDE, HIGH * (2 if several else 1)), facecolor=LIGHT["figure"], layout="constrained")
    axes = figure.subplots(2 if several else 1, 1, squeeze=False)[:, 0]
    width = 0.8 / len(mean)
    channels = np.arange(mean.shape[1])
    for group, values in enumerate(mean):
        label = f"{group + 1}" if len(mean) > 1 else None
        axes[0].bar(
            channels + (group + 0.5) * width - 0.4, values, width, color=SERIES[group % len(SERIES)], label=label
        )
    if len(mean) > 1:
        axes[0].set_ylim(top=1.3 * float(mean.max()))
        axes[0].legend(title="candidate", fontsize=SMALL, title_fontsize=SMALL, ncols=len(mean), frameon=False)
    axes[0].set_ylabel("weight, mean over tiles" if several else "weight", fontsize=NAME)
    if several:
        table = tiles.reshape(len(tiles), -1)
        extent = (-0.5, table.shape[1] - 0.5, len(tiles) + 0.5, 0.5)  # tiles are counted from 1
        shown = axes[1].imshow(table, aspect="auto", cmap=MAP_COLOURS, interpolation="nearest", extent=extent)
        axes[1].yaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes[1].set_ylabel("tile", fontsize=NAME)
        figure.colorbar(shown, ax=axes[1]).ax.tick_params(labelsize=SMALL)
    for each in axes:
        each.tick_params(labelsize=SMALL)
        each.spines[["top", "right"]].set_visible(False)
    axes[-1].set_xlabel(
        "channel" if len(mean) == 1 or not several else "candidate by candidate, channel", fontsize=NAME
    )
    figure.suptitle(wrapped(title, WIDE, TITLE), fontsize=TITLE)
    return figure


def matrix_figure(groups: np.ndarray, title: str) -> Figure:
    """Matrices (groups, rows, columns) in colours, side by side; of many the first ones."""
    shown = groups[:MAX_GROUPS]
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    figure = Figure(
        figsize=(max(4.5, 3.0 * columns), 3.4 * rows + 0.4), facecolor=LIGHT["figure"], layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    low, high = limits_of(shown)
    drawn = None
    for number, panel in enumerate(axes.flat):
        if number >= len(shown):
            panel.set_axis_off()
            continue
        drawn = panel.imshow(
            shown[number], cmap=MAP_COLOURS, vmin=low, vmax=high, aspect="auto", interpolation="nearest"
        )
        panel.set_xlabel("column", fontsize=SMALL)
        panel.set_ylabel("row", fontsize=SMALL)
        panel.tick_params(labelsize=SMALL)
        if len(groups) > 1:
            panel.set_title(plot_text(f"head {number + 1} of {len(groups)}"), fontsize=NAME)
    assert drawn is not None
    figure.colorbar(drawn, ax=axes).ax.tick_params(labelsize=SMALL)
    figure.suptitle(wrapped(title, figure.get_figwidth(), TITLE), fontsize=TITLE)
    return figure


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """The least and the largest number, a little apart where all are equal."""
    low, high = float(values.min()), float(values.max())
    return (low, high) if high - low > 1e-6 else (low - 0.5, high + 0.5)


def telling_slice(volume: np.ndarray, inside: np.ndarray, axis: int) -> int:
    """The slice in which a map varies most; the middle one where it varies nowhere."""
    planes, masks = np.moveaxis(volume, axis, 0), np.moveaxis(inside, axis, 0)
    spread = [float(plane[mask].std()) if mask.any() else 0.0 for plane, mask in zip(planes, masks, strict=True)]
    return int(np.argmax(spread)) if max(spread) > 1e-6 else len(spread) // 2


def curve_of(volume: np.ndarray, inside: np.ndarray, axis: int) -> np.ndarray:
    """The mean of each slice along an axis, over what is inside; NaN where nothing is."""
    others = tuple(other for other in range(volume.ndim) if other != axis)
    count = inside.sum(axis=others)
    with np.errstate(invalid="ignore"):
        mean: np.ndarray = (volume * inside).sum(axis=others) / np.where(count, count, np.nan)
    return mean


def title_of(case: str, place: str, name: str) -> str:
    """Such as ``case7: slices of decoder.stages.0.attention``."""
    return f"{shortened(case, 60)}: {name} of {shortened(place, 80)}"
