"""What ``nnunet_ext plan`` tells of the plans it made, and what comes next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from nnunetv2.utilities.utils import get_filenames_of_train_images_and_targets

from nnunet_ext import nnunet_json
from nnunet_ext.errors import UserError
from nnunet_ext.families import trainers_of
from nnunet_ext.planning import gpu, make_plans
from nnunet_ext.planning.estimate import Estimate, estimate
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.table import render
from nnunet_ext.planning.timing import epoch_seconds
from nnunet_ext.shown import command, printable


@dataclass(frozen=True)
class Report:
    """The plans with an estimate for each configuration.

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

    @classmethod
    def of(cls, wanted: make_plans.Wanted, plans: dict[str, Any], only: Sequence[str] | None) -> Report:
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
        dataset_json = read_dataset_json(plans)
        rows, seconds = [], {}
        for number, name in enumerate(chosen):
            rows.append(_estimate(wanted, manager, name, dataset_json))
            if torch.cuda.is_available():
                measured = _seconds(wanted, manager, name, dataset_json, rows[-1])
                if measured is not None:
                    seconds[number] = measured
        cases = list(
            get_filenames_of_train_images_and_targets(str(Path(nnUNet_raw) / wanted.dataset_name), dataset_json)
        )
        return cls(plans, tuple(rows), seconds, tuple(make_plans.to_preprocess(plans, cases, chosen)))

    def as_json(self) -> dict[str, Any]:
        rows = [row.as_json() for row in self.rows]
        for number, value in self.seconds.items():
            rows[number]["seconds_per_epoch"] = value
        return {
            "plans_name": self.plans["plans_name"],
            "configurations": rows,
            "to_preprocess": list(self.missing),
        }

    def as_text(self, written: bool) -> str:
        """The table, the place of the plans, and which data they use."""
        lines = []
        if written:
            folder = Path(nnUNet_preprocessed) / self.plans["dataset_name"]
            lines.append(f"plans: {folder / self.plans['plans_name']}.json")
        for row in self.rows:
            data = self.plans["configurations"][row.configuration].get("data_identifier")
            if data is None:
                continue
            state = "to be preprocessed" if row.configuration in self.missing else "there already"
            shared = ", shared with nnUNetPlans" if data.startswith("nnUNetPlans_") else ""
            lines.append(f"data of {row.configuration}: {data}{shared}, {state}")
        return "\n".join([render(self.rows, self.seconds), *map(printable, lines)])

    def preprocess(self, dataset_id: int, processes: int, say: Callable[[str], None]) -> None:
        """Preprocess what is missing, with nnU-Net's own command."""
        for number, name in enumerate(self.missing, start=1):
            say(f"preprocessing {printable(name)} ({number} of {len(self.missing)})")
            make_plans.preprocess(dataset_id, self.plans, [name], processes)

    def next_commands(self, dataset_id: int, processes: int, preprocessed: bool) -> str:
        """The stock commands to type."""
        name = self.plans["plans_name"]
        if self.missing and not preprocessed:
            make_plans.require_own_data(self.plans, self.missing)
        lines = ["next:"]
        if self.missing and not preprocessed:
            missing = ("nnUNetv2_preprocess", "-d", dataset_id, "-plans_name", name, "-c", *self.missing)
            lines.append(f"  {command([*missing, '-np', processes])}")
        model = ("-p", name, *_trainer_option(self.plans))
        names = [row.configuration for row in self.rows]
        lines += [f"  {command(['nnUNetv2_train', dataset_id, each, 0, *model, '--npz'])}" for each in names]
        lines.append("  (folds 0 to 4)")
        # a cascade also wants the segmentations of its previous stage
        first = next((name for name in reversed(names) if name != make_plans.CASCADE), names[-1])
        predict = ("nnUNetv2_predict", "-i", "IMAGES", "-o", "OUT", "-d", dataset_id, "-c", first)
        lines.append(f"  {command([*predict, *model])}")
        return "\n".join(lines)


def read_dataset_json(plans: dict[str, Any]) -> dict[str, Any]:
    """The dataset.json beside the plans, or else that of the raw dataset.

    Raises:
        UserError: there is none, or it is not one that nnU-Net can plan and train with.
    """
    for folder in (nnUNet_preprocessed, nnUNet_raw):
        file = Path(folder) / plans["dataset_name"] / "dataset.json"
        try:
            content = nnunet_json.read_dataset_json(file)
        except FileNotFoundError:
            continue
        for keys in (("channel_names", "modality"), ("file_ending",)):
            if not any(key in content for key in keys):
                raise UserError(f"the dataset.json has no {keys[0]}", file=file, remedy="convert the dataset again")
        return content
    raise UserError("the dataset has no dataset.json", file=file, remedy="convert the dataset again")


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


def _trainer_option(plans: dict[str, Any]) -> tuple[str, ...]:
    """Ours, where the network has a trainer; the stock trainer builds what the plans name."""
    if plans[make_plans.OURS].get("trainer"):
        return "-tr", plans[make_plans.OURS]["trainer"]
    # a published network is what no plans change
    row = next((row for row in trainers_of(plans[make_plans.OURS]["network"]) if not row.published), None)
    return () if row is None else ("-tr", row.name)
