"""The suffix grammar of trainer names: ``nnUNetTrainerCFNet_50epochs_NoMirroring`` needs no class to be written.

A suffix sets one field of the trainer's recipe. Several may be joined in any order, each once; the canonical order is
that of ``SUFFIXES``. Names hold neither ``__`` (nnU-Net splits its result folders there) nor dots (pickle splits
names there).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.recipe import Recipe


@dataclass(frozen=True)
class Suffix:
    """One row of the grammar.

    Args:
        spelling: as users read it, e.g. ``_<N>epochs``.
        pattern: matches the suffix without its underscore; group 1, where there is one, is the value's text.
        field: field of ``Recipe`` that it sets.
        value: text of the value -> value.
        text: value -> suffix as the canonical name spells it.
        help: what it does, in one line.
        networks: names of the networks that know it; empty: all. Its value is then a dict of options of the network,
            which are joined to ``Recipe.network_options``.
    """

    spelling: str
    pattern: str
    field: str
    value: Callable[[str], Any]
    text: Callable[[Any], str]
    help: str
    networks: tuple[str, ...] = ()


def _count(text: str) -> int:
    if int(text) < 1:
        raise ValueError("must be at least 1")
    return int(text)


def _seed(text: str) -> int:
    if int(text) >= 2**32:
        raise ValueError("must be below 4294967296")
    return int(text)


def _learning_rate(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("must be above 0")
    return value


def _learning_rate_text(value: float) -> str:
    """``0.001 -> "lr1e-3"``, ``20.0 -> "lr2e1"``: an integer and a power of ten, so without a dot."""
    _, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    return f"lr{''.join(map(str, digits))}" + (f"e{exponent}" if exponent else "")


SUFFIXES: tuple[Suffix, ...] = (
    Suffix("_<N>epochs", r"(\d+)epochs", "epochs", _count, "{}epochs".format, "train N epochs instead of 1000"),
    Suffix("_<N>its", r"(\d+)its", "iterations", _count, "{}its".format, "N iterations per epoch instead of 250"),
    Suffix(
        "_<N>vits",
        r"(\d+)vits",
        "validation_iterations",
        _count,
        "{}vits".format,
        "N validation iterations per epoch instead of 50",
    ),
    Suffix(
        "_NoMirroring",
        r"NoMirroring",
        "mirroring",
        lambda _: False,
        lambda _: "NoMirroring",
        "no mirroring, neither in augmentation nor at test time",
    ),
    Suffix(
        "_NoDeepSupervision",
        r"NoDeepSupervision",
        "deep_supervision",
        lambda _: False,
        lambda _: "NoDeepSupervision",
        "loss at full resolution alone",
    ),
    Suffix(
        "_bf16",
        r"bf16",
        "bf16",
        lambda _: True,
        lambda _: "bf16",
        "train in bfloat16 instead of float16, also on a CPU",
    ),
    Suffix(
        "_seed<N>", r"seed(\d+)", "seed", _seed, "seed{}".format, "fixed random numbers: the same run twice on a CPU"
    ),
    Suffix(
        "_lr<X>",
        r"lr(\d+(?:e-?\d+)?)",
        "learning_rate",
        _learning_rate,
        _learning_rate_text,
        "initial learning rate, without a dot: _lr1e-3",
    ),
)


def _preset(name: str, text: str) -> Suffix:
    return Suffix(f"_{name}", name, "preset", lambda _: {"preset": name}, lambda _: name, text, ("CFFormer",))


def _parts(name: str, used: tuple[bool, ...], text: str) -> Suffix:
    """A row of CFFormer's ablation: which of ``PARTS`` are built."""
    options = dict(zip(PARTS, used, strict=True))
    return Suffix(f"_{name}", name, "parts", lambda _: options, lambda _: name, text, ("CFFormer",))


PARTS = ("use_cnn", "use_transformer", "use_cfca", "use_xff")
#: rows that one network's trainers know, after all others in the canonical order; a field is one choice of several rows
FAMILY_SUFFIXES: tuple[Suffix, ...] = (
    _preset("tiny", "published form only: Swin V2-T"),
    _preset("small", "the small transformer (default; of the published form Swin V2-S)"),
    _preset("base", "the base transformer, Swin V2-B in 2D (default of the published form)"),
    _preset("large", "3D only: wider and deeper than base"),
    _parts("CNNOnly", (True, False, False, False), "the convolutional encoder alone"),
    _parts("TransformerOnly", (False, True, False, False), "the transformer, below two convolutional levels"),
    _parts("PlainFusion", (True, True, False, False), "both encoders joined by concatenation and a convolution"),
    _parts("CFCAOnly", (True, True, True, False), "with the exchange of channels, without crossed convolutions"),
    _parts("XFFOnly", (True, True, False, True), "with crossed convolutions, without the exchange of channels"),
)


def suffixes_of(network: str) -> tuple[Suffix, ...]:
    """All rows that trainers of a network know, in canonical order."""
    return (*SUFFIXES, *(suffix for suffix in FAMILY_SUFFIXES if network in suffix.networks))


def known_suffixes(network: str = "") -> str:
    """The spellings in canonical order, for messages."""
    return ", ".join(suffix.spelling for suffix in suffixes_of(network))


def _match(trainer: str, token: str, network: str) -> tuple[Suffix, Any]:
    for suffix in suffixes_of(network):
        found = re.fullmatch(suffix.pattern, token, flags=re.ASCII)
        if found:
            try:
                return suffix, suffix.value(found.group(1) if found.groups() else "")
            except ValueError as error:
                raise UserError(f"suffix '_{token}' of trainer {trainer}: the number {error}") from error
    raise UserError(
        f"unknown suffix '_{token}' in trainer name {trainer}",
        remedy=f"known suffixes: {known_suffixes(network)} (numbers without dots: _lr1e-3)",
    )


def parse(trainer: str, base: str, network: str = "") -> dict[str, Any]:
    """What a trainer name asks for: ``{field: value}`` in canonical order.

    Args:
        trainer: requested name, e.g. ``"nnUNetTrainerCFNet_seed1_50epochs"``.
        base: the listed trainer at its head, e.g. ``"nnUNetTrainerCFNet"``.
        network: of that trainer, which may know suffixes of its own.

    Raises:
        UserError: an unknown suffix (the message lists the known ones), a number out of range, a suffix given twice.
    """
    changes: dict[str, Any] = {}
    for token in trainer[len(base) :].split("_")[1:]:
        suffix, value = _match(trainer, token, network)
        if suffix.field in changes:
            raise UserError(
                f"suffix {suffix.spelling} is given twice in trainer name {trainer}, or beside another of its kind",
                remedy="keep one of them",
            )
        changes[suffix.field] = value
    order = dict.fromkeys(suffix.field for suffix in suffixes_of(network))
    return {field: changes[field] for field in order if field in changes}


def canonical(base: str, changes: dict[str, Any], network: str = "") -> str:
    """The one canonical name of a trainer with these changes."""
    parts = [base]
    for field, value in changes.items():
        rows = [suffix for suffix in suffixes_of(network) if suffix.field == field]
        # Of several rows that share a field, the one that gives this value.
        row = rows[0] if len(rows) == 1 else next(row for row in rows if row.value("") == value)
        parts.append(row.text(value))
    return "_".join(parts)


def applied(recipe: Recipe, changes: dict[str, Any]) -> Recipe:
    """A recipe with these changes; those of the network join its options."""
    own = {suffix.field for suffix in FAMILY_SUFFIXES}
    options = dict(recipe.network_options)
    for field in own & set(changes):
        options |= changes[field]
    direct = {field: value for field, value in changes.items() if field not in own}
    return replace(recipe, network_options=options, **direct)
