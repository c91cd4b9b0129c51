"""Trainer classes by name. A trainer's module (and torch) is imported when it is asked for."""

from __future__ import annotations

from difflib import SequenceMatcher
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.families import TRAINERS, Trainer, load, trainers_of
from nnunet_ext.lookup import close_names, did_you_mean, plain
from nnunet_ext.shown import abridged, joined
from nnunet_ext.trainers import variants
from nnunet_ext.trainers.recipe import Recipe

_made: dict[str, type] = {}
# A folder of results bears the names of trainer, plans and configuration, and has 255 bytes for them.
_LONGEST_NAME = 200
# share of letters of a name with a typo in it
_NEARLY = 0.9


def check_trainer_name(name: str) -> None:
    """
    Raises:
        UserError: no class can have this name, or no folder.
    """
    if not name.isidentifier() or len(name.encode()) > _LONGEST_NAME:
        raise UserError(
            f"'{abridged(name)}' cannot name a trainer",
            remedy=f"letters, digits and _ only, at most {_LONGEST_NAME}; 'nnunet_ext list trainers' shows ours",
        )


def row_of(name: str) -> Trainer | None:
    """The row of the trainer at the head of a name: for ``nnUNetTrainerCFNet_50epochs`` that of ``nnUNetTrainerCFNet``.

    Where several fit, the longest; None where the name is not ours.
    """
    heads = [row for row in TRAINERS.values() if name == row.name or name.startswith(row.name + "_")]
    return max(heads, key=lambda row: len(row.name), default=None)


def did_you_mean_trainer(name: str, remedy: str = "'nnunet_ext list trainers' shows ours") -> str:
    """The remedy for a name that is no trainer's: which of ours are spelled much like it, with its suffixes."""
    of_network = [row.name for row in TRAINERS.values() if plain(row.network) == plain(name)]
    if of_network:
        return f"{name} is a network; its trainers are {joined(of_network)}. {remedy}"
    tokens = name.split("_")
    heads = {"_".join(tokens[:end]): "_".join(["", *tokens[end:]]).rstrip("_") for end in range(len(tokens), 0, -1)}
    # the longest part of the name that is like one of ours; the rest are suffixes
    for head, rest in heads.items():
        near = close_names(head, TRAINERS, 2)
        if near and SequenceMatcher(None, plain(head), plain(near[0])).ratio() > _NEARLY:
            return f"did you mean {near[0]}{rest}? {remedy}"
    return did_you_mean(name, TRAINERS, remedy)


def variations_of(name: str) -> list[variants.Variation]:
    """What the suffixes of one of our trainer names ask for; empty for any other name.

    Raises:
        UserError: one of our trainers with an unknown or repeated suffix.
    """
    row = row_of(name)
    return [] if row is None else variants.parse(name, row.name, row.network, row.form)


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


def recipe_of(name: str) -> Recipe:
    """The recipe of one of our trainers, its suffixes applied; the name must be ours (``row_of``).

    Raises:
        UserError: an unknown or repeated suffix.
    """
    trainer: Any = resolve(name)
    recipe: Recipe = trainer.recipe
    return recipe


def fixed_values(name: str) -> dict[str, Any]:
    """Patch and batch where one of our trainers fixes them: ``{"patch": "224 x 224", "batch": 16}``."""
    trainer: Any = resolve(name)
    if not trainer.builds_published_network:
        return {}
    patch = trainer.fixed_patch_size
    values = {"patch": None if patch is None else " x ".join(map(str, patch)), "batch": trainer.fixed_batch_size}
    return {key: value for key, value in values.items() if value is not None}


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
