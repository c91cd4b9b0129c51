"""What one panel of an overlay holds: a grey or colour image, outlines of regions, an error map, marks of the sides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgba
from matplotlib.image import AxesImage

from nnunet_ext.report.cuts import Cut
from nnunet_ext.report.error_map import KINDS
from nnunet_ext.report.outlines import area, outline
from nnunet_ext.report.style import DARK, ERRORS

MARGIN = 3  # pixels left around what is not empty
DIMMED = 0.45
# Of a map over an image: the image shows through. Its lightness rises evenly, for colour-blind readers and on paper.
MAP_COLOURS, MAP_ALPHA = "viridis", 0.55
STEP = 0.75  # points of an outline; as many more for each region within the region as are seen beside each other
LONE_STEP = 1.1  # where no region lies within another one
MAX_STEPS = 4
SHADOW = 0.4


def filled_box(planes: Sequence[np.ndarray]) -> tuple[slice, slice]:
    """Rows and columns where any image is not exactly 0 (as around a skull-stripped brain), with a margin."""
    filled = np.any([plane.any(axis=-1) if plane.ndim == 3 else plane != 0 for plane in planes], axis=0)
    if not filled.any():
        return slice(0, filled.shape[0]), slice(0, filled.shape[1])
    ends = [np.flatnonzero(filled.any(axis=axis))[[0, -1]] for axis in (1, 0)]
    rows, columns = (
        slice(max(int(first) - MARGIN, 0), min(int(last) + 1 + MARGIN, length))
        for (first, last), length in zip(ends, filled.shape, strict=True)
    )
    return rows, columns


def window(image: np.ndarray) -> tuple[float, float]:
    """Intensities shown as black and as white: percentiles of what is not exactly 0, as air around a brain is."""
    tissue = image[(image != 0) & np.isfinite(image)]
    if not tissue.size:
        return 0.0, 1.0
    low, high = np.percentile(tissue, (1, 99.5))
    return float(low), float(max(high, low + 1e-6))


def show_image(axis: Axes, plane: np.ndarray, box: tuple[slice, slice], shown: Cut, dimmed: bool = False) -> None:
    """The plane of an image inside a box, in true proportions, with the sides of the patient where they are known."""
    alpha = DIMMED if dimmed else 1.0
    if plane.ndim == 3:
        largest = np.iinfo(plane.dtype).max if np.issubdtype(plane.dtype, np.integer) else max(float(plane.max()), 1.0)
        axis.imshow(np.clip(plane / largest, 0, 1), aspect=shown.aspect, interpolation="nearest", alpha=alpha)
    else:
        low, high = window(plane)
        axis.imshow(plane, cmap="gray", vmin=low, vmax=high, aspect=shown.aspect, interpolation="nearest", alpha=alpha)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.spines[:].set_visible(False)
    axis.set_facecolor("black")
    axis.set_xlim(box[1].start - 0.5, box[1].stop - 0.5)
    axis.set_ylim(box[0].stop - 0.5, box[0].start - 0.5)
    for letter, x, side in ((shown.edges[0], 0.02, "left"), (shown.edges[1], 0.98, "right")):
        mark = axis.text(x, 0.98, letter, transform=axis.transAxes, ha=side, va="top", fontsize=7, color=DARK["text"])
        mark.set_path_effects([patheffects.withStroke(linewidth=1.5, foreground="black")])


def show_map(axis: Axes, plane: np.ndarray, limits: tuple[float, float]) -> AxesImage:
    """Lay the plane of a map of numbers over an image that is shown already; its colours run over the limits."""
    return axis.imshow(
        plane,
        cmap=MAP_COLOURS,
        vmin=limits[0],
        vmax=limits[1],
        alpha=MAP_ALPHA,
        aspect=axis.get_aspect(),
        interpolation="nearest",
    )


def steps_of(regions: Mapping[str, Sequence[int]]) -> dict[str, int]:
    """Region -> 1, and one more for each that lies within another one that lies within it, at most ``MAX_STEPS``.

    Whole tumor, tumor core, enhancing tumor: 3, 2, 1. Labels that exclude each other: 1 each.
    """
    steps: dict[str, int] = {}
    for name in sorted(regions, key=lambda name: len(regions[name])):
        inside = [steps[other] for other in steps if set(regions[other]) < set(regions[name])]
        steps[name] = min(1 + max(inside, default=0), MAX_STEPS)
    return steps


def show_outlines(
    axis: Axes, plane: np.ndarray, regions: Mapping[str, Sequence[int]], colours: Mapping[str, str], scale: float = 1.0
) -> list[str]:
    """Outline every region that the plane of a label map holds. Returns their names.

    A line lies inside its region, so those of neighbours run side by side; an outer region has the broader line, which
    is seen along an inner one where both end at the same place. A thin shadow outside parts lines from bright images.
    """
    steps = steps_of(regions)
    step = (STEP if max(steps.values()) > 1 else LONE_STEP) * scale
    drawn = []
    for name in sorted(regions, key=lambda name: -steps[name]):
        mask = np.isin(plane, regions[name])
        if mask.any():
            pieces = list(outline(mask))
            shadow = LineCollection(
                pieces, colors="black", linewidths=2 * SHADOW * scale, capstyle="projecting", zorder=1.5
            )
            # Half of a line is outside and clipped away.
            lines = LineCollection(
                pieces, colors=colours[name], linewidths=2 * step * steps[name], capstyle="projecting", label=name
            )
            axis.add_collection(shadow, autolim=False)
            axis.add_collection(lines, autolim=False)
            lines.set_clip_path(area(mask), axis.transData)
            drawn.append(name)
    return drawn


def show_errors(axis: Axes, wrong: np.ndarray) -> list[str]:
    """Paint the plane of an error map. Returns the kinds of error that it holds."""
    fill = np.zeros((*wrong.shape, 4))
    for name, kind in KINDS.items():
        fill[wrong == kind] = to_rgba(ERRORS[name])
    axis.imshow(fill, aspect=axis.get_aspect(), interpolation="nearest")
    return [name for name, kind in KINDS.items() if (wrong == kind).any()]
