"""The table of trainers, and trainer classes by name. A trainer's module (and torch) is imported when it is asked
for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

from nnunet_ext.trainers import variants


@dataclass(frozen=True)
class Trainer:
    """One row: name for ``-tr``, defining module, network of the table of networks, one line for lists."""

    name: str
    module: str
    network: str
    summary: str


TRAINERS: dict[str, Trainer] = {
    row.name: row
    for row in (
        Trainer(
            "nnUNetTrainerCFNet",
            "nnunet_ext.trainers.cfnet",
            "CFNet",
            "self-configuring CFNet, 2D and 3D, two image channels or more; nnU-Net's own training",
        ),
        Trainer(
            "nnUNetTrainerCFNet_paper",
            "nnunet_ext.trainers.cfnet",
            "CFNet",
            "CFNet as published: 2D, four image channels, the authors' loss and schedule",
        ),
        Trainer(
            "nnUNetTrainerCFFormer",
            "nnunet_ext.trainers.cfformer",
            "CFFormer",
            "self-configuring CFFormer, 2D and 3D; nnU-Net's training with AdamW and warm-up",
        ),
        Trainer(
            "nnUNetTrainerCFFormer_paper",
            "nnunet_ext.trainers.cfformer",
            "CFFormer",
            "CFFormer as published: 2D, 224 x 224, batch 16, 130 epochs, the paper's loss and augmentation",
        ),
    )
}

_made: dict[str, type] = {}


def _row(name: str) -> Trainer | None:
    """The longest listed name that ``name`` is, or begins with before an underscore."""
    heads = [row for row in TRAINERS.values() if name == row.name or name.startswith(row.name + "_")]
    return max(heads, key=lambda row: len(row.name), default=None)


def canonical_name(name: str) -> str | None:
    """The canonical spelling of a trainer name: listed trainer and suffixes in their one order; None if it is not ours.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
    """
    row = _row(name)
    return None if row is None else _canonical(name, row)


def _canonical(name: str, row: Trainer) -> str:
    return variants.canonical(row.name, variants.parse(name, row.name, row.network), row.network)


def resolve(name: str) -> type | None:
    """The trainer class of that name, or None if the name is not ours.

    A name with suffixes gives an ordinary subclass, made on demand and kept: its ``__name__`` is the requested name
    (nnU-Net names folders and checkpoints by it), and its ``__module__`` hands it out again, so that it pickles.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
        ImportError: a package that this trainer needs is missing.
    """
    row = _row(name)
    if row is None:
        return None
    changes = variants.parse(name, row.name, row.network)
    base = getattr(importlib.import_module(row.module), row.name)
    if not changes:
        return base
    if name not in _made:
        body = {"__module__": __name__, "__doc__": base.__doc__, "recipe": variants.applied(base.recipe, changes)}
        _made[name] = type(name, (base,), body)
    return _made[name]


def optimizer_of(network: str) -> str:
    """The optimizer (``torch.optim``) of the first listed trainer of a network; nnU-Net's SGD for other networks."""
    row = next((row for row in TRAINERS.values() if row.network.lower() == network.lower()), None)
    if row is None:
        return "SGD"
    return getattr(importlib.import_module(row.module), row.name).recipe.optimizer


def __getattr__(name: str) -> Any:
    trainer = resolve(name)
    if trainer is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return trainer
