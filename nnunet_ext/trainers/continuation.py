"""Whether a training may go on from a checkpoint: one of the same trainer, or of one that differs in the number of
epochs alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.trainers import checkpoints, registry
from nnunet_ext.trainers.schedules import schedule_of

EPOCHS = "epochs"


def require_same_training(trainer: Any, checkpoint: Mapping[str, Any], file: Path) -> str:
    """Refuse the checkpoint of another training.

    Args:
        trainer: that would go on.
        checkpoint: with the state of a training.
        file: where it lies, for the message.

    Returns:
        A warning of the schedule that changes, where the number of epochs differs; else nothing.

    Raises:
        UserError: another trainer, or one that has trained all its epochs already.
    """
    written_by, own = checkpoint["trainer_name"], type(trainer).__name__
    if written_by == own:
        return ""
    epochs = _epochs_before(written_by, own, checkpoint)
    done = checkpoint["current_epoch"]
    if epochs is None or not isinstance(done, int):
        raise UserError(
            f"checkpoint was written by {written_by}, not by {own}",
            file=file,
            remedy=f"continue with -tr {written_by}, or start from its weights with -pretrained_weights",
        )
    if done >= trainer.num_epochs:
        raise UserError(
            f"checkpoint of {written_by} has {done} epochs behind it, and {own} trains {trainer.num_epochs}",
            file=file,
            remedy="continue with a trainer of more epochs",
        )
    factor = schedule_of(trainer.recipe.schedule)
    before, now = (trainer.initial_lr * factor(min(done, total - 1), total) for total in (epochs, trainer.num_epochs))
    return (
        f"WARNING: goes on from epoch {done} of {written_by}: the schedule of {epochs} epochs becomes one of "
        f"{trainer.num_epochs}, and the learning rate jumps from {before:.3g} to {now:.3g}"
    )


def changed_recipe(trainer: Any, checkpoint: Mapping[str, Any]) -> str:
    """A warning that names what a recipe has changed since the checkpoint was written; else nothing."""
    ours = checkpoint.get(checkpoints.OURS, {})
    before, now = ours.get("recipe", {}), trainer.recipe.as_dict()
    now.pop(EPOCHS)  # part of the name, which is compared by itself
    changed = [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
    if not changed:
        return ""
    return (
        f"WARNING: the checkpoint was trained by nnunet_ext {ours.get('version')} with another recipe: "
        f"{', '.join(changed)}"
    )


def _epochs_before(written_by: object, own: str, checkpoint: Mapping[str, Any]) -> int | None:
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
