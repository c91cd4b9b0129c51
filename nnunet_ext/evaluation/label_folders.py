"""Folders of label maps, and the dataset.json that says what the labels are."""

from __future__ import annotations

from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.regions import foreground
from nnunet_ext.folders import cannot_read
from nnunet_ext.nnunet_json import read_dataset_json


def load_dataset_json(path: Path) -> dict:
    """nnU-Net's dataset.json. Raises ``UserError`` if it is missing, something else, or cannot be evaluated with."""
    try:
        dataset = read_dataset_json(path)
    except FileNotFoundError:
        raise UserError("dataset.json not found", file=path) from None
    if "file_ending" not in dataset:
        raise UserError("dataset.json lacks file_ending", file=path)
    if isinstance(dataset["labels"].get("ignore"), list):
        raise UserError("dataset.json gives a list where nnU-Net's ignore label is a single number", file=path)
    if not foreground(dataset):
        raise UserError("dataset.json names no label but background and ignore", file=path)
    return dataset


def case_files(folder: Path, file_ending: str) -> dict[str, Path]:
    """Case -> label map of a folder, in the order of names.

    Raises:
        UserError: no such folder, or it cannot be read.
    """
    if not folder.is_dir():
        raise UserError("folder not found", file=folder)
    try:
        # macOS leaves hidden files (._NAME) beside those that it copies. The ending is foreign text: no pattern.
        names = sorted(
            path.name for path in folder.iterdir() if path.name.endswith(file_ending) and path.name[0] != "."
        )
    except OSError as error:
        raise cannot_read(folder, error) from error
    return {name.removesuffix(file_ending): folder / name for name in names}


def default_dataset_json(predictions: Path, references: Path) -> Path:
    """The dataset.json that nnUNetv2_predict left beside the predictions, else the one above the references."""
    beside = predictions / "dataset.json"
    return beside if beside.is_file() else references.parent / "dataset.json"
