"""Cases one below the other: images, reference and predictions in outline, and what each prediction gets wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.regions import foreground
from nnunet_ext.report.captions import dice_caption, error_caption, short_names, shortened, wrapped
from nnunet_ext.report.case_view import CaseView
from nnunet_ext.report.cuts import Cut
from nnunet_ext.report.error_map import KINDS, count_errors, error_map
from nnunet_ext.report.panels import filled_box, show_errors, show_image, show_outlines
from nnunet_ext.report.style import DARK, ERRORS, region_colours, save
from nnunet_ext.shown import plot_text

TILE = 2.0  # inches across
TITLE, HEADING, NAME, SMALL = 10, 9, 8, 7  # points of letters
LINE = 1.4 / 72  # inches that a line takes for each point of its letters
ERROR_WORDS = {
    "missed": "missed: in the reference alone",
    "false": "false: in the prediction alone",
    "another label": "another label than in the reference",
}
NOTE = "Dice over the whole case, - where neither mask has the region; errors counted in the {} shown"

#: what a panel holds, and its title
Panel = tuple[str, str]


@dataclass(frozen=True)
class _Names:
    """Regions of the dataset with their colours and short names."""

    regions: Mapping[str, Sequence[int]]
    colours: Mapping[str, str]
    short: Mapping[str, str]

    def full(self, name: str) -> str:
        short = self.short[name]
        return shortened(name if short == name else f"{name} ({short})", 40)


@dataclass(frozen=True)
class _Block:
    """One case, cut and compared: what its panels hold, and what is written below them."""

    view: CaseView
    cut: Cut
    box: tuple[slice, slice]
    rows: list[list[Panel]]
    label_maps: Mapping[Panel, np.ndarray]
    errors: Mapping[Panel, np.ndarray]
    captions: Mapping[Panel, str]

    def height(self) -> float:
        """Inches for panels of the width of a tile."""
        rows, columns = self.box
        panel = TILE * self.cut.aspect * (rows.stop - rows.start) / (columns.stop - columns.start)
        lines = [max(len(self.captions.get(panel, "").splitlines()) for panel in row) for row in self.rows]
        return sum(panel + LINE * (1.5 * NAME + SMALL * (0.8 + count)) for count in lines) + 2 * LINE * HEADING


def overlay(views: Sequence[CaseView], dataset: Mapping, title: str = "") -> Figure:
    """A block of panels a case: images, the reference and predictions in outline, the errors of each prediction.

    Each region has a colour of its own by its place in dataset.json; the key names those that are shown. The slice
    shown is the one where the reference covers most. The outlines on an error map are those of the reference.

    Args:
        views: blocks from top to bottom, all with the same columns.
        dataset: content of dataset.json, for names and label values.
        title: of the whole figure.

    Raises:
        UserError: the dataset has no label to show.
    """
    regions = foreground(dataset)
    if not regions:
        raise UserError("the dataset.json names no label but background and ignore")
    colours = dict(zip(regions, region_colours(len(regions)), strict=True))
    names = _Names(regions, colours, short_names(list(regions)))
    blocks = [_compare(view, dataset, names) for view in views]
    width = TILE * len(blocks[0].rows[0]) + 0.2
    handles, notes = _key(blocks, names)
    longest = max((len(str(handle.get_label())) for handle in handles), default=1)
    columns = max(1, min(len(handles), int(width * 14 / (longest + 6))))
    heads, foot = wrapped(title, width, TITLE), "\n".join(wrapped(note, width, SMALL) for note in notes)
    lines = TITLE * (1 + len(heads.splitlines())) + SMALL * (2 + len(foot.splitlines()))
    rest = LINE * (lines + 1.1 * NAME * -(-len(handles) // columns))
    heights = [block.height() for block in blocks]
    figure = Figure(figsize=(width, sum(heights) + rest), facecolor=DARK["figure"], layout="constrained")
    figures = figure.subfigures(len(blocks), 1, squeeze=False, height_ratios=heights)[:, 0]
    for block, subfigure in zip(blocks, figures, strict=True):
        _draw(block, subfigure, width, names)
    legend = figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        frameon=False,
        fontsize=NAME,
        labelcolor=DARK["text"],
        title=foot,
        title_fontsize=SMALL,
    )
    legend.get_title().set(color=DARK["muted"], multialignment="center")
    if title:
        figure.suptitle(heads, fontsize=TITLE, color=DARK["text"])
    return figure


def write_overlay(views: Sequence[CaseView], dataset: Mapping, path: Path, title: str = "") -> Path:
    """Draw ``overlay`` into a PNG file."""
    return save(overlay(views, dataset, title), path)


def panels_of(view: CaseView) -> list[list[Panel]]:
    """Rows of panels. One prediction: all in a row. More: the errors of each lie below it, images fill what is left."""
    images: list[Panel] = [("image", name) for name in view.images]
    predictions: list[Panel] = [("prediction", name) for name in view.predictions]
    errors: list[Panel] = [("errors", name) for name in view.predictions]
    reference: Panel = ("reference", "reference")
    if len(predictions) == 1:
        return [[*images, reference, *predictions, *errors]]
    above, below = images[: len(images) // 2], images[len(images) // 2 :]
    blank: list[Panel] = [("", "")] * (len(above) + 1 - len(below))
    return [[*above, reference, *predictions], [*below, *blank, *errors]]


def _compare(view: CaseView, dataset: Mapping, names: _Names) -> _Block:
    cut = view.shown_cut(dataset)
    reference = cut.of(view.reference)
    label_maps: dict[Panel, np.ndarray] = {("reference", "reference"): reference}
    errors: dict[Panel, np.ndarray] = {}
    captions: dict[Panel, str] = {}
    for name, prediction in view.predictions.items():
        predicted = cut.of(prediction)
        wrong = error_map(reference, predicted, names.regions, dataset["labels"].get("ignore"))
        label_maps["prediction", name], label_maps["errors", name] = predicted, reference
        errors["errors", name] = wrong
        captions["prediction", name] = dice_caption(view.dice[name], names.short)
        captions["errors", name] = error_caption(count_errors(wrong))
    box = filled_box([cut.of(image) for image in view.images.values()])
    return _Block(view, cut, box, panels_of(view), label_maps, errors, captions)


def _draw(block: _Block, figure: SubFigure, width: float, names: _Names) -> None:
    figure.set_facecolor(DARK["figure"])
    heading = ", ".join(filter(None, (block.view.title, block.cut.words())))
    figure.suptitle(wrapped(heading, width, HEADING), fontsize=HEADING, color=DARK["text"], x=0.01, ha="left")
    axes = figure.subplots(len(block.rows), len(block.rows[0]), squeeze=False)
    for axis, panel in zip(axes.flat, chain(*block.rows), strict=True):
        if panel[0]:
            _draw_panel(axis, panel, block, names)
        else:
            axis.set_axis_off()


def _draw_panel(axis: Axes, panel: Panel, block: _Block, names: _Names) -> None:
    kind, name = panel
    images = block.view.images
    image = images[name] if kind == "image" else next(iter(images.values()))
    show_image(axis, block.cut.of(image), block.box, block.cut, dimmed=kind == "errors")
    title = f"errors of {name}" if kind == "errors" else name
    axis.set_title(plot_text(shortened(title, 30)), fontsize=NAME, color=DARK["text"])
    axis.set_xlabel(block.captions.get(panel, ""), fontsize=SMALL, color=DARK["text"])
    if panel in block.errors:
        show_errors(axis, block.errors[panel])
    if panel in block.label_maps:
        scale = 0.6 if kind == "errors" else 1.0
        show_outlines(axis, block.label_maps[panel], names.regions, names.colours, scale)


def _key(blocks: Sequence[_Block], names: _Names) -> tuple[list[Line2D | Patch], list[str]]:
    """Handles of the legend for what the blocks show, and notes that stand above it."""
    labels = {value for block in blocks for plane in block.label_maps.values() for value in np.unique(plane).tolist()}
    kinds = {kind for block in blocks for wrong in block.errors.values() for kind in np.unique(wrong).tolist()}
    shown = [name for name, values in names.regions.items() if labels & set(values)]
    absent = [names.full(name) for name in names.regions if name not in shown]
    handles: list[Line2D | Patch] = [
        Line2D([], [], color=names.colours[name], linewidth=2, label=plot_text(names.full(name))) for name in shown
    ]
    handles += [
        Patch(facecolor=ERRORS[kind], label=ERROR_WORDS[kind]) for kind, value in KINDS.items() if value in kinds
    ]
    what = "pictures" if blocks[0].cut.axis is None else "slices"
    notes = [NOTE.format(what)]
    if absent:
        notes.append(f"not in the {what} shown: {shortened(', '.join(absent), 120)}")
    return handles, notes
