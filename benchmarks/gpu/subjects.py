"""What is measured: networks and trainers as the tables of nnunet_ext list them, and the plans they are built for.

This file alone reads those tables, so that a new family of networks needs no change here. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nnunet_ext.families import FAMILIES, NETWORKS, Network, trainers_of

NNUNET = "dynamic_network_architectures.architectures.unet"
PLAIN, RESIDUAL = "PlainConvUNet", "ResEnc M"
STOCK_TRAINER = "nnUNetTrainer"


@dataclass(frozen=True)
class Subject:
    """A network.

    Attributes:
        name: in rows.
        class_path: module and class.
        built_with: options of the class that make it this network.
        image_channels: the fewest it accepts.
        residual: whether its plans are those of nnU-Net's residual encoder planner, size M.
        recompute: False: it keeps what it would compute again in the backward pass.
        channels_last: whether weights and images are stored with the channels last.
    """

    name: str
    class_path: str
    built_with: Mapping[str, Any] = field(default_factory=dict, hash=False)
    image_channels: int = 1
    residual: bool = False
    recompute: bool = True
    channels_last: bool = False


@dataclass(frozen=True)
class Plan:
    """What a plans file says of one configuration. Voxels are isotropic; every stage but the first halves the map."""

    name: str
    patch: tuple[int, ...]
    batch: int
    features: tuple[int, ...]
    channels: int = 4
    classes: int = 4

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a batch: (B, C, *patch)."""
        return (self.batch, self.channels, *self.patch)


BRATS_FEATURES = (32, 64, 128, 256, 320, 320)
TOY_FEATURES = (8, 16, 32)


def brats(edge: int, batch: int = 2, toy: bool = False) -> Plan:
    """nnU-Net's default plans for BraTS, whose patch is 128 x 128 x 128, on patches of another edge too."""
    if toy:
        return Plan(f"{edge}^3 toy", (edge,) * 3, batch, TOY_FEATURES)
    return Plan(f"{edge}^3", (edge,) * 3, batch, BRATS_FEATURES)


def pictures(batch: int = 12, toy: bool = False) -> Plan:
    """nnU-Net's default plans for colour pictures of 512 x 512 pixels, two classes."""
    if toy:
        return Plan("16x16 toy", (16, 16), batch, TOY_FEATURES, channels=3, classes=2)
    return Plan("512x512", (512, 512), batch, (32, 64, 128, 256, *[512] * 4), channels=3, classes=2)


def _subject(row: Network) -> Subject:
    return Subject(row.name, row.class_path, row.built_with, row.minimum_image_channels)


def families() -> list[Subject]:
    """The first network of each family that has one, in its default form."""
    return [_subject(family.networks[0]) for family in FAMILIES if family.networks]


def listed() -> list[Network]:
    """One network of every class of the table, the first: those that one class builds differ in small blocks."""
    return list({row.class_path: row for row in reversed(NETWORKS.values())}.values())[::-1]


def networks() -> list[Subject]:
    """nnU-Net's own two first, then one of every class of the table."""
    own = [Subject(PLAIN, f"{NNUNET}:{PLAIN}"), Subject(RESIDUAL, f"{NNUNET}:ResidualEncoderUNet", residual=True)]
    return own + [_subject(row) for row in listed()]


def variants() -> list[Subject]:
    """What may pay on a GPU and does not on a CPU, or costs time for memory: every network that recomputes, without it;
    one network a family with the channels last."""
    kept = [
        replace(_subject(row), name=f"{row.name}, all kept", recompute=False)
        for row in listed()
        if "recompute" in row.options
    ]
    return kept + [replace(one, name=f"{one.name}, channels last", channels_last=True) for one in families()]


def trainers() -> list[tuple[Subject, str]]:
    """nnU-Net's own network and trainer, then each family's with its first trainer that trains any plans."""
    found = [(networks()[0], STOCK_TRAINER)]
    for subject in families():
        rows = [row for row in trainers_of(subject.name) if not row.published]
        found += [(subject, row.name) for row in rows[:1]]
    return found
