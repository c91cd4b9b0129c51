"""The words of an overlay: however many and long they are, each can be read."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from nnunet_ext.report.captions import dice_caption, error_caption, short_names
from nnunet_ext.report.case_view import CaseView
from nnunet_ext.report.grid import Grid
from nnunet_ext.report.overlay import overlay


def test_regions_are_abbreviated_only_where_that_is_clear():
    assert short_names(["whole tumor", "tumor_core"]) == {"whole tumor": "WT", "tumor_core": "TC"}
    for names in (["whole tumor", "wide tear"], ["liver", "left kidney"]):
        assert short_names(names) == dict(zip(names, names, strict=True))


def test_of_many_regions_the_mean_and_the_lowest_are_named():
    names = [f"r{number}" for number in range(9)]
    dice = {name: 0.1 * number for number, name in enumerate(names)} | {"r8": float("nan")}
    assert dice_caption(dice, short_names(names)).split("\n") == ["Dice   mean of 8: 0.35", "lowest: r0 0.00"]
    assert dice_caption({"r1": float("nan")}, {"r1": "r1"}) == "Dice   r1 -"


def test_another_label_is_counted_where_there_is_one():
    assert error_caption({"missed": 0, "false": 2, "another label": 0}) == "missed 0   false 2"
    assert "another label 3" in error_caption({"missed": 0, "false": 2, "another label": 3})


@pytest.mark.parametrize("title_length", [1, 300])
def test_no_text_lies_on_another_or_outside(title_length):
    names = [f"organ number {number} of the abdomen" for number in range(13)]
    dataset = {"labels": {"background": 0, **{name: number + 1 for number, name in enumerate(names)}}}
    labels = np.zeros((4, 20, 24), np.uint8)
    labels[:, 2:15, 3:16] = np.arange(169).reshape(13, 13) // 13 + 1
    predictions = {"a model": labels, "another model": np.roll(labels, 1, 1)}
    dice = dict.fromkeys(predictions, dict.fromkeys(names, 0.5))
    long = "ab " * (title_length // 3) + "x"
    case = CaseView(long, {"CT": labels + 1.0}, labels, predictions, dice, Grid((1.0, 1.0, 3.0)))
    figure = overlay([case, case], dataset, long)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    panels = [axis for axis in figure.axes if axis.get_title()]
    texts = [panel.title for panel in panels] + [panel.xaxis.label for panel in panels]
    texts += [*figure.legends[0].get_texts(), figure.legends[0].get_title(), figure._suptitle]
    texts += [block._suptitle for block in figure.subfigs]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    for number, box in enumerate(boxes):
        assert box.x0 >= 0
        assert box.x1 <= figure.bbox.width
        assert box.y0 >= 0
        assert box.y1 <= figure.bbox.height
        for other in boxes[:number]:
            assert not box.overlaps(other), (texts[number].get_text(), box, other)
