"""The dataset.json that plans were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_preprocessed, nnUNet_raw

from nnunet_ext.errors import UserError
from nnunet_ext.nnunet_json import read_dataset_json


def dataset_json_of(plans: dict[str, Any]) -> dict[str, Any]:
    """The dataset.json in the folder of the plans, or else that of the raw dataset.

    Raises:
        UserError: there is none, or it is not one that nnU-Net can plan and train with.
    """
    for folder in (nnUNet_preprocessed, nnUNet_raw):
        file = Path(folder) / plans["dataset_name"] / "dataset.json"
        try:
            content = read_dataset_json(file)
        except FileNotFoundError:
            continue
        for keys in (("channel_names", "modality"), ("file_ending",)):
            if not any(key in content for key in keys):
                raise UserError(f"the dataset.json has no {keys[0]}", file=file, remedy="convert the dataset again")
        return content
    raise UserError("the dataset has no dataset.json", file=file, remedy="convert the dataset again")


def number_of_cases(dataset_json: dict[str, Any]) -> int | None:
    """For training, as nnU-Net's planner counts them; None where the file holds no number there."""
    number = dataset_json.get("numTraining")
    return number if isinstance(number, int) and not isinstance(number, bool) and number > 0 else None
