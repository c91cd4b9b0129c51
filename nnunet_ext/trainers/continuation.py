"""Whether a training is a longer or shorter one of the same trainer, which may take up its checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.trainers import checkpoints, registry

EPOCHS = "epochs"


def epochs_before(written_by: object, own: str, checkpoint: Mapping[str, Any]) -> int | None:
    """The number of epochs of the trainer that wrote a checkpoint, if it is ``own`` but for that number.

    Network, seed, iterations and all other suffixes must be the same; ``checkpoint`` must be one of ours, whose recipe
    tells the number.

    Returns:
        The number; None for another trainer.
    """
    recipe = _mapping(_mapping(checkpoint.get(checkpoints.OURS)).get("recipe"))
    epochs = recipe.get(EPOCHS)
    if not isinstance(written_by, str) or not isinstance(epochs, int) or epochs < 1:
        return None
    try:
        same = _without_epochs(written_by) == _without_epochs(own)
    except UserError:  # a suffix that this version does not know
        return None
    return epochs if same else None


def _without_epochs(name: str) -> tuple[str, list[str]] | None:
    row = registry.row_of(name)
    if row is None:
        raise UserError(f"{name} is no trainer of this plugin")
    kept = [variation.canonical for variation in registry.variations_of(name) if variation.group != EPOCHS]
    return row.name, kept


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
