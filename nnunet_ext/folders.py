"""nnU-Net's three folders, the datasets in them, and how many processes this machine has room for.

Imports nothing of nnU-Net, whose own functions import torch.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from nnunet_ext.errors import UserError

RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
#: environment variables that name nnU-Net's folders, in the order in which a dataset passes through them
VARIABLES = (RAW, PREPROCESSED, RESULTS)
#: more processes than this run short of memory or wait for the disk
MAX_PROCESSES = 8


def nnunet_folder(variable: str) -> Path | None:
    """The folder that an environment variable of nnU-Net names, whether it exists or not; None if it is not set."""
    value = os.environ.get(variable)
    return Path(value) if value else None


def dataset_folders(folder: Path | None, dataset_id: int) -> list[Path]:
    """The folders of one dataset id in one of nnU-Net's folders, by name: one, unless two datasets share the id."""
    if folder is None or not folder.is_dir():
        return []
    return sorted(path for path in folder.glob(f"Dataset{dataset_id:03d}_*") if path.is_dir())


def dataset_name(dataset_id: int, variables: Iterable[str] = (RAW, PREPROCESSED)) -> str:
    """The folder name of a dataset, such as ``Dataset137_BraTS2021``.

    Raises:
        UserError: a folder of nnU-Net is not set; no dataset, or two, of that id.
    """
    searched = []
    for variable in variables:
        folder = nnunet_folder(variable)
        if folder is None:
            raise UserError(f"{variable} is not set", remedy=f"export {variable}=FOLDER")
        searched.append(folder)
    names = {path.name for folder in searched for path in dataset_folders(folder, dataset_id)}
    if len(names) != 1:
        found = f"there are {', '.join(sorted(names))}" if names else "there is none"
        raise UserError(
            f"no single dataset of id {dataset_id}: {found}",
            file=searched[0],
            remedy="rename or remove all but one" if names else "'nnunet_ext convert' makes one",
        )
    return names.pop()


def default_processes(max_processes: int = MAX_PROCESSES) -> int:
    """One process for each core that this process may use, at most ``max_processes``."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(max_processes, available))
