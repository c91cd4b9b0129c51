"""The last step: duplicates, folds, provenance, report, and at the very end ``dataset.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext import __version__
from nnunet_ext.dataset_conversion.core import place, provenance, report
from nnunet_ext.dataset_conversion.core.checks import Finding, raise_first
from nnunet_ext.dataset_conversion.core.journal import remove_leftovers
from nnunet_ext.dataset_conversion.core.near import close_pairs
from nnunet_ext.dataset_conversion.core.options import RGB_NORMS, Options
from nnunet_ext.dataset_conversion.core.plan import Plan, make_folds
from nnunet_ext.dataset_conversion.core.splits import Groups, Splits
from nnunet_ext.dataset_conversion.core.tasks import CaseResult, Task
from nnunet_ext.dataset_conversion.core.writing import write_atomically


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
    duplicates, groups = _group_duplicates(plan, tasks, results)
    folds, findings = make_folds({identifier: groups[identifier] for identifier in training}, plan.strata, options)
    findings = [*duplicates, *findings, *place.look_at_preprocessed(folder.name, folds.folds if folds else None)]
    findings = plan.findings + plan.tasks[0].policy.apply(findings)
    raise_first(findings, "docs/checks.md explains the codes")

    remove_leftovers(folder, {file["path"] for result in results for file in result.files})
    if folds is None:
        (folder / "splits_final.json").unlink(missing_ok=True)
    else:
        provenance.write_json(folder / "splits_final.json", folds.folds)
    rule = folds.rule if folds else None
    record = provenance.finished(plan, options, run, results, findings, groups, rule)
    provenance.write_json(folder / place.PROVENANCE, record)
    write_report(plan, results, findings, folds, groups)
    provenance.write_json(folder / "dataset.json", dataset_json(plan, options, len(training), rule))
    return Finished(results, findings, folds)


def dataset_json(plan: Plan, options: Options, training: int, rule: str | None) -> dict[str, Any]:
    """nnU-Net's description of the dataset, with our facts under free keys."""
    dataset, target = plan.destination.dataset, plan.destination.target
    labels = target.labels
    content: dict[str, Any] = {
        # nnU-Net chooses the normalisation by these names.
        "channel_names": {
            str(number): RGB_NORMS[options.rgb_norm] or name for number, name in enumerate(dataset.channels)
        },
        "labels": {name: list(value) if isinstance(value, tuple) else value for name, value in labels.names.items()},
        "numTraining": training,
        "file_ending": target.file_ending,
    }
    if labels.regions_class_order:
        content["regions_class_order"] = list(labels.regions_class_order)
    return content | {
        "name": plan.destination.folder_name,
        "description": dataset.title,
        "reference": "; ".join(f"doi:{doi}" for doi in dataset.doi),
        "release": dataset.years_or_release,
        "licence": dataset.licence,
        "citation": list(dataset.citation),
        "converted_by": f"nnunet_ext {__version__}",
        "nnunet_ext": {
            "dataset": dataset.name,
            "version": __version__,
            "channels": list(dataset.channels),
            "resize": list(options.resize) if options.resize else None,
            "label_map": {str(source): ours for source, ours in sorted(labels.forward.items())},
            "splits": rule,
        },
    }


def _group_duplicates(
    plan: Plan, tasks: Mapping[str, Task], results: Sequence[CaseResult]
) -> tuple[list[Finding], dict[str, str]]:
    """DUP03 and DUP04 for cases that hold the same or nearly the same image, and the groups after merging theirs.

    Of cases that share a group already nothing is said, except for pictures, where repetitions are looked for (info).
    """
    own = {result.case: (result.outputs[0] if result.outputs else "") for result in results}
    groups = Groups(plan.groups)
    first: dict[str, str] = {}
    pairs: dict[tuple[str, str], tuple[str, str]] = {}
    for result in results:
        for digest in result.digests:
            other = first.setdefault(digest, result.case)
            if digest and other != result.case:
                pairs[other, result.case] = "DUP03", "the same image"
    near = plan.destination.dataset.near_duplicates
    if near is not None:
        for left, right in close_pairs([result.fingerprint for result in results], near):
            pairs.setdefault((results[left].case, results[right].case), ("DUP04", "nearly the same image"))
    findings = []
    for (one, two), (code, what) in pairs.items():
        cases = tasks[one].case, tasks[two].case
        both = own[one] in plan.groups and own[two] in plan.groups
        known = both and plan.groups[own[one]] == plan.groups[own[two]]
        if known and near is None:
            continue
        tests = sum(case.split == "test" for case in cases)
        where = ("they stay in one fold", "one of them is a test case", "both are test cases")[tests]
        findings.append(
            Finding(
                code,
                f"{cases[0].name} and {cases[1].name} hold {what}{', as known' if known else ''}; {where}",
                cases[1].name,
                cases[1].all_files[0][1].shown,
                severity="info" if known or tests == 2 else "",
            )
        )
        if both:
            groups.merge(own[one], own[two])
    return findings, {identifier: groups[identifier] for identifier in plan.groups}


def write_report(
    plan: Plan,
    results: Sequence[CaseResult],
    findings: Sequence[Finding],
    folds: Splits | None = None,
    groups: Mapping[str, str] | None = None,
) -> Path:
    """Write ``report.md`` and return its path."""
    path = plan.destination.folder / "report.md"
    write_atomically(path, report.markdown(plan, results, findings, folds, groups or plan.groups).encode())
    return path
