"""Trainer classes by name. A trainer's module (and torch) is imported when it is asked for."""

from __future__ import annotations

from typing import Any

from nnunet_ext.families import TRAINERS, Trainer, load, trainers_of
from nnunet_ext.trainers import variants

_made: dict[str, type] = {}


def row_of(name: str) -> Trainer | None:
    """The row of the trainer at the head of a name: for ``nnUNetTrainerCFNet_50epochs`` that of ``nnUNetTrainerCFNet``.

    Where several fit, the longest; None where the name is not ours.
    """
    heads = [row for row in TRAINERS.values() if name == row.name or name.startswith(row.name + "_")]
    return max(heads, key=lambda row: len(row.name), default=None)


def variations_of(name: str) -> list[variants.Variation]:
    """What the suffixes of one of our trainer names ask for; empty for any other name.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
    """
    row = row_of(name)
    return [] if row is None else variants.parse(name, row.name, row.network)


def canonical_name(name: str) -> str | None:
    """The canonical spelling of a trainer name: listed trainer and suffixes in their one order; None if it is not ours.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
    """
    row = row_of(name)
    return None if row is None else variants.canonical(row.name, variations_of(name))


def resolve(name: str) -> type | None:
    """The trainer class of that name, or None if the name is not ours.

    A name with suffixes gives an ordinary subclass, made on demand and kept: its ``__name__`` is the requested name
    (nnU-Net names folders and checkpoints by it), and its ``__module__`` hands it out again, so that it pickles.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
        ImportError: a package that this trainer needs is missing.
    """
    row = row_of(name)
    if row is None:
        return None
    variations = variations_of(name)
    base = load(row.class_path)
    if not variations:
        return base
    if name not in _made:
        body = {"__module__": __name__, "__doc__": base.__doc__, "recipe": variants.applied(base.recipe, variations)}
        _made[name] = type(name, (base,), body)
    return _made[name]


def optimizer_of(network: str) -> str:
    """The optimizer (``torch.optim``) of the first trainer that trains a network on any plans; nnU-Net's SGD for a
    network without one."""
    row = next((row for row in trainers_of(network) if not row.published), None)
    return "SGD" if row is None else load(row.class_path).recipe.optimizer


def __getattr__(name: str) -> Any:
    trainer = resolve(name)
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return trainer
