"""The last step: duplicates, folds, provenance, report, and at the very end ``dataset.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.cases.coverage import mostly_foreground
from nnunet_ext.dataset_conversion.checks import Finding, raise_first
from nnunet_ext.dataset_conversion.folds.duplicates import group_duplicates
from nnunet_ext.dataset_conversion.folds.groups import make_folds
from nnunet_ext.dataset_conversion.folds.splits import Splits
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output import nnunet_folders, provenance
from nnunet_ext.dataset_conversion.output.dataset_json import dataset_json
from nnunet_ext.dataset_conversion.output.journal import remove_leftovers
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.record_forms import PROVENANCE
from nnunet_ext.dataset_conversion.reporting import report
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.dataset_conversion.writing import write_file, write_json


@dataclass
class Finished:
    results: list[CaseResult]
    findings: list[Finding]
    splits: Splits | None


def finish(plan: Plan, options: Options, run: Mapping[str, Any], results: list[CaseResult]) -> Finished:
    """Write everything but the cases themselves. ``dataset.json`` comes last: its presence means that all is there.

    Raises:
        UserError: SPL01 if duplicates leave too few groups.
    """
    folder = plan.destination.folder
    tasks = {task.case.id: task for task in plan.tasks}
    training = [
        identifier for result in results if tasks[result.case].case.split == "train" for identifier in result.outputs
    ]
    duplicates, groups = group_duplicates(plan, tasks, results)
    trained_on = {identifier: groups[identifier] for identifier in training}
    folds, findings = make_folds(plan.destination.dataset, trained_on, plan.strata, options)
    findings = [
        *duplicates,
        *mostly_foreground(results),
        *findings,
        *nnunet_folders.check_preprocessed(folder.name, folds.folds if folds else None),
    ]
    findings = [*plan.findings, *plan.tasks[0].policy.apply(findings)]
    raise_first(findings, "docs/checks.md explains the codes")

    remove_leftovers(folder, {file["path"] for result in results for file in result.files})
    if folds is None:
        (folder / "splits_final.json").unlink(missing_ok=True)
    else:
        write_json(folder / "splits_final.json", folds.folds)
    rule = folds.rule if folds else None
    record = provenance.finished(plan, options, run, results, findings, groups, rule)
    write_json(folder / PROVENANCE, record)
    write_report(plan, results, findings, folds, groups)
    write_json(folder / "dataset.json", dataset_json(plan, options, len(training), rule))
    return Finished(results, findings, folds)


def write_report(
    plan: Plan,
    results: Sequence[CaseResult],
    findings: Sequence[Finding],
    folds: Splits | None = None,
    groups: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.md`` and return its path."""
    path = plan.destination.folder / "report.md"
    write_file(path, report.markdown(plan, results, findings, folds, groups or plan.groups).encode())
    return path
