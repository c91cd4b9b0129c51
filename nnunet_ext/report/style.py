"""Colours and the one way a figure reaches the disk."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from nnunet_ext.files import write_atomically

# Okabe-Ito: told apart by colour-blind readers.
LIGHT = {
    "figure": "white",
    "grid": "#e3e3e3",
    "training": "#0072b2",
    "validation": "#d55e00",
    "dice": "#009e73",
}
# For MR and CT: a bright frame would outshine the dark image.
DARK = {"figure": "#111418", "text": "#f2f2f2", "muted": "#aab2bd"}
# In painting order, outer parts first; BraTS habit: oedema green, necrosis red, enhancing yellow.
REGIONS = ("#2fbf71", "#e5484d", "#ffd23f", "#4aa8ff", "#c77dff", "#ff8c42", "#00c2c7", "#f28cb1")


def save(figure: Figure, path: Path, dpi: int = 150) -> Path:
    """Write a figure as a PNG file, which is either whole or not there. Returns ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with write_atomically(path) as stream:
        figure.savefig(stream, format="png", dpi=dpi, facecolor=figure.get_facecolor())
    return path
