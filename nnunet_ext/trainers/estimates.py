"""Memory of trainers on planned datasets: for ``nnunet_ext estimate``, and for the first line of a training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.families import NETWORKS
from nnunet_ext.folders import PREPROCESSED, dataset_name
from nnunet_ext.planning.dataset_json import dataset_json_of, number_of_cases
from nnunet_ext.planning.estimate import Estimate, estimate
from nnunet_ext.planning.find import find_network
from nnunet_ext.planning.from_plans import REFUSALS
from nnunet_ext.planning.plans_file import read_plans, refuse_foreign_classes
from nnunet_ext.trainers.registry import (
    canonical_name,
    check_trainer_name,
    did_you_mean_trainer,
    optimizer_of,
    resolve,
    row_of,
)


def estimates(
    dataset_id: int,
    trainers: Sequence[str],
    plans_names: Sequence[str],
    configurations: Sequence[str] | None,
    available: float | None,
    trust: bool = False,
) -> list[Estimate]:
    """One row for each plans, configuration and trainer.

    Raises:
        UserError: no such dataset, plans, configuration or trainer; plans that name foreign classes; a trainer that
            refuses a configuration that was asked for.
    """
    name = dataset_name(dataset_id, (PREPROCESSED,))
    classes = {trainer: trainer_class(trainer) for trainer in trainers}
    rows: list[Estimate] = []
    refused: UserError | None = None
    for plans_name in plans_names:
        file = Path(nnUNet_preprocessed) / name / f"{plans_name}.json"
        content = read_plans(file)
        if not trust:
            refuse_foreign_classes(content, file)
        known = list(content["configurations"])
        for configuration in configurations or known:
            if configuration not in known:
                raise UserError(
                    f"the plans have no configuration {configuration}",
                    file=file,
                    remedy=f"choose from {', '.join(known)}",
                )
            for trainer, trainer_type in classes.items():
                label = f"{trainer} {plans_name}" if len(plans_names) > 1 else trainer
                try:
                    rows.append(_estimate(label, trainer_type, content, configuration, available))
                except UserError as error:
                    if configurations:
                        raise
                    refused = error  # such as a published 2D network on 3d_fullres: its other rows count
    if not rows and refused is not None:
        raise refused
    return rows


def network_to_plan(network: str | None, trainer: str | None) -> dict[str, Any]:
    """What ``make_plans.Wanted`` takes of a network's name, or of a trainer's, whose suffixes may set options of the
    network.

    Raises:
        UserError: neither or both that disagree; an unknown name; a trainer that builds a published network, for which
            there is nothing to plan.
    """
    if trainer is None:
        if network is None:
            raise UserError("no network was named", remedy="give -a NETWORK; 'nnunet_ext list networks' shows them")
        name, network_type = find_network(network)
        row = NETWORKS.get(name)
        options = {} if row is None else dict(row.built_with)
        return {"network_name": name, "network": network_type, "optimizer": optimizer_of(name), "options": options}
    check_trainer_name(trainer)
    found: Any = resolve(trainer)
    if found is None:
        raise UserError(f"{trainer} is no trainer of this plugin", remedy=did_you_mean_trainer(trainer))
    listed = row_of(trainer)
    assert listed is not None  # resolve found it there
    if found.builds_published_network:
        raise UserError(
            f"{trainer} builds a published network, which no plans change", remedy=f"train it on any {listed.plans}"
        )
    if network is not None and find_network(network)[0] != listed.network:
        raise UserError(f"{trainer} does not train {network}", remedy="give -a or -tr alone")
    return {
        "network_name": listed.network,
        "network": found.network_class,
        "optimizer": found.recipe.optimizer,
        "options": dict(found.recipe.network_options),
        "trainer": canonical_name(trainer),
    }


def trainer_class(name: str) -> Any:
    """One of ours, or whichever nnU-Net finds.

    Raises:
        UserError: there is none of that name.
    """
    check_trainer_name(name)
    remedy = did_you_mean_trainer(name)
    own = resolve(name)
    if own is not None:
        return own
    try:
        return recursive_find_trainer_class_by_name(name)
    except (TypeError, AssertionError) as error:  # it finds whatever its modules import, such as os
        raise UserError(f"{name} is no trainer", remedy=remedy) from error
    except (RuntimeError, ImportError) as error:
        if "Could not find" in str(error):
            raise UserError(f"there is no trainer {name}", remedy=remedy) from error
        raise UserError(
            f"nnU-Net's search for {name} fails: {reason_of(error)}",
            remedy="'nnunet_ext doctor' looks at the installation",
        ) from error


def available_memory() -> float | None:
    """Bytes of the GPU here; None without one."""
    return float(torch.cuda.get_device_properties(0).total_memory) if torch.cuda.is_available() else None


def _estimate(
    label: str, trainer: Any, content: dict[str, Any], configuration: str, available: float | None
) -> Estimate:
    try:
        return _estimate_unguarded(label, trainer, content, configuration, available)
    except UserError:
        raise
    except REFUSALS as error:
        raise UserError(
            f"{label} cannot be estimated for {configuration}: {reason_of(error)}",
            remedy="plan again, or look at the configuration in the plans file",
        ) from error


def _estimate_unguarded(
    label: str, trainer: Any, content: dict[str, Any], configuration: str, available: float | None
) -> Estimate:
    adapted = getattr(trainer, "adapted_plans", None)
    plans = PlansManager(content if adapted is None else adapted(content, configuration))
    manager = plans.get_configuration(configuration)
    dataset_json = dataset_json_of(content)
    channels = determine_num_input_channels(plans, manager, dataset_json)
    classes = plans.get_label_manager(dataset_json).num_segmentation_heads
    recipe = getattr(trainer, "recipe", None)
    deep_supervision = getattr(recipe, "deep_supervision", True)
    return estimate(
        label,
        plans,
        configuration,
        lambda: trainer.build_network_architecture(plans, manager, channels, classes, deep_supervision),
        input_channels=channels,
        classes=classes,
        optimizer=getattr(recipe, "optimizer", "SGD"),
        available=available,
        cases=number_of_cases(dataset_json),
    )
