"""What this plugin knows of the inside of nnU-Net, which no release promises to keep. Read in nnunetv2 2.8.1.

Three names with an underscore in front. ``tests/planning/test_private_nnunet.py`` fails where a release has moved one.

- ``_build_loss``: ``nnUNetTrainer.initialize`` makes the loss by it; ``BaseTrainer`` overrides it.
- ``_best_ema``: attribute of ``nnUNetTrainer`` and key of its checkpoints; read and set by the functions below.
- ``_kw_requires_import``: key of an architecture in plans files.

``ExperimentPlanner.get_plans_for_configuration`` has a parameter ``_cache``, which nnU-Net hands over by position.
"""

from __future__ import annotations

from typing import Any

#: in a checkpoint, the best smoothed Dice so far, by which nnU-Net chooses ``checkpoint_best``; None before the first
BEST_DICE = "_best_ema"
#: in the architecture of plans, the names of the keyword arguments that are import paths
IMPORTED_KEYWORDS = "_kw_requires_import"


def best_dice(trainer: Any) -> Any:
    """The best smoothed Dice that a trainer has seen; None before its first epoch."""
    return trainer._best_ema


def set_best_dice(trainer: Any, value: Any) -> None:
    """Sets what ``best_dice`` reads, when a training is continued."""
    trainer._best_ema = value
