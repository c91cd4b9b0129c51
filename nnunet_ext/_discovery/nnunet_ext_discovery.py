"""Hands out the trainers of this plugin by name to nnU-Net, which scans this folder (``nnUNet_extTrainer``).

nnU-Net imports every module it finds here as a top-level module and drops it again after the search, hence a leaf
folder without ``__init__.py``, one file with a name of its own, and no import before a name of ours is asked for. No
class lives here: ``hasattr`` and ``getattr`` reach the module's ``__getattr__`` (PEP 562).
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("nnUNetTrainer"):
        from nnunet_ext.trainers.registry import resolve

        trainer = resolve(name)
        if trainer is not None:
            return trainer
    raise AttributeError(name)
