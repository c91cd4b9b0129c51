"""Where the dataset goes: nnU-Net's folders, the dataset's id and name, and what already lies there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.writing import nearest_existing
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_json
from nnunet_ext.folders import PREPROCESSED, RAW, VARIABLES, dataset_folders, nnunet_folder

_ROOM = 1.05


def raw_folder(output: str | Path | None) -> Path:
    """``-o``, or else the folder that nnU-Net's environment variable names.

    Raises:
        UserError: OUT04 if neither is given, or the folder cannot be written to.
    """
    given = Path(output) if output else nnunet_folder(RAW)
    if given is None:
        raise UserError("nnUNet_raw is not set", remedy="export nnUNet_raw=FOLDER, or give -o FOLDER", code="OUT04")
    raw = given.absolute()
    above = nearest_existing(raw)
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        raise UserError(f"{above} cannot be written to", remedy="give a folder of your own with -o", code="OUT04")
    return raw


def dataset_id(text: str | int | None, default: int) -> int:
    """The id behind ``-d``.

    Raises:
        UserError: OUT02 for anything but a number from 1 to 999.
    """
    if text is None:
        return default
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 999:
        raise UserError(f"dataset id must be 1..999, not {text}", remedy=f"for example -d {default}", code="OUT02")
    return number


def check_name_is_free(number: int, folder_name: str, raw: Path) -> None:
    """nnU-Net stops at two names of one id, wherever they lie.

    Raises:
        UserError: OUT02.
    """
    for folder in (raw, *map(nnunet_folder, VARIABLES)):
        for other in dataset_folders(folder, number):
            if other.name != folder_name:
                raise UserError(
                    f"id {number} is taken by {other.name}", file=other, code="OUT02", remedy="give another id with -d"
                )


def check_free_space(folder: Path, needed: int) -> None:
    """Raise OUT03 where the planned bytes and 5 % more do not fit."""
    above = nearest_existing(folder)
    free = shutil.disk_usage(above).free
    if needed * _ROOM > free:
        raise UserError(
            f"about {needed / 1e6:.0f} MB are needed, {free / 1e6:.0f} MB are free",
            file=above,
            remedy="free some space, or give another folder with -o",
            code="OUT03",
        )


def check_preprocessed(folder_name: str, splits: list[dict[str, list[str]]] | None) -> list[Finding]:
    """What an earlier preprocessing left behind that does not fit to the new raw data."""
    preprocessed = nnunet_folder(PREPROCESSED)
    if preprocessed is None:
        return []
    folder = preprocessed / folder_name
    findings = []
    old = _load(folder / "splits_final.json")
    if splits is not None and old is not None and old != splits:
        findings.append(
            Finding(
                "SPL06",
                "nnU-Net will stop at the other splits_final.json of the preprocessed folder",
                file=str(folder / "splits_final.json"),
                remedy="remove that file before nnUNetv2_plan_and_preprocess",
            )
        )
    if (folder / "dataset_fingerprint.json").is_file():
        findings.append(
            Finding(
                "OUT06",
                f"{folder} holds the fingerprint of an earlier conversion",
                file=str(folder),
                remedy="add --clean to nnUNetv2_plan_and_preprocess",
            )
        )
    return findings


def _load(path: Path) -> Any:
    try:
        return read_json(path)
    except (FileNotFoundError, UserError):
        return None
