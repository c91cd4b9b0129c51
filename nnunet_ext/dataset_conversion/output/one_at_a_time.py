"""One conversion at a time to an id of nnU-Net, and what runs that were killed had unpacked."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnunet_ext.dataset_conversion.output.nnunet_folders import check_name_is_free
from nnunet_ext.dataset_conversion.plan import Destination
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError
from nnunet_ext.lock import Held, Lock, take
from nnunet_ext.shown import printable

_UNPACKED = ".extract-"


@contextmanager
def locked(destination: Destination) -> Iterator[None]:
    """Keep other conversions to this id out, whatever name they give the dataset.

    The file of the lock, ``.Dataset137.lock`` in nnUNet_raw, stays there for the next conversion.

    Raises:
        UserError: OUT07 if another conversion holds the lock, OUT02 if one that has just ended took the id for another
            name, OUT04.
    """
    number, raw = destination.number, destination.raw
    file = raw / f".Dataset{number:03d}.lock"
    try:
        raw.mkdir(parents=True, exist_ok=True)
        lock = take(file, f"converting to {printable(destination.folder_name)}", _say)
    except Held as error:
        raise UserError(
            f"another conversion to id {number} is running: {error.who}", file=file, code="OUT07", remedy=error.remedy
        ) from error
    except OSError as error:
        raise cannot_write(file, error) from error
    with lock:
        check_name_is_free(number, destination.folder_name, raw)
        yield


def _say(line: str) -> None:
    print(printable(line), file=sys.stderr)


@contextmanager
def unpacking(raw: Path) -> Iterator[Path]:
    """A folder below nnUNet_raw that archives may be unpacked to, and that is removed at the end with all it holds.

    It is not made here: most conversions need none. What runs that were killed left is removed first: each such folder
    has a lock beside it, which ended with its process. A folder without one is none of ours, or of a conversion by
    version 0.1.0 that may be running, and stays.

    Raises:
        UserError: OUT04.
    """
    above = [folder for folder in (raw, *raw.parents) if not folder.exists()]
    try:
        raw.mkdir(parents=True, exist_ok=True)
        _remove_what_the_dead_unpacked(raw)
        folder, lock = _own_folder(raw)
    except OSError as error:
        raise cannot_write(raw, error) from error
    try:
        yield folder
    finally:
        _remove(folder, lock)
        with suppress(OSError):  # a conversion that wrote nothing leaves no folder
            for each in above:
                each.rmdir()


def _own_folder(raw: Path) -> tuple[Path, Lock]:
    while True:
        folder = raw / f"{_UNPACKED}{os.urandom(6).hex()}"
        with suppress(Held):  # by one that looks whether its process has ended
            return folder, take(_lock_of(folder), "unpacking")


def _remove_what_the_dead_unpacked(raw: Path) -> None:
    # NAME.lock, or NAME.lock.held where the file system does not lock
    for name in sorted({path.name.partition(".lock")[0] for path in raw.glob(f"{_UNPACKED}*.lock*")}):
        with suppress(Held, OSError):
            _remove(raw / name, take(_lock_of(raw / name)))


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _remove(folder: Path, lock: Lock) -> None:
    if folder.is_symlink():  # none of ours, and it leads elsewhere
        folder.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    # by its lock the next conversion finds what could not be removed
    lock.release(remove=not folder.exists())
