"""The grammar of trainer names: a listed trainer, then suffixes in any order, each once.

The canonical order is that of ``suffixes.SUFFIXES``. Names hold neither ``__`` (nnU-Net splits its result folders
there) nor dots (pickle splits names there).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.suffixes import Suffix, suffixes_of


@dataclass(frozen=True)
class Variation:
    """A suffix of a trainer name, understood.

    Args:
        group: of its row.
        canonical: as the canonical name spells it, without its underscore.
        changes: fields of ``Recipe`` and their values.
    """

    group: str
    canonical: str
    changes: Mapping[str, Any]


def known_suffixes(network: str = "") -> str:
    """The spellings in canonical order, for messages."""
    return ", ".join(suffix.spelling for suffix in suffixes_of(network))


def parse(trainer: str, base: str, network: str = "") -> list[Variation]:
    """What a trainer name asks for, in canonical order.

    Args:
        trainer: requested name, e.g. ``"nnUNetTrainerCFNet_seed1_50epochs"``.
        base: the listed trainer at its head, e.g. ``"nnUNetTrainerCFNet"``.
        network: of that trainer, which may know suffixes of its own.

    Raises:
        UserError: an unknown suffix (the message lists the known ones), a number out of range, a suffix given twice.
    """
    found: dict[str, Variation] = {}
    for token in trainer[len(base) :].split("_")[1:]:
        suffix, variation = _understood(trainer, token, network)
        if suffix.group in found:
            raise UserError(
                f"suffix {suffix.spelling} is given twice in trainer name {trainer}, or beside another of its kind",
                remedy="keep one of them",
            )
        found[suffix.group] = variation
    groups = dict.fromkeys(suffix.group for suffix in suffixes_of(network))
    return [found[group] for group in groups if group in found]


def _understood(trainer: str, token: str, network: str) -> tuple[Suffix, Variation]:
    for suffix in suffixes_of(network):
        match = re.fullmatch(suffix.pattern, token, flags=re.ASCII)
        if match:
            text = match.group(1) if match.groups() else ""
            try:
                changes = suffix.changes(text)
            except ValueError as error:
                raise UserError(f"suffix '_{token}' of trainer {trainer}: the number {error}") from error
            return suffix, Variation(suffix.group, suffix.canonical(text), changes)
    raise UserError(
        f"unknown suffix '_{token}' in trainer name {trainer}",
        remedy=f"known suffixes: {known_suffixes(network)} (numbers without dots: _lr1e-3)",
    )


def canonical(base: str, variations: Iterable[Variation]) -> str:
    """The one canonical name of a trainer with these variations."""
    return "_".join([base, *(variation.canonical for variation in variations)])


def applied(recipe: Recipe, variations: Iterable[Variation]) -> Recipe:
    """A recipe with these variations. Options of the network join those it has."""
    options = dict(recipe.network_options)
    fields: dict[str, Any] = {}
    # What sets several fields comes first: _AdamW brings a learning rate, which _lr<X> beside it changes.
    for variation in sorted(variations, key=lambda variation: -len(variation.changes)):
        changes = dict(variation.changes)
        options |= changes.pop("network_options", {})
        fields |= changes
    return replace(recipe, network_options=options, **fields)
