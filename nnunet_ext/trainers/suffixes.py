"""The suffixes that every trainer knows: ``nnUNetTrainerCFNet_50epochs_NoMirroring`` needs no class to be written.

Suffixes that only one family knows stand in its file (``families/``). The grammar is in ``variants.py``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from nnunet_ext import families
from nnunet_ext.families.rows import FORMS, NUMBER, SELF_CONFIGURING, NetworkSuffix


@dataclass(frozen=True)
class Suffix:
    """One row of the grammar.

    Args:
        spelling: as users read it, e.g. ``_<N>epochs``.
        example: a suffix of this row, without its underscore, for tests and documentation.
        group: suffixes of one group exclude each other.
        pattern: matches the suffix without its underscore; group 1, where there is one, is the value's text.
        changes: text of the value -> fields of ``Recipe`` and their values.
        canonical: text of the value -> the suffix as the canonical name spells it.
        help: what it does, in one line.
        forms: of networks whose trainers know it.
    """

    spelling: str
    example: str
    group: str
    pattern: str
    changes: Callable[[str], Mapping[str, Any]]
    canonical: Callable[[str], str]
    help: str
    forms: tuple[str, ...] = FORMS


def _number(unit: str, field: str, text: str) -> Suffix:
    def count(value: str) -> dict[str, Any]:
        if int(value) < 1:
            raise ValueError("must be at least 1")
        return {field: int(value)}

    return Suffix(
        f"_<N>{unit}", f"7{unit}", field, rf"(\d{{1,9}}){unit}", count, lambda value: f"{int(value)}{unit}", text
    )


def _switch(name: str, group: str, changes: Mapping[str, Any], text: str, forms: tuple[str, ...] = FORMS) -> Suffix:
    return Suffix(f"_{name}", name, group, re.escape(name), lambda _: changes, lambda _: name, text, forms)


def _decimal(letters: str, field: str, text: str, positive: bool) -> Suffix:
    """A number without a dot, which pickle would split names at: an integer, or one with a power of ten."""

    def value(given: str) -> dict[str, Any]:
        number = float(given)
        if not (number > 0 if positive else number >= 0) or number == float("inf"):
            raise ValueError("must be above 0" if positive else "must not be infinite")
        return {field: number}

    def canonical(given: str) -> str:
        """``0.001 -> "lr1e-3"``, ``20.0 -> "lr2e1"``."""
        _, digits, exponent = Decimal(repr(float(given))).normalize().as_tuple()
        return f"{letters}{''.join(map(str, digits))}" + (f"e{exponent}" if exponent else "")

    return Suffix(
        f"_{letters}<X>", f"{letters}3e-4", field, rf"{letters}(\d{{1,20}}(?:e-?\d{{1,3}})?)", value, canonical, text
    )


def _seed(text: str) -> dict[str, Any]:
    if int(text) >= 2**32:
        raise ValueError("must be below 4294967296")
    return {"seed": int(text)}


# Each optimizer comes with the options and the learning rate that are usual for it; _lr<X> changes the latter.
_OPTIMIZERS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"optimizer": "SGD", "optimizer_options": {"momentum": 0.99, "nesterov": True}, "learning_rate": 1e-2},
    "Adam": {"optimizer": "Adam", "optimizer_options": {}, "learning_rate": 3e-4},
    "AdamW": {"optimizer": "AdamW", "optimizer_options": {}, "learning_rate": 3e-4},
}

#: in the order of canonical names
SUFFIXES: tuple[Suffix, ...] = (
    _number("epochs", "epochs", "train N epochs instead of the trainer's own number"),
    _number("its", "iterations", "N iterations per epoch instead of the trainer's own number"),
    _number("vits", "validation_iterations", "N validation iterations per epoch instead of the trainer's own number"),
    _switch(
        "NoMirroring",
        "mirroring",
        {"mirroring": False},
        "no mirroring, neither in augmentation nor at test time",
    ),
    _switch(
        "NoDeepSupervision",
        "deep_supervision",
        {"deep_supervision": False},
        "loss at full resolution alone, as published networks have it",
        (SELF_CONFIGURING,),
    ),
    _switch("bf16", "bf16", {"bf16": True}, "train in bfloat16 instead of float16, also on a CPU"),
    Suffix(
        "_seed<N>",
        "seed5",
        "seed",
        r"seed(\d{1,10})",
        _seed,
        lambda value: f"seed{int(value)}",
        "fixed random numbers: the same run twice on a CPU",
    ),
    _decimal("lr", "learning_rate", "initial learning rate, without a dot: _lr1e-3", positive=True),
    _decimal("wd", "weight_decay", "weight decay, without a dot: _wd5e-4", positive=False),
    _switch(
        "NoAugmentation",
        "augmentation",
        {"augmentation": False, "mirroring": False},
        "no augmentation, and no mirroring at test time",
    ),
    *(
        _switch(
            name,
            "optimizer",
            changes,
            f"{name} with its usual learning rate {changes['learning_rate']:g}, which _lr<X> changes",
        )
        for name, changes in _OPTIMIZERS.items()
    ),
    _switch("DiceCE", "loss", {"loss": "nnunet"}, "nnU-Net's loss: Dice + cross-entropy"),
    *(_switch(row.suffix, "loss", {"loss": row.key}, row.help) for row in families.LOSSES.values()),
    _switch("Poly", "schedule", {"schedule": "poly"}, "nnU-Net's polynomial decay of the learning rate"),
    *(_switch(row.suffix, "schedule", {"schedule": row.key}, row.help) for row in families.SCHEDULES.values()),
)


def network_suffixes(network: str) -> tuple[Suffix, ...]:
    """The rows that only trainers of a network know."""
    return tuple(_of_network(row) for row in families.suffixes_of(network))


def _of_network(row: NetworkSuffix) -> Suffix:
    if NUMBER not in row.name:
        return _switch(row.name, row.group, {"network_options": row.options}, row.help, row.forms)

    def changes(value: str) -> dict[str, Any]:
        if int(value) < 1:
            raise ValueError("must be at least 1")
        return {"network_options": row.options_for(int(value))}

    return Suffix(
        f"_{row.name}",
        row.name.replace(NUMBER, "8"),
        row.group,
        re.escape(row.name).replace(re.escape(NUMBER), r"(\d{1,9})"),
        changes,
        lambda value: row.name.replace(NUMBER, str(int(value))),
        row.help,
        row.forms,
    )


def suffixes_of(network: str, form: str | None = None) -> tuple[Suffix, ...]:
    """All rows that trainers of a network know, with ``form`` those of this form, in canonical order; those of the
    network alone come last."""
    return tuple(row for row in (*SUFFIXES, *network_suffixes(network)) if form is None or form in row.forms)
