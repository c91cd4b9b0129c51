"""What plans ask of a machine: an estimate for each configuration, seconds of an epoch, and what is to preprocess."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_raw
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_ext.errors import UserError
from nnunet_ext.planning import gpu, make_plans
from nnunet_ext.planning.dataset_json import dataset_json_of, number_of_cases
from nnunet_ext.planning.estimate import Estimate, estimate
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.timing import epoch_seconds


@dataclass(frozen=True)
class PlanFacts:
    """Facts of plans.

    Attributes:
        plans: content of the plans file.
        rows: estimates, one a configuration.
        seconds: number of the row -> seconds of an epoch, where a GPU is present.
        missing: configurations whose preprocessed data is missing or incomplete.
    """

    plans: dict[str, Any]
    rows: tuple[Estimate, ...]
    seconds: dict[int, float]
    missing: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        rows = [row.as_json() for row in self.rows]
        for number, value in self.seconds.items():
            rows[number]["seconds_per_epoch"] = value
        return {
            "plans_name": self.plans["plans_name"],
            "configurations": rows,
            "to_preprocess": list(self.missing),
        }


def facts_of(wanted: make_plans.Wanted, plans: dict[str, Any], only: Sequence[str] | None) -> PlanFacts:
    """Estimates the configurations of ``plans``, or those named in ``only``.

    Raises:
        UserError: ``only`` names one that the plans have not.
    """
    names = list(plans["configurations"])
    unknown = [name for name in only or () if name not in names]
    if unknown:
        raise UserError(f"these plans have no configuration {unknown[0]}", remedy=f"choose from {', '.join(names)}")
    chosen = list(only or names)
    manager = PlansManager(plans)
    dataset_json = dataset_json_of(plans)
    rows, seconds = [], {}
    for number, name in enumerate(chosen):
        rows.append(_estimate(wanted, manager, name, dataset_json))
        if torch.cuda.is_available():
            measured = _seconds(wanted, manager, name, dataset_json, rows[-1])
            if measured is not None:
                seconds[number] = measured
    cases = list(get_filenames_of_train_images_and_targets(str(Path(nnUNet_raw) / wanted.dataset_name), dataset_json))
    return PlanFacts(plans, tuple(rows), seconds, tuple(make_plans.to_preprocess(plans, cases, chosen)))


def _arguments(wanted: make_plans.Wanted, manager: PlansManager, name: str, dataset_json: dict[str, Any]) -> tuple:
    configuration = manager.get_configuration(name)
    channels = determine_num_input_channels(manager, configuration, dataset_json)
    heads = manager.get_label_manager(dataset_json).num_segmentation_heads
    return wanted.network, configuration, channels, heads, True


def _estimate(wanted: make_plans.Wanted, manager: PlansManager, name: str, dataset_json: dict[str, Any]) -> Estimate:
    arguments = _arguments(wanted, manager, name, dataset_json)
    return estimate(
        wanted.network_name,
        manager,
        name,
        lambda: from_configuration(*arguments, **wanted.options),
        input_channels=arguments[2],
        classes=arguments[3],
        optimizer=wanted.optimizer,
        available=wanted.target * gpu.GB,
        cases=number_of_cases(dataset_json),
    )


def _seconds(
    wanted: make_plans.Wanted, manager: PlansManager, name: str, dataset_json: dict[str, Any], row: Estimate
) -> float | None:
    """Of an epoch on the GPU here; None where these plans are for a larger one."""
    device = torch.device("cuda")
    if row.training_bytes > torch.cuda.get_device_properties(device).total_memory:
        return None
    arguments = _arguments(wanted, manager, name, dataset_json)
    configuration = arguments[1]
    shape = (configuration.batch_size, arguments[2], *configuration.patch_size)
    try:
        return epoch_seconds(from_configuration(*arguments, **wanted.options).to(device), shape, device)
    except torch.cuda.OutOfMemoryError:
        return None
    finally:
        torch.cuda.empty_cache()
