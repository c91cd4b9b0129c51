"""Families of networks, and the tables that are views of them. Imports neither torch nor nnU-Net.

A family is added by its file in this folder and one line in ``FAMILY_NAMES``.
"""

from __future__ import annotations

import importlib
import json
from functools import lru_cache
from importlib import resources
from typing import Any

from nnunet_ext.families.rows import Encoder, Family, Loss, Network, NetworkSuffix, Schedule, Trainer

FAMILY_NAMES: tuple[str, ...] = (
    "cfnet",
    "cfformer",
    "attention",
)

FAMILIES: tuple[Family, ...] = tuple(
    importlib.import_module(f"nnunet_ext.families.{name}").FAMILY for name in FAMILY_NAMES
)
NETWORKS: dict[str, Network] = {row.name: row for family in FAMILIES for row in family.networks}
TRAINERS: dict[str, Trainer] = {row.name: row for family in FAMILIES for row in family.trainers}
NETWORK_SUFFIXES: tuple[NetworkSuffix, ...] = tuple(row for family in FAMILIES for row in family.suffixes)
LOSSES: dict[str, Loss] = {row.key: row for family in FAMILIES for row in family.losses}
SCHEDULES: dict[str, Schedule] = {row.key: row for family in FAMILIES for row in family.schedules}
#: part of a network -> its rows in all networks that have such a part
ENCODERS: dict[str, tuple[Encoder, ...]] = {
    part: tuple(row for network in NETWORKS.values() for row in network.encoders if row.part == part)
    for part in dict.fromkeys(row.part for network in NETWORKS.values() for row in network.encoders)
}


_NOT_MEASURED: dict[str, Any] = {
    "reference_parameters": {},
    "default_parameters": None,
    "default_training_gb": None,
}


def trainers_of(network: str) -> tuple[Trainer, ...]:
    """The trainers of a network, in the order of its family."""
    return tuple(row for row in TRAINERS.values() if row.network == network)


def suffixes_of(network: str, form: str | None = None) -> tuple[NetworkSuffix, ...]:
    """The suffixes that only trainers of this network know; with ``form``, those that trainers of this form know."""
    return tuple(row for row in NETWORK_SUFFIXES if network in row.networks and (form is None or form in row.forms))


def load(path: str) -> Any:
    """The object behind ``"package.module:name"`` of a row; its module is imported now."""
    module, name = path.split(":")
    return getattr(importlib.import_module(module), name)


@lru_cache
def figures(network: str) -> dict[str, Any]:
    """What ``make figures`` measured of a network: ``reference_parameters`` by published form, ``default_parameters``
    and ``default_training_gb`` on nnU-Net's default plans for BraTS. A network not measured yet has none of them."""
    (family,) = (family.name for family in FAMILIES if any(row.name == network for row in family.networks))
    file = resources.files(__name__) / "figures" / f"{family}.json"
    measured = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return _NOT_MEASURED | measured.get(network, {})
