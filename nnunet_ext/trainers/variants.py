"""The grammar of trainer names: a listed trainer, then suffixes in any order, each once.

The canonical order is that of ``suffixes.SUFFIXES``. Names hold neither ``__`` (nnU-Net splits its result folders
there) nor dots (pickle splits names there).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from nnunet_ext import families
from nnunet_ext.errors import UserError
from nnunet_ext.lookup import close_names, plain
from nnunet_ext.shown import abridged, joined
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.suffixes import Suffix, suffixes_of

# the value of a suffix, as typed and as its row spells it
_NUMBER = re.compile(r"\d+(?:e-?\d+)?")
_PLACE = re.compile(r"<[NX]>")


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


def known_suffixes(network: str = "", form: str | None = None) -> str:
    """The spellings in canonical order, for messages."""
    return ", ".join(suffix.spelling for suffix in suffixes_of(network, form))


def parse(trainer: str, base: str, network: str = "", form: str | None = None) -> list[Variation]:
    """What a trainer name asks for, in canonical order.

    Args:
        trainer: requested name, e.g. ``"nnUNetTrainerCFNet_seed1_50epochs"``.
        base: the listed trainer at its head, e.g. ``"nnUNetTrainerCFNet"``.
        network: of that trainer, which may know suffixes of its own.
        form: in which it builds that network; None: whichever.

    Raises:
        UserError: an unknown suffix (the message lists the known ones), one that only the other form knows, a number
            out of range, a suffix given twice.
    """
    found: dict[str, Variation] = {}
    for token in trainer[len(base) :].split("_")[1:]:
        suffix, variation = _understood(trainer, token, network)
        if form is not None and form not in suffix.forms:
            raise UserError(
                f"{base} does not know the suffix {suffix.spelling}: it is for {' and '.join(suffix.forms)} trainers",
                remedy=_instead(trainer, base, token, suffix, network, form),
            )
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
    hint, known = _hint(trainer, token, network), f"known suffixes: {known_suffixes(network)}"
    raise UserError(
        f"unknown suffix '_{abridged(token)}' in trainer name {abridged(trainer)}",
        remedy=f"{hint}{known} (numbers without dots: _lr1e-3)",
    )


def _hint(trainer: str, token: str, network: str) -> str:
    """What an unknown suffix may have been meant to be: one of another place, of another network, or a known one whose
    spelling is near; with the number that was typed."""
    for row in families.TRAINERS.values():
        base, _, ending = row.name.rpartition("_")
        if plain(ending) == plain(token) and trainer.startswith(f"{base}_"):
            others = [each for each in trainer.removeprefix(f"{base}_").split("_") if each != token]
            proposed = "_".join([row.name, *others])
            return f"_{ending} comes first: {proposed}; " if _is_understood(proposed, row) else ""
    meant = plain(_without_number(token))
    known = [row for row in families.NETWORK_SUFFIXES if plain(_without_number(row.name)) == meant]
    owners = list(dict.fromkeys(name for row in known for name in row.networks))
    if owners and network not in owners:
        return f"only trainers of {joined(owners)} know _{token}; "
    spellings = {_without_number(suffix.spelling.removeprefix("_")): suffix for suffix in suffixes_of(network)}
    endings = {row.name.rpartition("_")[2] for row in families.TRAINERS.values() if row.network == network}
    near = close_names(_without_number(token), [*spellings, *endings], 1)
    if not near:
        return ""
    spelling = spellings[near[0]].spelling if near[0] in spellings else f"_{near[0]}"
    number = _NUMBER.search(token)
    return f"did you mean {_PLACE.sub(number.group(), spelling) if number else spelling}? "


def _is_understood(name: str, row: families.Trainer) -> bool:
    try:
        parse(name, row.name, row.network, row.form)
    except UserError:
        return False
    return True


def _instead(trainer: str, base: str, token: str, suffix: Suffix, network: str, form: str) -> str:
    """What to do where a suffix is not for this form: others of its kind, or a trainer of the other form."""
    kin = [row.spelling for row in suffixes_of(network, form) if row.group == suffix.group]
    known = [each for each in trainer.removeprefix(base).split("_")[1:] if each != token]
    heads = [row.name for row in families.trainers_of(network) if row.form in suffix.forms]
    choices = [f"use {joined(kin, 'or')}" if kin else "leave it out"]
    return ", or train ".join([*choices, *("_".join([head, *known, token]) for head in heads[:1])])


def _without_number(text: str) -> str:
    return _NUMBER.sub("", _PLACE.sub("", text))


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
