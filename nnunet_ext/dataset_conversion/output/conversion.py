"""What a conversion did, or would do, as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.folds.splits import Splits
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.tasks import CaseResult


@dataclass
class Conversion:
    """What a conversion did, or would do.

    Args:
        plan: what was planned.
        results: one for each case that was written.
        findings: those that belong to no written case, after the user's policy.
        splits: the folds.
        resumed: number of cases that an earlier, interrupted run had finished.
        complete: whether the dataset is there (not for a dry run).
        already: whether it had been there before, with nothing left to do.
    """

    plan: Plan
    results: list[CaseResult] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    splits: Splits | None = None
    resumed: int = 0
    complete: bool = False
    already: bool = False

    @property
    def folder(self) -> Path:
        return self.plan.destination.folder

    @property
    def all_findings(self) -> list[Finding]:
        return [*self.findings, *(finding for result in self.results for finding in result.findings)]
