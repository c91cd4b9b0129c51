"""What a user may choose about a conversion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nnunet_ext.dataset_conversion.core.splits import SEED
from nnunet_ext.dataset_conversion.core.writing import LINKS
from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Options:
    """What a user may choose; the names are those of the command line.

    Args:
        dataset_id: ``-d``; the dataset's own by default.
        output: ``-o``; nnUNet_raw by default.
        name: ``-n``, the part after ``DatasetXXX_``.
        target: ``--as``, one of the dataset's targets.
        processes: ``-np``; by default one for each core, at most eight.
        link: ``--link``.
        splits: number of folds, 0 for none, or a file with folds.
        seed: of the folds.
        groups: ``--groups``, a csv.
        strict, allow: ``--strict``, ``--allow``.
        limit: convert only the first cases of training and test.
        resume, restart: ``--resume``, ``--restart``.
        exclude_overlap: ``--exclude-overlap``, folder names.
        only_labelled: ``--only-tumour-slices``.
        dry_run: plan only.
        command: the command line, for provenance.
    """

    dataset_id: int | str | None = None
    output: str | Path | None = None
    name: str | None = None
    target: str | None = None
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
    only_labelled: bool = False
    dry_run: bool = False
    command: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise UserError(f'--link: unknown way "{self.link}"', remedy=f"one of {', '.join(LINKS)}")
        if self.processes is not None and self.processes < 1:
            raise UserError(f"-np must be at least 1, not {self.processes}")
        if self.limit is not None and self.limit < 1:
            raise UserError(f"--limit must be at least 1, not {self.limit}")
        if isinstance(self.splits, int) and (self.splits < 0 or self.splits == 1):
            raise UserError(f"--splits must be 0 or at least 2, not {self.splits}")
        if self.resume and self.restart:
            raise UserError("--resume and --restart exclude each other")
