"""Looking at files and folders that may be missing, of another form or full of names."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from nnunet_ext.errors import UserError

#: names that a line lists before it says how many more there are
MAX_LISTED = 10


def read_or_fault(read: Callable[[Path], Any], file: Path) -> tuple[Any, UserError | None]:
    """The content of a file, None where there is none or it is something else; and why the latter."""
    try:
        return read(file), None
    except FileNotFoundError:
        return None, None
    except UserError as error:
        return None, error


def entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is missing."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def without_remedy(error: UserError) -> str:
    """An error without its remedy."""
    return str(UserError(error.message, error.file))


def shortened(things: Iterable[object]) -> str:
    """The first of them, with the number of the others: a foreign file may name millions."""
    words = [str(thing) for thing in things]
    return ", ".join(words[:MAX_LISTED]) + (f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else "")
