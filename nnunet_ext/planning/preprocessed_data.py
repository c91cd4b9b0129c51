"""The folders of preprocessed data: which plans share one, what is in it, and what preprocessing would remove."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nnunet_ext.errors import UserError

#: endings of the files of a preprocessed case; .npz and .npy as nnU-Net wrote them before 2.6
CASE_ENDINGS = (".b2nd", ".npz", ".npy", ".pkl")
_OF_THE_DATASET = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
_OF_THE_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg_kwargs",
)


def shares_data(ours: Mapping[str, Any], others: Mapping[str, Any], configuration: str) -> bool:
    """Whether everything that decides the preprocessed voxels of a configuration is equal in two plans. Patch and batch
    sizes are not among that: patches are cut when data is loaded."""
    mine, theirs = ours["configurations"].get(configuration), others["configurations"].get(configuration)
    return (
        mine is not None
        and theirs is not None
        and all(ours.get(key) == others.get(key) for key in _OF_THE_DATASET)
        and all(mine.get(key) == theirs.get(key) for key in _OF_THE_CONFIGURATION)
    )


def data_digest(plans: Mapping[str, Any], configuration: str) -> str:
    """A few characters that differ where ``shares_data`` says that data differs."""
    content = plans["configurations"][configuration]
    decides = [plans.get(key) for key in _OF_THE_DATASET] + [content.get(key) for key in _OF_THE_CONFIGURATION]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]


def choose_data_folders(
    plans: dict[str, Any],
    default: Mapping[str, Any] | None,
    preprocessed_as_usual: bool = True,
    spaced_as_usual: bool = True,
) -> None:
    """Choose the folder of preprocessed data of each configuration of ``plans``, and write it there.

    Where nnU-Net's default plans preprocess to the same voxels, their folder is used. Any other folder gets a name
    that differs with its content, such as ``nnUNetCFNetPlans_2d_1f0c9a3e``: plans made again for another spacing do
    not take old data for their own.

    Args:
        plans: changed in place.
        default: nnU-Net's default plans of the dataset; None where there are none yet.
        preprocessed_as_usual: whether nnU-Net's default preprocessor is used.
        spaced_as_usual: whether nnU-Net chose the spacing; looked at where there are no default plans to compare with.
    """
    shared = set()
    for name in ("2d", "3d_fullres"):
        configuration = plans["configurations"].get(name)
        if configuration is None:
            continue
        same_data = spaced_as_usual if default is None else shares_data(plans, default, name)
        if same_data and preprocessed_as_usual:
            # Another folder that the default plans name may hold anything, and preprocessing would remove it.
            usual = f"nnUNetPlans_{name}"
            if default is None or default["configurations"][name].get("data_identifier") == usual:
                configuration["data_identifier"] = usual
                shared.add(name)
    for name, configuration in plans["configurations"].items():
        if "data_identifier" in configuration and name not in shared:
            configuration["data_identifier"] += f"_{data_digest(plans, name)}"


def missing_cases(folder: Path, cases: Iterable[str]) -> list[str]:
    """The training cases of which ``folder`` does not hold image, segmentation and properties."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    return [
        case
        for case in cases
        if not (f"{case}.pkl" in names and ({f"{case}.b2nd", f"{case}_seg.b2nd"} <= names or f"{case}.npz" in names))
    ]


def require_cases_alone(folder: Path, usual: bool) -> None:
    """Look at a folder that preprocessing will remove.

    Args:
        folder: it need not exist.
        usual: whether it bears the name of these plans or of nnU-Net's default plans.

    Raises:
        UserError: it holds something else than preprocessed cases, or is a link, or bears another name.
    """
    others = [entry.name for entry in folder.iterdir() if entry.suffix not in CASE_ENDINGS] if folder.is_dir() else []
    if others or folder.is_symlink() or (folder.exists() and not usual):
        what = f"holds {others[0]}, which is no preprocessed case" if others else "is a link"
        if not others and not folder.is_symlink():
            what = "bears the name of no plans of nnU-Net or of these"
        raise UserError(
            f"nnU-Net would remove a folder that {what}",
            file=folder,
            remedy="move it elsewhere, or give the configuration of the plans another data_identifier",
        )
