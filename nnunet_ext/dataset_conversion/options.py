"""What a user may choose about every conversion."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ext.dataset_conversion.choices import Chosen
from nnunet_ext.errors import UserError
from nnunet_ext.shown import abridged

#: nnU-Net's own seed.
SEED = 12345
#: Ways in which an unchanged image gets into the dataset's folder.
LINKS = ("auto", "symlink", "hard", "copy")
#: Bytes of a file that a user gives with an option: folds, a table of groups.
MAX_USER_FILE_BYTES = 1 << 26
#: Ways in which nnU-Net may normalise colours -> its name for each channel; empty for the dataset's own names.
RGB_NORMS = {"zscore": "", "0_1": "rgb_to_0_1"}
_MIN_SIDE, _MAX_SIDE = 8, 8192


def parse_splits(text: str) -> int | str:
    """``--splits``: a number, or else the name of a file."""
    return int(text) if re.fullmatch(r"-?[0-9]{1,9}", text) else text


def parse_size(text: str) -> tuple[int, int]:
    """``224x160`` is 224 wide and 160 high.

    Raises:
        UserError: for anything else.
    """
    size = re.fullmatch(r"([0-9]{1,9})[xX]([0-9]{1,9})", text)
    if size is None:
        raise UserError(f'--resize: "{abridged(text)}" is no size', remedy="give width and height, such as 224x224")
    return int(size[1]), int(size[2])


@dataclass(frozen=True)
class Options:
    """What a user may choose with every dataset; the names are those of the command line.

    Args:
        dataset_id: ``-d``; the dataset's own by default.
        output: ``-o``; nnUNet_raw by default.
        name: ``-n``, the part after ``DatasetXXX_``.
        processes: ``-np``; by default one for each core, at most eight.
        link: ``--link``.
        splits: number of folds, 0 for none, or a file with folds.
        seed: of the folds.
        groups: ``--groups``, a csv.
        strict, allow: ``--strict``, ``--allow``.
        limit: convert only the first cases of training and test.
        resume, restart: ``--resume``, ``--restart``.
        exclude_overlap: ``--exclude-overlap``, folder names.
        resize: ``--resize``, (x, y) that pictures are brought to.
        rgb_norm: ``--rgb-norm``, one of ``RGB_NORMS``.
        dry_run: plan only.
        command: the command line, for provenance.
        choices: the dataset's own, by name; one that is absent has its default.
    """

    dataset_id: int | str | None = None
    output: str | Path | None = None
    name: str | None = None
    processes: int | None = None
    link: str = "auto"
    splits: int | str = 5
    seed: int = SEED
    groups: str | None = None
    strict: bool = False
    allow: tuple[str, ...] = ()
    limit: int | None = None
    resume: bool = False
    restart: bool = False
    exclude_overlap: tuple[str, ...] = ()
    resize: tuple[int, int] | None = None
    rgb_norm: str = "zscore"
    dry_run: bool = False
    command: tuple[str, ...] = ()
    choices: Chosen = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise UserError(f'--link: unknown way "{self.link}"', remedy=f"one of {', '.join(LINKS)}")
        if self.processes is not None and self.processes < 1:
            raise UserError(f"-np must be at least 1, not {self.processes}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1, not {self.limit}")
        if isinstance(self.splits, int) and (self.splits < 0 or self.splits == 1):
            raise UserError(f"--splits must be 0 or at least 2, not {self.splits}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"--seed must be 0 to {2**32 - 1}, not {self.seed}", remedy=f"nnU-Net's own is {SEED}")
        if self.rgb_norm not in RGB_NORMS:
            raise UserError(f'--rgb-norm: unknown way "{self.rgb_norm}"', remedy=f"one of {', '.join(RGB_NORMS)}")
        if self.resize is not None and not all(_MIN_SIDE <= side <= _MAX_SIDE for side in self.resize):
            size = "x".join(map(str, self.resize))
            raise UserError(f"--resize: {size} is no size", remedy=f"sides of {_MIN_SIDE} to {_MAX_SIDE} pixels")
        if self.resume and self.restart:
            raise UserError("--resume and --restart exclude each other")
