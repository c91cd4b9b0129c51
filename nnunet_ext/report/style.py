"""Colours and the one way a figure reaches the disk.

Every set of colours that means something is told apart by readers with each of the three kinds of colour blindness;
``tests/report/test_style.py`` simulates them.
"""

from __future__ import annotations

import colorsys
from pathlib import Path
from typing import Literal

from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from nnunet_ext.files import write_atomically

Dash = Literal["-", "--", ":", "-."]

LIGHT = {"figure": "white", "grid": "#e3e3e3", "mean": "#000000"}
# Okabe and Ito's colours, for lines on white: folds, or trainers on one axis.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES: tuple[Dash, ...] = ("-", "--", ":", "-.")
# For MR and CT: a bright frame would outshine the dark image.
DARK = {"figure": "#111418", "text": "#f2f2f2", "muted": "#aab2bd"}
# For outlines on grey images. The first three are near the habit of BraTS (green, red, yellow), which colour-blind
# readers mistake for each other.
REGIONS = ("#00c08b", "#e85ec0", "#ffe14d", "#3f7fff", "#d1452b", "#b8a1ff", "#b0f07a", "#f2f2f2")
# For areas on a darkened image.
ERRORS = {"missed": "#4aa8ff", "false": "#ff5a1f", "another label": "#ffffff"}


def region_colours(count: int) -> list[str]:
    """A colour for each of ``count`` regions, always the same for the same place in the order.

    From the ninth on they are lighter ones of the first eight, then hues at the golden angle: people tell eight colours
    apart, not thirty, so names beyond that are best read with few regions a figure.
    """
    lighter = [
        to_hex(((1 + red) / 2, (1 + green) / 2, (1 + blue) / 2)) for red, green, blue in map(to_rgb, REGIONS[:-1])
    ]
    fixed = [*REGIONS, *lighter]
    hues = [to_hex(colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.65, 0.95)) for number in range(count - len(fixed))]
    return [*fixed, *hues][:count]


def series_style(number: int) -> tuple[str, Dash]:
    """Colour and dash of the line with this number; no two of the first 24 look the same."""
    return SERIES[number % len(SERIES)], DASHES[number // len(SERIES) % len(DASHES)]


def save(figure: Figure, path: Path, dpi: int = 200) -> Path:
    """Write a figure as a PNG file, which is either whole or not there. Returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return path
