"""``report.md``: one page on what was found, changed and written; and the short text that the command prints."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from nnunet_ext.dataset_conversion.checks import BY_CODE, Finding
from nnunet_ext.dataset_conversion.folds.splits import Splits
from nnunet_ext.dataset_conversion.output.mirroring import no_mirror_axes
from nnunet_ext.dataset_conversion.output.provenance import relative
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.reporting import phantom_source
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.shown import joined
from nnunet_ext.shown import markdown as plain

_EXAMPLES = 5
_HARD_LINKS = (
    "Images are hard links: they share their bytes with the download, so that editing one changes the other. "
    "`--link copy` makes copies."
)
_WHAT = {
    "relabel": "labels written with nnU-Net's values",
    "hard link": "images linked (hard), unchanged",
    "symlink": "images linked (symbolic), unchanged",
    "copy": "images copied, unchanged",
    "compress": "images compressed, voxels unchanged",
    "rewrite": "images written with a mended header or replaced voxels",
    "decode": "pictures written as PNG",
    "resize": "pictures brought to one size (the mean of the pixels beneath each new one) and written as PNG",
    "stack": "channels stacked from slices",
}


def markdown(
    plan: Plan,
    results: Sequence[CaseResult],
    findings: Sequence[Finding],
    folds: Splits | None,
    groups: Mapping[str, str],
) -> str:
    """The report.

    Args:
        plan: what was planned.
        results: of the cases written.
        findings: those that belong to no written case.
        folds: the splits, if any.
        groups: identifier -> group, duplicates merged.
    """
    dataset, destination = plan.destination.dataset, plan.destination
    everything = [*findings, *(finding for result in results for finding in result.findings)]
    parts = [
        f"# {plain(destination.folder_name)}: {dataset.title}",
        _found(plan, results),
        "## Written\n\n" + "\n".join(f"- {line}" for line in written(results)),
        "## Findings\n\n" + _findings_table(everything, plan),
        _classes(plan, results),
        _sizes(results),
        _groups(groups),
        _splits(folds),
        _mirroring(plan),
        "## Please cite\n\n"
        + "\n".join(f"- {text}" for text in dataset.citation)
        + ("\n\nDOI: " + ", ".join(dataset.doi) if dataset.doi else ""),
        f"## Licence\n\n{dataset.licence}. Check the terms under which you obtained the data.",
        "## Next\n\n```\n" + next_command(plan) + "\n```",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def next_command(plan: Plan) -> str:
    return f"nnUNetv2_plan_and_preprocess -d {plan.destination.number} --verify_dataset_integrity"


def _found(plan: Plan, results: Sequence[CaseResult]) -> str:
    done = {result.case for result in results}
    lines = []
    for split, title in (("train", "training"), ("test", "test")):
        cases = plan.cases(split)
        if cases:
            converted = sum(case.id in done for case in cases)
            lines.append(f"- {title} cases: {len(cases)} found, {converted} converted")
    lines += [f"- {count} cases left out: {plain(why)}" for why, count in plan.left_out.items() if count]
    skipped = plan.skipped - phantom_source.number_of_marks(plan.sources)
    if skipped:
        lines.append(f"- {skipped} hidden or unfinished files skipped")
    if plan.unknown:
        names = ", ".join(plain(name) for name in sorted(file.path for file in plan.unknown)[:_EXAMPLES])
        lines.append(
            f"- {len(plan.unknown)} files not used: {names}" + (", ..." if len(plan.unknown) > _EXAMPLES else "")
        )
    return "## Found\n\n" + "\n".join(lines)


def written(results: Iterable[CaseResult]) -> list[str]:
    """What was done to the files, one line an operation."""
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    for result in results:
        for file in result.files:
            counts[file["operation"]] += 1
            sizes[file["operation"]] += file["size"]
    lines = [
        f"{counts[name]} {_WHAT[name]} ({sizes[name] / 1e6:.1f} MB"
        + (" saved)" if name in ("hard link", "symlink") else ")")
        for name in _WHAT
        if counts[name]
    ]
    return lines + ([_HARD_LINKS] if counts["hard link"] else [])


def by_code(findings: Iterable[Finding]) -> dict[tuple[str, str], list[Finding]]:
    """Findings by (severity, code), errors first, in the order of the table of checks."""
    grouped: dict[tuple[str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        grouped[finding.severity, finding.code].append(finding)
    severities = ("error", "warning", "info")
    codes = list(BY_CODE)
    return dict(sorted(grouped.items(), key=lambda item: (severities.index(item[0][0]), codes.index(item[0][1]))))


def _findings_table(findings: Sequence[Finding], plan: Plan) -> str:
    if not findings:
        return "None."
    rows = ["| code | severity | number | meaning | examples |", "|---|---|---|---|---|"]
    for (severity, code), found in by_code(findings).items():
        examples = "; ".join(plain(relative(finding.message, plan.sources)) for finding in found[:_EXAMPLES])
        more = "; ..." if len(found) > _EXAMPLES else ""
        rows.append(f"| {code} | {severity} | {len(found)} | {BY_CODE[code].meaning} | {examples}{more} |")
    return "\n".join(rows)


def _classes(plan: Plan, results: Sequence[CaseResult]) -> str:
    labelled = [result.voxels for result in results if result.voxels]
    if not labelled:
        return ""
    labels = plan.destination.target.labels
    rows = ["| value | class | cases | voxels |", "|---|---|---|---|"]
    for value, name in labels.classes.items():
        counts = [voxels.get(value, 0) for voxels in labelled]
        rows.append(f"| {value} | {name} | {sum(count > 0 for count in counts)} of {len(counts)} | {sum(counts)} |")
    return "## Classes\n\n" + "\n".join(rows)


def _sizes(results: Sequence[CaseResult]) -> str:
    shapes = Counter("x".join(map(str, result.shape)) for result in results)
    if not shapes:
        return ""
    rows = ["| shape (x, y, z) | cases |", "|---|---|"]
    rows += [
        f"| {shape} | {count} |" for shape, count in sorted(shapes.items(), key=lambda item: (-item[1], item[0]))[:20]
    ]
    rows += [f"| {len(shapes) - 20} others | |"] if len(shapes) > 20 else []
    return "## Sizes\n\n" + "\n".join(rows)


def _groups(groups: Mapping[str, str]) -> str:
    members = Counter(groups.values())
    several = {group: count for group, count in members.items() if count > 1}
    if not several:
        return ""
    largest = sorted(several, key=lambda group: (-several[group], group))[:_EXAMPLES]
    return (
        f"## Groups\n\n{len(groups)} training cases in {len(members)} groups (patients, or equal images), which are "
        f"never divided between folds; {len(several)} groups hold more than one, the largest are "
        + ", ".join(f"{plain(group)} ({several[group]})" for group in largest)
        + "."
    )


def _mirroring(plan: Plan) -> str:
    axes = no_mirror_axes(plan.destination.dataset, plan.tasks)
    if not axes:
        return ""
    what = joined([direction.replace("-", " from ") for direction in plan.destination.dataset.no_mirror])
    return (
        f"## Mirroring\n\nThe labels tell {what}: images must not be mirrored along axis "
        f"{joined([str(axis) for axis in axes])} of nnU-Net's arrays, which `dataset.json` says under "
        "`no_mirror_axes`. Trainers of nnunet_ext follow it; with those of nnU-Net itself, take "
        "`nnUNetTrainerNoMirroring`."
    )


def _splits(folds: Splits | None) -> str:
    if folds is None:
        return "## Splits\n\nNone were asked for: nnU-Net will make its own."
    rows = ["| fold | training | validation |", "|---|---|---|"]
    rows += [f"| {number} | {len(fold['train'])} | {len(fold['val'])} |" for number, fold in enumerate(folds.folds)]
    return f"## Splits\n\nRule: {plain(folds.rule)}.\n\n" + "\n".join(rows)
