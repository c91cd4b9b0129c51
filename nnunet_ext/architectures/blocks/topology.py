"""The part of a network that nnU-Net plans: stages, widths, kernels, strides and layer types.

A network takes the keywords of a plans file as ``**plan``, hands them to ``Topology.from_plan``, and is decorated with
``takes_plan``, so that its signature names them: planner and commands ask a network's signature what it takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict, TypeVar

from torch import nn

from nnunet_ext.architectures.blocks.input_check import total_strides
from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, per_axis, per_stage

PerStage = int | Sequence[int]
NetworkT = TypeVar("NetworkT", bound=type[nn.Module])


class RequiredPlan(TypedDict):
    """Keywords that nnU-Net's planner always writes, and those that nnU-Net adds when it builds a network."""

    input_channels: int
    num_classes: int
    n_stages: int
    features_per_stage: PerStage
    conv_op: type[nn.Module]
    kernel_sizes: int | Sequence[PerAxis]
    strides: int | Sequence[PerAxis]
    n_conv_per_stage_decoder: PerStage


class PlanKeywords(RequiredPlan, total=False):
    """All keywords of ``PlainConvUNet`` and ``ResidualEncoderUNet``; of ``n_conv_per_stage`` and ``n_blocks_per_stage``
    plans hold one."""

    n_conv_per_stage: PerStage | None
    n_blocks_per_stage: PerStage | None
    conv_bias: bool
    norm_op: type[nn.Module] | None
    norm_op_kwargs: dict[str, Any] | None
    dropout_op: type[nn.Module] | None
    dropout_op_kwargs: dict[str, Any] | None
    nonlin: type[nn.Module] | None
    nonlin_kwargs: dict[str, Any] | None
    deep_supervision: bool


_DEFAULTS: dict[str, Any] = dict.fromkeys(PlanKeywords.__optional_keys__) | {
    "conv_bias": False,
    "deep_supervision": False,
}
_LAYERS = tuple(LayerPlan.__dataclass_fields__)


@dataclass(frozen=True)
class Topology:
    """A plan's stages, finest first, checked and brought to one entry a stage and an axis.

    Args:
        input_channels, num_classes: channels in and out.
        layers: layer types.
        features: channels of each stage.
        kernels, strides: of each stage, one number an axis. The first stride is 1.
        decoder_convs: convolutions of each level of the decoder, coarsest first.
        encoder_convs, encoder_blocks: the plan's number of convolutions or of residual blocks of each stage, as given.
        deep_supervision: whether coarse outputs are wanted.
    """

    input_channels: int
    num_classes: int
    layers: LayerPlan
    features: tuple[int, ...]
    kernels: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    decoder_convs: tuple[int, ...]
    encoder_convs: PerStage | None
    encoder_blocks: PerStage | None
    deep_supervision: bool

    @property
    def n_stages(self) -> int:
        return len(self.features)

    @property
    def dimension(self) -> int:
        """Spatial axes."""
        return self.layers.dimension

    @property
    def divisors(self) -> tuple[int, ...]:
        """What must divide an input's size along each axis."""
        return total_strides(self.strides)

    @classmethod
    def from_plan(cls, network: str, plan: PlanKeywords, min_stages: int = 2, need: str = "") -> Topology:
        """A topology from the keywords of a plans file.

        Args:
            network: its name, for messages.
            plan: keywords of the constructor.
            min_stages: the fewest that the network can take.
            need: what these are for, as the message adds it.

        Raises:
            TypeError: a keyword is missing or unknown.
            ValueError: too few stages, a first stride that is not 1, or a list of the wrong length.
        """
        unknown = sorted(set(plan) - set(PlanKeywords.__annotations__) - set(RequiredPlan.__annotations__))
        if unknown:
            raise TypeError(f"{network} got an unexpected keyword argument '{unknown[0]}'")
        missing = sorted(set(RequiredPlan.__annotations__) - set(plan))
        if missing:
            raise TypeError(f"{network} needs the keyword argument '{missing[0]}'")
        given: dict[str, Any] = _DEFAULTS | dict(plan)
        layers = LayerPlan(*(given[name] for name in _LAYERS))
        stages = given["n_stages"]
        if stages < min_stages:
            raise ValueError(
                f"{network} needs at least {min_stages} stages{need}; got {stages}. The patch is too small for it"
            )
        strides = tuple(per_axis(s, layers.dimension) for s in per_stage("strides", given["strides"], stages))
        if set(strides[0]) != {1}:
            raise ValueError(
                f"the first stage of {network} works at full resolution: its stride must be 1; got {strides[0]}"
            )
        return cls(
            given["input_channels"],
            given["num_classes"],
            layers,
            tuple(per_stage("features_per_stage", given["features_per_stage"], stages)),
            tuple(per_axis(k, layers.dimension) for k in per_stage("kernel_sizes", given["kernel_sizes"], stages)),
            strides,
            tuple(per_stage("n_conv_per_stage_decoder", given["n_conv_per_stage_decoder"], stages - 1)),
            given["n_conv_per_stage"],
            given["n_blocks_per_stage"],
            given["deep_supervision"],
        )


def takes_plan(network: NetworkT) -> NetworkT:
    """Completes the signature of a class whose constructor takes ``**plan``: the plan's keywords, then its own."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    plan = [inspect.Parameter(name, keyword) for name in RequiredPlan.__annotations__]
    plan += [inspect.Parameter(name, keyword, default=_DEFAULTS[name]) for name in _optional_in_order()]
    own = [
        parameter
        for parameter in inspect.signature(network).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    network.__signature__ = inspect.Signature([*plan, *own])  # type: ignore[attr-defined]
    return network


def _optional_in_order() -> list[str]:
    return [name for name in PlanKeywords.__annotations__ if name in _DEFAULTS]
