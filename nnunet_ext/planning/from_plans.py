"""From one configuration of a plans file to a network, whatever network the plans name."""

from __future__ import annotations

import inspect
import pydoc
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager
from torch import nn

from nnunet_ext.architectures.blocks.topology import PlanKeywords
from nnunet_ext.errors import UserError, reason_of

NetworkT = TypeVar("NetworkT", bound=nn.Module)

#: What building a network raises where plans hold values that do not go together, such as lists of different lengths.
REFUSALS = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, RuntimeError)


def from_configuration(
    network: type[NetworkT],
    configuration_manager: ConfigurationManager,
    num_input_channels: int,
    num_output_channels: int,
    deep_supervision: bool,
    identity: Mapping[str, Any] = MappingProxyType({}),
    **options: Any,
) -> NetworkT:
    """Builds ``network`` for a configuration.

    Networks of ours draw their weights themselves. One that has ``initialize``, as nnU-Net's own have, which a user's
    trainer may name as its ``network_class``, is initialized by that, as nnU-Net does.

    The plans' keyword arguments are the network's, as ``nnunetv2.utilities.get_network_from_plans`` reads them. Where
    the plans name another network, those that are that one's own options are left out.
    What plans know beyond them is handed over if the constructor asks for it by keyword: ``cascade_channels`` (how many
    of the last input channels are segmentations of a previous stage) and ``patch_size``.

    Args:
        network: class that takes nnU-Net's plan keywords.
        configuration_manager: one configuration of the plans.
        num_input_channels: image channels plus those of a previous stage.
        num_output_channels: segmentation heads.
        deep_supervision: whether the network returns coarse outputs too.
        identity: options that tell networks of one class apart: plans with other values name another network.
        options: further keyword arguments of the constructor; they win over the plans'.

    Raises:
        UserError: the plans name a layer type that cannot be imported, or values that the network refuses.
    """
    arguments = _plan_arguments(configuration_manager)
    known = inspect.signature(network).parameters
    if not _are_plans_of(network, configuration_manager):
        arguments = {name: value for name, value in arguments.items() if name in known}
    elif any(name in arguments and arguments[name] != value for name, value in identity.items()):
        arguments = {name: value for name, value in arguments.items() if name in PlanKeywords.__annotations__}
    image_channels = len(configuration_manager.normalization_schemes)
    previous = configuration_manager.previous_stage_name
    offered = {
        "cascade_channels": 0 if previous is None else num_input_channels - image_channels,
        "patch_size": tuple(configuration_manager.patch_size),
    }
    arguments |= {name: value for name, value in offered.items() if name in known}
    arguments |= {
        "input_channels": num_input_channels,
        "num_classes": num_output_channels,
        "deep_supervision": deep_supervision,
        **options,
    }
    try:
        built = network(**arguments)
    except REFUSALS as error:
        raise UserError(f"{network.__name__} cannot be built from these plans: {reason_of(error)}") from error
    initialize = getattr(built, "initialize", None)
    if initialize is not None:
        built.apply(initialize)
    return built


def _plan_arguments(configuration_manager: ConfigurationManager) -> dict[str, Any]:
    arguments = dict(configuration_manager.network_arch_init_kwargs)
    for name in configuration_manager.network_arch_init_kwargs_req_import:
        path = arguments.get(name)
        if path is None:
            continue
        arguments[name] = pydoc.locate(path)
        if arguments[name] is None:
            raise UserError(
                f"the plans name {path} as {name}, which cannot be imported",
                remedy="plan again, or install what it needs",
            )
    return arguments


def _are_plans_of(network: type[nn.Module], configuration_manager: ConfigurationManager) -> bool:
    return configuration_manager.network_arch_class_name == f"{network.__module__}.{network.__qualname__}"
