"""What a conversion will do, as plain data: where the dataset goes, and everything known before a voxel is read."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ext.dataset_conversion.case import Case, SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset, Target
from nnunet_ext.dataset_conversion.tasks import Task


@dataclass(frozen=True)
class Destination:
    """Where the dataset goes.

    Args:
        dataset: which it is.
        target_key: key of the target that the user chose.
        number: nnU-Net's id.
        raw: nnUNet_raw.
        folder_name: ``DatasetXXX_NAME``.
    """

    dataset: Dataset
    target_key: str
    number: int
    raw: Path
    folder_name: str

    @property
    def target(self) -> Target:
        return self.dataset.targets[self.target_key]

    @property
    def folder(self) -> Path:
        return self.raw / self.folder_name


@dataclass(frozen=True)
class Plan:
    """Everything that is known before a voxel is read.

    Args:
        destination: where the dataset goes.
        sources: folders and archives, as given.
        tasks: one for each case, training cases first.
        findings: after the user's policy.
        groups, strata: of what nnU-Net will train on, by its identifier; for slices that is the identifier of a slice.
            Empty after an error.
        unknown: files that no grammar knows.
        skipped: number of hidden files and leftovers of other programs.
        left_out: why cases are not converted -> how many.
        headers_read: whether headers were looked at, which a dry run does not do in a compressed archive.
    """

    destination: Destination
    sources: tuple[Path, ...]
    tasks: tuple[Task, ...]
    findings: tuple[Finding, ...]
    groups: dict[str, str] = field(default_factory=dict)
    strata: dict[str, str | None] = field(default_factory=dict)
    unknown: tuple[SourceFile, ...] = ()
    skipped: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    headers_read: bool = True

    def cases(self, split: str) -> list[Case]:
        return [task.case for task in self.tasks if task.case.split == split]

    @property
    def bytes_to_write(self) -> int:
        return sum(task.bytes_to_write for task in self.tasks)
