"""The folds: nnU-Net trains with those of the preprocessed folder, a converter writes those of the raw folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.nnunet_json import read_splits

Folds = Sequence[Mapping[str, Sequence[str]]]


def difference(raw: Path, preprocessed: Path) -> str | None:
    """One line naming both files if the preprocessed folds differ from the raw ones, else None.

    A file that is missing or unreadable is no difference: nnU-Net and the doctor speak of it themselves.
    """
    try:
        wanted, used = read_splits(raw), read_splits(preprocessed)
    except (FileNotFoundError, UserError):
        return None
    return None if agree(wanted, used) else warning(raw, preprocessed)


def agree(wanted: Folds, used: Folds) -> bool:
    """Whether every wanted fold is used with the same cases; further folds may follow.

    nnU-Net's planning has the same rule, and stops with a bare assertion where it is broken.
    """
    return len(used) >= len(wanted) and all(
        set(one[part]) == set(other[part])
        for one, other in zip(wanted, used, strict=False)
        for part in ("train", "val")
    )


def warning(raw: Path, preprocessed: Path) -> str:
    """The line that tells of folds which do not agree."""
    return (
        f"the folds in {preprocessed} differ from those in {raw}; training uses the former. "
        f"To use the latter, delete {preprocessed}, plan again, and train every fold anew"
    )
