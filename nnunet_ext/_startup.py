"""Tells nnU-Net where the trainers of this plugin are: our discovery folder, appended to ``nnUNet_extTrainer``.

Called by Python 3.15 and later at start (PEP 829 ``.start`` file) and by our own commands; older Pythons do the same in
the one-line ``.pth`` file that ``setup.py`` writes. Importing this module must stay cheap: standard library only.
"""

from __future__ import annotations

import os

VARIABLE = "nnUNet_extTrainer"
DISCOVERY_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "_discovery")  # noqa: PTH118, PTH120, PTH100


def register() -> None:
    """Appends the discovery folder; a user's own folders stay first, so their trainers win over ours."""
    folders = [folder for folder in os.environ.get(VARIABLE, "").split(os.pathsep) if folder.strip()]
    if DISCOVERY_FOLDER not in folders:
        os.environ[VARIABLE] = os.pathsep.join([*folders, DISCOVERY_FOLDER])
