"""Where a dataset goes, as its description and the user's options say."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nnunet_ext.dataset_conversion.choices import check_choices, chosen
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output.nnunet_folders import check_name_is_free, dataset_id, raw_folder
from nnunet_ext.dataset_conversion.plan import Destination
from nnunet_ext.errors import UserError


def find_destination(dataset: Dataset, options: Options) -> Destination:
    """What a dataset is converted to, and the id and folder that it gets.

    Raises:
        UserError: OUT02, OUT04.
    """
    key = _choose_target(dataset, options)
    target = dataset.targets[key]
    raw = raw_folder(options.output)
    number = dataset_id(options.dataset_id, target.dataset_id)
    name = options.name or target.folder_name
    if not name.replace("_", "").replace("-", "").isalnum() or "__" in name:
        raise UserError(f'-n: "{name}" is no name for a folder', remedy="letters, digits and single _ and - only")
    folder_name = f"Dataset{number:03d}_{name}"
    check_name_is_free(number, folder_name, raw)
    return Destination(dataset, key, number, raw, folder_name)


def check_sources(sources: Iterable[Path], destination: Destination) -> None:
    """Raise OUT01 for a source that is the dataset's folder, lies in it, or is nnUNet_raw itself."""
    for source in sources:
        real, folder = source.resolve(), destination.folder.resolve()
        if real in (folder, destination.raw.resolve()) or folder in real.parents:
            raise UserError(
                "source and output are the same", file=source, remedy="give the download with -i", code="OUT01"
            )


def _choose_target(dataset: Dataset, options: Options) -> str:
    """The key of the target that the user chose, or the first.

    Raises:
        UserError: for a choice that the dataset does not offer, and for options that do not fit the target.
    """
    check_choices(dataset, options.choices)
    key = str(chosen(dataset, options.choices, "target") or next(iter(dataset.targets)))
    target, choice = dataset.targets[key], dataset.choice("target")
    name = f"{dataset.name} {choice.flag} {key}" if choice is not None else dataset.name
    for option, given in (("--resize", options.resize is not None), ("--rgb-norm", options.rgb_norm != "zscore")):
        if given and target.file_ending != ".png":
            raise UserError(f"{option} is for pictures, and {name} is made of volumes", remedy=f"leave {option} out")
    empty = dataset.choice("drop_empty_slices")
    if empty is not None and chosen(dataset, options.choices, "drop_empty_slices") and target.form != "slices":
        raise UserError(f"{empty.flag} is for slices, and {name} is made of volumes", remedy=f"leave {empty.flag} out")
    return key
