"""The suffix grammar of trainer names: ``nnUNetTrainerCFNet_50epochs_NoMirroring`` needs no class to be written.

A suffix sets one field of the trainer's recipe. Several may be joined in any order, each once; the canonical order is
that of ``SUFFIXES``. Names hold neither ``__`` (nnU-Net splits its result folders there) nor dots (pickle splits
names there).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from nnunet_ext.errors import UserError


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
    """

    spelling: str
    pattern: str
    field: str
    value: Callable[[str], Any]
    text: Callable[[Any], str]
    help: str


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


def known_suffixes() -> str:
    """The spellings in canonical order, for messages."""
    return ", ".join(suffix.spelling for suffix in SUFFIXES)


def _match(trainer: str, token: str) -> tuple[Suffix, Any]:
    for suffix in SUFFIXES:
        found = re.fullmatch(suffix.pattern, token, flags=re.ASCII)
        if found:
            try:
                return suffix, suffix.value(found.group(1) if found.groups() else "")
            except ValueError as error:
                raise UserError(f"suffix '_{token}' of trainer {trainer}: the number {error}") from error
    raise UserError(
        f"unknown suffix '_{token}' in trainer name {trainer}",
        remedy=f"known suffixes: {known_suffixes()} (numbers without dots: _lr1e-3)",
    )


def parse(trainer: str, base: str) -> dict[str, Any]:
    """Changes of the recipe that a trainer name asks for: ``{field: value}`` in canonical order.

    Args:
        trainer: requested name, e.g. ``"nnUNetTrainerCFNet_seed1_50epochs"``.
        base: the listed trainer at its head, e.g. ``"nnUNetTrainerCFNet"``.

    Raises:
        UserError: an unknown suffix (the message lists the known ones), a number out of range, a suffix given twice.
    """
    changes: dict[str, Any] = {}
    for token in trainer[len(base) :].split("_")[1:]:
        suffix, value = _match(trainer, token)
        if suffix.field in changes:
            raise UserError(
                f"suffix {suffix.spelling} is given twice in trainer name {trainer}", remedy="keep one of them"
            )
        changes[suffix.field] = value
    return {suffix.field: changes[suffix.field] for suffix in SUFFIXES if suffix.field in changes}


def canonical(base: str, changes: dict[str, Any]) -> str:
    """The one canonical name of a trainer with these changes of its recipe."""
    return "_".join([base, *(suffix.text(changes[suffix.field]) for suffix in SUFFIXES if suffix.field in changes)])
