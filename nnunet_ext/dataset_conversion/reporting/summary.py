"""What ``nnunet_ext convert`` prints: text for people, one document for programs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from nnunet_ext.dataset_conversion.checks import Finding, count_by_code, errors
from nnunet_ext.dataset_conversion.output.conversion import Conversion
from nnunet_ext.dataset_conversion.reporting import phantom_source
from nnunet_ext.dataset_conversion.reporting.report import by_code, next_command, written
from nnunet_ext.errors import UserError
from nnunet_ext.folders import default_processes
from nnunet_ext.shown import printable

#: of findings of one code that are no errors
_LINES = 3
#: what a code also means, for people alone: the findings themselves are part of what is written
_ALSO = {
    "GEO08": "nor do pictures state an orientation: nobody vouches for what a viewer marks as right and left",
}


def exit_code(conversion: Conversion) -> int:
    """0, or 2 after a dry run that found errors."""
    return 2 if errors(conversion.all_findings) else 0


def as_json(conversion: Conversion) -> dict[str, Any]:
    """The whole conversion as plain data; for a dry run with the operations planned for each case."""
    plan = conversion.plan
    document: dict[str, Any] = {
        "dataset": plan.destination.dataset.name,
        "folder": str(conversion.folder),
        "complete": conversion.complete,
        "cases": {split: len(plan.cases(split)) for split in ("train", "test")},
        "resumed": conversion.resumed,
        "left_out": {why: count for why, count in plan.left_out.items() if count},
        "unknown_files": [file.path for file in plan.unknown],
        "skipped_files": plan.skipped,
        "findings_by_code": count_by_code(conversion.all_findings),
        "findings": [
            {
                "code": finding.code,
                "severity": finding.severity,
                "case": finding.case,
                "message": finding.message,
                "file": finding.file,
                "remedy": finding.remedy,
            }
            for finding in conversion.all_findings
        ],
        "splits": None
        if conversion.splits is None
        else {
            "rule": conversion.splits.rule,
            "folds": [{part: len(cases) for part, cases in fold.items()} for fold in conversion.splits.folds],
        },
    }
    if conversion.complete:
        document["next"] = next_command(plan)
    else:
        document |= {
            "bytes_to_write": plan.bytes_to_write,
            "plan": [
                {
                    "case": task.case.id,
                    "split": task.case.split,
                    "operations": [{"operation": operation, "path": path} for operation, path in task.operations],
                }
                for task in plan.tasks
            ],
        }
    return document


def as_text(conversion: Conversion) -> str:
    """What a person wants to know, the next command last."""
    plan, dataset = conversion.plan, conversion.plan.destination.dataset
    rows = [("", f"{dataset.name} -> {conversion.folder}"), ("found", _found(conversion))]
    rows += [("left out", f"{count} cases: {why}") for why, count in plan.left_out.items() if count]
    if conversion.already:
        rows.append(("written", "everything was there already; nothing was done (--restart converts anew)"))
    elif conversion.complete:
        rows += [("written", line) for line in written(conversion.results)]
    else:
        rows += _planned(conversion)
    if conversion.resumed:
        rows.append(("resumed", f"{conversion.resumed} cases were finished before"))
    if conversion.splits is not None:
        sizes = "/".join(str(len(fold["val"])) for fold in conversion.splits.folds)
        rows.append(("splits", f"{conversion.splits.rule}; validation {sizes}"))
    told = phantom_source.worth_telling(conversion.all_findings, plan.sources)
    for (severity, code), found in by_code(told).items():
        rows += [(severity, line) for line in _lines(severity, code, found, conversion)]
    untold = sorted({finding.code for finding in conversion.all_findings} - {finding.code for finding in told})
    if untold:
        rows.append(("info", f"a phantom: that it is small and made up is not told here ({', '.join(untold)})"))
    if conversion.complete:
        rows.append(("report", str(conversion.folder / "report.md")))
        rows.append(("next:", next_command(plan)))
    lines = [f"{title:<9}{text}" if title not in ("", "next:") else f"{title} {text}".strip() for title, text in rows]
    return "\n".join(map(printable, lines))


def _lines(severity: str, code: str, found: Sequence[Finding], conversion: Conversion) -> list[str]:
    """The findings of one code: every error, up to three others; cases that share a cause share a line."""
    if severity == "error":
        return [str(finding.error()) for finding in found]
    if severity == "info" and conversion.complete:
        return [f"{code} {len(found)} times, such as: {found[0].message}"]
    causes: dict[object, list[Finding]] = defaultdict(list)
    for finding in found:
        causes[_cause(finding)].append(finding)
    shown = list(causes.values())[:_LINES]
    lines = [_of_cases(code, group, len(conversion.plan.tasks)) for group in shown]
    lines += [f"{code}: {_ALSO[code]}"] if code in _ALSO else []
    more = len(found) - sum(map(len, shown))
    return lines + ([f"{code}: {more} more like this"] if more else [])


def _cause(finding: Finding) -> object:
    """The message without the name of the case at its beginning; of a finding without a case, the finding itself."""
    if not finding.case:
        return finding
    return finding.message.removeprefix(finding.case).removeprefix(":").strip()


def _of_cases(code: str, group: Sequence[Finding], cases: int) -> str:
    if len(group) == 1:
        return str(group[0].error())
    number = f"all {cases} cases" if len(group) == cases else f"{len(group)} of {cases} cases"
    return f"{code}: {number}, such as {group[0].case}: {_cause(group[0])}"


def _found(conversion: Conversion) -> str:
    plan = conversion.plan
    text = f"training cases: {len(plan.cases('train'))}"
    if plan.cases("test"):
        text += f", test cases: {len(plan.cases('test'))}"
    if plan.unknown:
        text += f", files not used: {len(plan.unknown)}"
    skipped = plan.skipped - phantom_source.number_of_marks(plan.sources)
    if skipped:
        text += f", hidden files skipped: {skipped}"
    return text


def _planned(conversion: Conversion) -> list[tuple[str, str]]:
    plan = conversion.plan
    counts = Counter(operation for task in plan.tasks for operation, _ in task.operations)
    rows = [("planned", f"{count} x {operation}") for operation, count in sorted(counts.items())]
    if not plan.headers_read:
        rows.append(("planned", "headers were not looked at: a compressed archive is unpacked by the conversion only"))
    rows.append(("planned", f"about {plan.bytes_to_write / 1e6:.1f} MB to write"))
    for task in plan.tasks[:3]:
        rows += [("e.g.", f"{operation} {path}") for operation, path in task.operations[:5]]
    return rows


def verify(conversion: Conversion, processes: int | None) -> None:
    """Run nnU-Net's own integrity check.

    Raises:
        UserError: with nnU-Net's words, if it is not content.
    """
    from contextlib import redirect_stdout
    from sys import stderr

    from nnunetv2.experiment_planning.verify_dataset_integrity import verify_dataset_integrity

    try:
        with redirect_stdout(stderr):
            verify_dataset_integrity(str(conversion.folder), processes or default_processes())
    except (AssertionError, RuntimeError, FileNotFoundError) as error:
        raise UserError(f"nnU-Net's integrity check: {error}", file=conversion.folder) from error
