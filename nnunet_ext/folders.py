"""nnU-Net's three folders, the datasets in them, and how many processes this machine has room for.

Imports nothing of nnU-Net, whose own functions import torch.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.shown import joined

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
    """The folders of one dataset id in one of nnU-Net's folders, by name: one, unless two datasets share the id.

    Raises:
        UserError: the folder is there and cannot be read.
    """
    if folder is None:
        return []
    try:
        with os.scandir(folder) as entries:
            named = [entry.name for entry in entries if entry.name.startswith(f"Dataset{dataset_id:03d}_")]
        return [folder / name for name in sorted(named) if (folder / name).is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot_read(folder, error) from error


def require_readable(folder: Path) -> None:
    """
    Raises:
        UserError: the folder is there, and may not be listed or entered.
    """
    if os.path.isdir(folder) and not os.access(folder, os.R_OK | os.X_OK):  # noqa: PTH112 - Path.is_dir may raise
        raise cannot_read(folder, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def cannot_read(folder: Path, error: OSError) -> UserError:
    """For an operating system's complaint about a folder."""
    return UserError(
        f"the folder cannot be read: {error.strerror or error}", file=folder, remedy="check its path and permissions"
    )


def dataset_name(dataset_id: int, variables: Iterable[str] = (RAW, PREPROCESSED)) -> str:
    """The folder name of a dataset, such as ``Dataset137_BraTS2021``.

    Raises:
        UserError: a folder of nnU-Net is not set; no dataset, or two, of that id.
    """
    variables = tuple(variables)
    unset = [variable for variable in variables if nnunet_folder(variable) is None]
    if unset:
        raise UserError(
            f"{joined(unset)} {'is' if len(unset) == 1 else 'are'} not set",
            remedy=f"export {' '.join(f'{variable}=FOLDER' for variable in unset)}",
        )
    searched = [folder for folder in map(nnunet_folder, variables) if folder is not None]
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
