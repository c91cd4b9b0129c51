"""Small print of an overlay: scores and counts below a panel, in lines that fit there, safe for a figure."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence

from nnunet_ext.shown import plot_text

WIDTH = 36  # characters below a panel
MAX_NAME = 22
# Of more regions than these a panel names the mean and the lowest one.
MAX_NAMED = 8


def short_names(regions: Sequence[str]) -> dict[str, str]:
    """Name -> its initials (``whole tumor``: ``WT``) where all have several and no two the same; else the name."""
    initials = ["".join(word[0].upper() for word in name.replace("_", " ").split()) for name in regions]
    unambiguous = len(set(initials)) == len(initials) and all(len(word) > 1 for word in initials)
    return dict(zip(regions, initials if unambiguous else regions, strict=True))


def shortened(text: str, length: int = MAX_NAME) -> str:
    """The text, or its beginning with dots where it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def fill(pieces: Sequence[str], width: int = WIDTH) -> str:
    """Pieces side by side in as few lines as hold them; none is divided."""
    lines: list[str] = []
    for piece in pieces:
        if lines and len(lines[-1]) + 3 + len(piece) <= width:
            lines[-1] += f"   {piece}"
        else:
            lines.append(piece)
    return "\n".join(map(plot_text, lines))


def dice_caption(dice: Mapping[str, float], short: Mapping[str, str]) -> str:
    """Dice of each region; of many regions the mean and the lowest. Undefined ones are ``-`` and not in the mean."""
    defined = {name: value for name, value in dice.items() if not math.isnan(value)}
    if len(dice) <= MAX_NAMED or not defined:
        scores = {name: f"{defined[name]:.2f}" if name in defined else "-" for name in list(dice)[:MAX_NAMED]}
        return fill(["Dice", *(f"{shortened(short[name])} {score}" for name, score in scores.items())])
    lowest = min(defined, key=lambda name: defined[name])
    mean = sum(defined.values()) / len(defined)
    return fill(
        [f"Dice   mean of {len(defined)}: {mean:.2f}", f"lowest: {shortened(short[lowest])} {defined[lowest]:.2f}"]
    )


def error_caption(counts: Mapping[str, int]) -> str:
    """Voxels of each kind of error; ``another label`` only where there are some."""
    return fill([f"{name} {count}" for name, count in counts.items() if count or name != "another label"])


def wrapped(text: str, inches: float, size: float) -> str:
    """The text in lines that fit a figure.

    Args:
        text: of one line.
        inches: across.
        size: of its letters in points; letters are about 0.6 of it broad.
    """
    return "\n".join(map(plot_text, textwrap.wrap(text, max(20, int(inches * 72 / (0.6 * size))))))
