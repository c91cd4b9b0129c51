"""What a worker is asked to do for one case, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from nnunet_ext.dataset_conversion.case import Case, slice_id
from nnunet_ext.dataset_conversion.checks import Finding, Policy, errors
from nnunet_ext.dataset_conversion.description import Dataset, Target
from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Task:
    """Convert one case.

    Args:
        case: its files.
        dataset, target: what is known and wanted.
        folder: the dataset's folder in nnUNet_raw.
        link: ``--link``.
        policy: which findings are errors.
        drop_empty_slices: leave out slices whose mask is empty.
        resize: (x, y) that pictures are brought to; None keeps theirs.
        details: what the plan found out, of the form's own kind.
        bytes_to_write: estimate for the free-space check.
        operations: what will be done, for the dry run: (operation, output).
        orientation: letters of the directions in which the axes of a volume run, in the order of storage, such as LPS;
            empty for pictures, and before the header is looked at.
    """

    case: Case
    dataset: Dataset
    target: Target
    folder: str
    link: str
    policy: Policy
    drop_empty_slices: bool = False
    resize: tuple[int, int] | None = None
    details: Any = None
    bytes_to_write: int = 0
    operations: tuple[tuple[str, str], ...] = ()
    orientation: str = ""

    def note(
        self, result: CaseResult, code: str, message: str, file: str = "", remedy: str = "", severity: str = ""
    ) -> None:
        """Add a finding of this case to its result, under the user's policy."""
        result.add([Finding(code, message, self.case.name, file, remedy, severity)], self.policy)

    def fail(self, result: CaseResult, error: UserError) -> None:
        """Add the finding that a coded error stands for."""
        result.add([Finding.of(error, self.case.name)], self.policy)

    def image_path(self, identifier: str, channel: int) -> str:
        part = "imagesTr" if self.case.split == "train" else "imagesTs"
        return f"{part}/{identifier}_{channel:04d}{self.target.file_ending}"

    def label_path(self, identifier: str) -> str:
        part = "labelsTr" if self.case.split == "train" else "labelsTs"
        return f"{part}/{identifier}{self.target.file_ending}"


@dataclass
class CaseResult:
    """What became of a case: everything that provenance, report and splits need, as plain data.

    Args:
        case: identifier.
        outputs: identifiers of nnU-Net that the case became.
        sources: role, path, size and sha256 of each source file.
        files: path, operation, size and sha256 of each output file. ``of`` says what the checksum is over: ``"file"``,
            its bytes, for links and copies; ``"content"``, its uncompressed content, for everything written anew.
        findings: after the user's policy.
        voxels: class -> number of voxels, empty without a label.
        shape, spacing: of the case, (x, y, z).
        equal_channels: groups of channel names with equal voxels.
        digests: of the voxels of each image, to find duplicates.
        fingerprint: difference hash of a picture, to find near duplicates; empty where it is not looked for.
        label_dtype: type of the source label.
        resized_from: shape before ``--resize``; empty where nothing was resized.
        source_labels: output identifier -> paths of its source label, for the way back.
    """

    case: str
    outputs: list[str] = field(default_factory=list)
    sources: list[dict[str, Any]] = field(default_factory=list)
    files: list[dict[str, Any]] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    voxels: dict[int, int] = field(default_factory=dict)
    shape: list[int] = field(default_factory=list)
    spacing: list[float] = field(default_factory=list)
    equal_channels: list[list[str]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    fingerprint: str = ""
    label_dtype: str = ""
    resized_from: list[int] = field(default_factory=list)
    source_labels: dict[str, list[str]] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        return bool(errors(self.findings))

    def add(self, findings: Iterable[Finding], policy: Policy) -> None:
        self.findings += policy.apply(findings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"voxels": {str(value): count for value, count in self.voxels.items()}}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CaseResult:
        return cls(
            **{
                **data,
                "findings": [Finding(**finding) for finding in data["findings"]],
                "voxels": {int(value): count for value, count in data["voxels"].items()},
            }
        )


def identifiers(case: Case, target: Target) -> list[str]:
    """Identifiers of nnU-Net that a case will become: one for each slice where the target is made of slices."""
    return [slice_id(case.id, number) for number in case.numbers] if target.form == "slices" else [case.id]
