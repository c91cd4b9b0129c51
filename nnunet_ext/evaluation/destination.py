"""Where the results of an evaluation go: a folder of their own, never one of nnU-Net's or of the label maps."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.journal import NAME as JOURNAL
from nnunet_ext.evaluation.sources import Source
from nnunet_ext.folders import VARIABLES, nnunet_folder
from nnunet_ext.lock import Held, take
from nnunet_ext.shown import printable

TABLE, SUMMARY, _LOCK = "metrics.csv", "metrics.json", ".evaluate.lock"


def default_folder(source: Source) -> Path:
    """``NAME_evaluation`` beside the predictions, or in the working directory where they lie in nnU-Net's folders."""
    beside = source.predictions.resolve().parent
    # the name of a long path in nnU-Net's results may be longer than that of a folder may be
    return (Path.cwd() if _nnunet_folder_above(beside) else beside) / f"{source.name[-200:]}_evaluation"


def _nnunet_folder_above(path: Path) -> Path | None:
    resolved = path.resolve()
    folders = (folder.resolve() for variable in VARIABLES if (folder := nnunet_folder(variable)) is not None)
    return next((folder for folder in folders if resolved.is_relative_to(folder)), None)


def check_folder(folder: Path, source: Source) -> None:
    """
    Raises:
        UserError: results may not go there.
    """
    above = _nnunet_folder_above(folder)
    if above is not None:
        raise UserError(
            "nnU-Net's own folders hold what nnU-Net writes, and no evaluations",
            file=folder,
            remedy=f"give -o a folder outside of {above}",
        )
    for label_maps in (source.predictions, source.references):
        if folder.resolve().is_relative_to(label_maps.resolve()):
            raise UserError("results would lie among the label maps", file=folder, remedy="give -o another folder")
    if folder.is_dir():
        others = sorted(set(os.listdir(folder)) - {_LOCK})  # noqa: PTH208 - names alone
        if others and JOURNAL not in others:
            raise UserError("the folder holds other files", file=folder, remedy="give -o a new folder")
    elif os.path.lexists(folder):
        raise UserError("not a folder", file=folder, remedy="give -o a new folder")


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Make the folder, and keep other evaluations out of it.

    Raises:
        UserError: another evaluation writes there, or it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = take(folder / _LOCK, "evaluating", lambda line: print(printable(line), file=sys.stderr))
    except Held as error:
        raise UserError(f"another evaluation writes there: {error.who}", file=folder, remedy=error.remedy) from error
    except OSError as error:
        raise UserError(f"cannot write: {error.strerror or error}", file=folder, remedy="give another -o") from error
    try:
        yield
    finally:
        lock.release(remove=True)
        with suppress(OSError):  # it holds results
            folder.rmdir()
