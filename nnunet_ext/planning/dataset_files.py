"""The files of a dataset that planning reads, looked at before anything is written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_ext.errors import UserError
from nnunet_ext.nnunet_json import read_dataset_json, read_fingerprint, read_splits
from nnunet_ext.planning import fingerprint
from nnunet_ext.planning.plans_file import REMEDY, read_plans


def check_dataset_files(raw: Path, preprocessed: Path, trust: bool = False) -> None:
    """Refuse a dataset that cannot be planned.

    Args:
        raw: folder of the raw dataset.
        preprocessed: its folder of preprocessed data, which need not exist.
        trust: read whatever files its dataset.json lists.

    Raises:
        UserError: no raw data; a file of another form; a dataset.json that lists files elsewhere.
    """
    if not (raw / "dataset.json").is_file():
        have = (preprocessed / fingerprint.FILE).is_file()
        raise UserError(
            "planning needs the raw dataset" + ("" if have else ", and there is no fingerprint either"),
            file=raw / "dataset.json",
            remedy="convert the dataset on this machine, or plan on the one that has it and copy the plans file here",
        )
    description = read_dataset_json(raw / "dataset.json")
    for key in ("file_ending", "numTraining"):
        if key not in description:
            raise _not_a_dataset(f"it has no {key}", raw)
    if not (description.get("channel_names") or description.get("modality")):
        raise _not_a_dataset("it has no channel_names", raw)
    if (preprocessed / fingerprint.FILE).exists():
        read_fingerprint(preprocessed / fingerprint.FILE)
    for folder in (raw, preprocessed):
        if (folder / "splits_final.json").exists():
            read_splits(folder / "splits_final.json")
    if not trust:
        _refuse_outside_files(description, raw)
    if (preprocessed / "nnUNetPlans.json").exists():
        read_plans(preprocessed / "nnUNetPlans.json")


def _not_a_dataset(why: str, raw: Path) -> UserError:
    return UserError(
        f"not a dataset.json of nnU-Net: {why}", file=raw / "dataset.json", remedy="convert the dataset again"
    )


def _refuse_outside_files(description: Mapping[str, Any], raw: Path) -> None:
    """nnU-Net reads the files that a dataset.json lists, wherever they are."""
    inside = Path(nnUNet_raw).resolve()
    for case, files in description.get("dataset", {}).items():
        for path in (*files["images"], files["label"]):
            if inside not in (raw / path).resolve().parents:
                raise UserError(
                    f"dataset.json lists a file outside nnUNet_raw for {case}: {path[:200]}",
                    file=raw / "dataset.json",
                    remedy=REMEDY,
                )
