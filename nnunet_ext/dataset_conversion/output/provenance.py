"""``provenance.json``: where every file of a converted dataset comes from."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nnunet_ext import __version__
from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.checks import Finding, count_by_code
from nnunet_ext.dataset_conversion.choices import in_full
from nnunet_ext.dataset_conversion.label_map import LabelMap
from nnunet_ext.dataset_conversion.options import MAX_USER_FILE_BYTES, Options
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.record_forms import SCHEMA
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.dataset_conversion.writing import sha256
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file

_SHOWN = 100
#: versions that write the same images and labels as this one, so that it can go on with what they began
SAME_CASES = ("0.1.0", __version__)


def deciding_options(plan: Plan, options: Options) -> dict[str, Any]:
    """The options that decide what is written, those of the dataset alone last.

    Two runs that differ in one of them cannot share their work.
    """
    groups = options.groups and _digest(options.groups)
    given = options.splits
    if isinstance(given, str):
        given = _digest(given)
    return {
        "link": options.link,
        "splits": given,
        "seed": options.seed,
        "groups": groups,
        "strict": options.strict,
        "allow": sorted(options.allow),
        "limit": options.limit,
        "exclude_overlap": sorted(options.exclude_overlap),
        "resize": list(options.resize) if options.resize else None,
        "rgb_norm": options.rgb_norm,
        **in_full(plan.destination.dataset, options.choices),
    }


def _digest(file: str) -> str:
    return sha256(read_regular_file(Path(file), MAX_USER_FILE_BYTES))


def header(plan: Plan, options: Options, state: str, run: Mapping[str, Any]) -> dict[str, Any]:
    """The first part of a record. Everything that differs between equal conversions is under ``run``."""
    dataset = plan.destination.dataset
    try:
        nnunet = version("nnunetv2")
    except PackageNotFoundError:
        nnunet = "not installed"
    return {
        "schema": SCHEMA,
        "state": state,
        "dataset": dataset.name,
        "family": dataset.family,
        "folder": plan.destination.folder_name,
        "nnunet_ext": __version__,
        "nnunetv2": nnunet,
        "options": deciding_options(plan, options),
        "run": dict(run),
    }


def run_facts(plan: Plan, options: Options, started: str) -> dict[str, Any]:
    return {
        "started": started,
        "sources": [str(source.resolve()) for source in plan.sources],
        "command": list(options.command),
    }


def check_same_run(record: Mapping[str, Any], plan: Plan, options: Options) -> None:
    """Whether an earlier conversion into the same folder can be continued.

    Raises:
        UserError: OUT05.
    """

    def refuse(what: str) -> UserError:
        return UserError(
            f"{plan.destination.folder_name} was begun {what}",
            file=plan.destination.folder,
            code="OUT05",
            remedy="give the same again, or --restart to convert everything anew",
        )

    if record["dataset"] != plan.destination.dataset.name:
        raise refuse(f"from {record['dataset']}")
    if record["nnunet_ext"] not in SAME_CASES:
        raise refuse(f"by version {record['nnunet_ext']}")
    sources = [str(source.resolve()) for source in plan.sources]
    if record["run"]["sources"] != sources:
        raise refuse(f"from another source ({', '.join(record['run']['sources'])})")
    # A record of a version that did not know a choice of the dataset was made with its default.
    recorded = {**in_full(plan.destination.dataset, {}), **record["options"]}
    for name, value in deciding_options(plan, options).items():
        old = recorded.get(name)
        if old != value and not (name == "allow" and set(old or ()) <= set(value)):
            raise refuse(f"with other options ({name} was {str(old)[:_SHOWN]}, now {value})")


def check_same_cases(record: Mapping[str, Any], plan: Plan) -> None:
    """Whether a finished conversion was made of the files that the sources hold now.

    Raises:
        UserError: OUT05 if a case came or went, or has files of other names or sizes.
    """
    old = {case["id"]: sorted({(file["path"], file["size"]) for file in case["sources"]}) for case in record["cases"]}
    new = {task.case.id: sorted({(file.path, file.size) for _, file in task.case.all_files}) for task in plan.tasks}
    for case in (*new, *old):
        if old.get(case) != new.get(case):
            how = "is new" if case not in old else "is gone" if case not in new else "has other files"
            raise UserError(
                f"the source has changed since {plan.destination.folder_name} was converted: {case} {how}",
                file=plan.destination.folder,
                code="OUT05",
                remedy="--restart converts everything anew",
            )


def finished(
    plan: Plan,
    options: Options,
    run: Mapping[str, Any],
    results: Sequence[CaseResult],
    findings: Sequence[Finding],
    groups: Mapping[str, str],
    rule: str | None,
) -> dict[str, Any]:
    """The whole record. ``findings`` are those that belong to no single case."""
    dataset, labels = plan.destination.dataset, plan.destination.target.labels
    everything = [*findings, *(finding for result in results for finding in result.findings)]
    cases = {task.case.id: task.case for task in plan.tasks}
    return header(plan, options, "finished", run) | {
        "label_map": _label_map(labels),
        "file_ending": plan.destination.target.file_ending,
        "label_role": dataset.label,
        "submission_name": dataset.submission_name,
        "splits": {"rule": rule, "seed": options.seed},
        "licence": dataset.licence,
        "citation": list(dataset.citation),
        "doi": list(dataset.doi),
        "findings_by_code": count_by_code(everything),
        "findings": [_plain(finding, plan.sources) for finding in findings],
        "unknown_files": sorted(file.path for file in plan.unknown),
        "cases": [_case(cases[result.case], result, groups, plan.sources) for result in results],
    }


def _label_map(labels: LabelMap) -> dict[str, Any]:
    return {
        "names": labels.names_for_json,
        "forward": labels.forward_for_json,
        "inverse": None if labels.lossy else {str(ours): source for ours, source in sorted(labels.inverse.items())},
    }


def _case(case: Case, result: CaseResult, groups: Mapping[str, str], sources: Sequence[Path]) -> dict[str, Any]:
    return {
        "id": case.id,
        "name": case.name,
        "split": case.split,
        "outputs": result.outputs,
        "group": groups.get(result.outputs[0], case.group) if result.outputs else case.group,
        "stratum": case.stratum,
        "aliases": dict(case.aliases),
        "shape": result.shape,
        "resized_from": result.resized_from,
        "spacing": result.spacing,
        "voxels": {str(value): count for value, count in result.voxels.items()},
        "label_dtype": result.label_dtype,
        "source_labels": result.source_labels,
        "sources": result.sources,
        "files": result.files,
        "findings": [_plain(finding, sources) for finding in result.findings],
    }


def _plain(finding: Finding, sources: Sequence[Path]) -> dict[str, str]:
    return {
        "code": finding.code,
        "severity": finding.severity,
        "message": relative(finding.message, sources),
        "file": relative(finding.file, sources),
    }


def relative(text: str, sources: Sequence[Path]) -> str:
    """A message without the folder of the sources, so that a source that was moved gives the same record."""
    for source in sources:
        base = source if source.is_dir() else source.parent
        text = text.replace(f"{base}{os.sep}", "")
    return text
