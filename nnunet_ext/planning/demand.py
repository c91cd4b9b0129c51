"""How much memory a network asks for on one patch size and topology, compared with nnU-Net's own network."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import Memory, built_without_data, measure_sample

AUTOCAST = torch.float16
# Weights, gradients, momentum and half-precision copies that a network has beyond PlainConvUNet come off its budget.
_PARAMETER_BYTES = gpu.parameter_bytes(1)
#: what PlainConvUNet knows of the architecture that the planner writes
PLAIN_KEYWORDS = frozenset(inspect.signature(PlainConvUNet).parameters) - {
    "input_channels",
    "num_classes",
    "deep_supervision",
    "nonlin_first",
}


@dataclass(frozen=True)
class Demand:
    """Memory of a network on one patch size and topology, in bytes.

    Attributes:
        sample: for each sample of a batch.
        fixed: once, whatever the batch; only what the network has beyond PlainConvUNet, for which it is 0.
        memory: as measured.
    """

    sample: int
    fixed: int
    memory: Memory


def demand_of(
    network: type[nn.Module],
    arch_kwargs: Mapping[str, Any],
    options: Mapping[str, Any],
    imported_keywords: Sequence[str],
    input_shape: Sequence[int],
    classes: int,
) -> Demand:
    """Measure a network, and PlainConvUNet of the same topology beside it.

    Args:
        network: class that takes PlainConvUNet's arguments.
        arch_kwargs: of the architecture, as nnU-Net's planner writes them.
        options: further keyword arguments of ``network``.
        imported_keywords: those of ``arch_kwargs`` that are import paths.
        input_shape: channels first, without a batch.
        classes: logits.

    Raises:
        ValueError: the network refuses the topology.
    """
    plain_kwargs = {name: value for name, value in arch_kwargs.items() if name in PLAIN_KEYWORDS}
    plain = _measured(PlainConvUNet, plain_kwargs, imported_keywords, input_shape, classes)
    own = plain
    if network is not PlainConvUNet:
        own = _measured(network, {**plain_kwargs, **options}, imported_keywords, input_shape, classes)
    return Demand(
        own.activations + max(0, own.transient - plain.transient),
        _PARAMETER_BYTES * max(0, own.parameters - plain.parameters),
        own,
    )


def _measured(
    network: type[nn.Module],
    kwargs: dict[str, Any],
    imported_keywords: Sequence[str],
    input_shape: Sequence[int],
    classes: int,
) -> Memory:
    built = built_without_data(
        lambda: get_network_from_plans(
            f"{network.__module__}.{network.__qualname__}",
            dict(kwargs),
            imported_keywords,
            input_shape[0],
            classes,
            allow_init=False,
            deep_supervision=True,
        )
    )
    return measure_sample(built, input_shape, dtype=AUTOCAST, multiply_adds=False)
