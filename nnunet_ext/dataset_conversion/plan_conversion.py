"""What a conversion will do, found out from names and headers alone."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.cases.case_forms import FORMS, Form
from nnunet_ext.dataset_conversion.checks import Finding, Policy, errors
from nnunet_ext.dataset_conversion.choices import chosen
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find import layout
from nnunet_ext.dataset_conversion.find.assemble import assemble
from nnunet_ext.dataset_conversion.find.layout import Matched
from nnunet_ext.dataset_conversion.find.sources import Index, index
from nnunet_ext.dataset_conversion.find.tables import apply_sizes, apply_tables
from nnunet_ext.dataset_conversion.find.variants import choose_variant
from nnunet_ext.dataset_conversion.folds import overlap
from nnunet_ext.dataset_conversion.folds.groups import (
    divided_patients,
    groups_and_strata,
    make_folds,
    officially_divided,
)
from nnunet_ext.dataset_conversion.folds.rescans import people_unknown, without_rescans
from nnunet_ext.dataset_conversion.folds.splits import check_number
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output.destination import check_sources, find_destination
from nnunet_ext.dataset_conversion.output.mirroring import different_axes
from nnunet_ext.dataset_conversion.output.nnunet_folders import raw_folder
from nnunet_ext.dataset_conversion.plan import Destination, Plan
from nnunet_ext.dataset_conversion.tasks import Task, identifiers
from nnunet_ext.errors import UserError
from nnunet_ext.progress import Progress

# Headers are read by a few threads: on a network file system each of them is a wait.
_READERS = 8


def make_plan(
    dataset: Dataset | None,
    datasets: Sequence[Dataset],
    sources: Sequence[Path],
    options: Options,
    extract_to: Path | None,
) -> Plan:
    """Find the cases and look at all headers.

    Args:
        dataset: the dataset, or None to find out which it is.
        datasets: all known ones.
        sources: folders and archives.
        options: the user's.
        extract_to: where compressed archives may be unpacked; None for a dry run.

    Returns:
        The plan with all findings; errors among them are for the caller to raise.

    Raises:
        UserError: for anything that leaves no plan (LAY, ARC, OUT, CSV02, SPL01, SPL02).
    """
    policy = Policy(options.strict, options.allow)
    raw = raw_folder(options.output)
    if dataset is not None:
        check_sources(sources, find_destination(dataset, options))
    found = index([Path(source) for source in sources], [raw], extract_to)
    matched = _recognise(dataset, datasets, found, ", ".join(str(source) for source in sources))
    dataset = matched.dataset
    destination = find_destination(dataset, options)
    check_sources(sources, destination)
    matched, of_variants, variant_findings = choose_variant(matched, options.choices)
    assembled = assemble(matched, found.closed_archives)
    cases, table_findings = apply_tables(dataset, assembled.cases, matched.tables)
    cases, size_findings = apply_sizes(cases, matched.sizes)
    cases, split_findings = officially_divided(dataset, cases, options)
    findings = [Finding.of(error) for error in found.unopened] + variant_findings + assembled.findings
    findings = policy.apply(findings + table_findings + size_findings + split_findings)
    cases, left_out, more = _choose_cases(destination, cases, options, str(sources[0]), bool(errors(findings)))
    left_out = of_variants | left_out
    findings += more
    closed = [any(file.location in found.closed_archives for _, file in case.all_files) for case in cases]
    tasks, more = _plan_cases([_task(case, destination, options, policy) for case in cases], closed)
    findings += more + different_axes(dataset, tasks)
    groups: dict[str, str] = {}
    strata: dict[str, str | None] = {}
    if cases and not errors(policy.apply(findings)):
        groups, strata, more = _group(destination, cases, options)
        findings += more
    return Plan(
        destination,
        tuple(sources),
        tuple(tasks),
        tuple(policy.apply(findings)),
        groups,
        strata,
        tuple(assembled.unknown),
        found.skipped,
        left_out,
        headers_read=not any(closed),
    )


def _recognise(dataset: Dataset | None, datasets: Sequence[Dataset], found: Index, shown: str) -> Matched:
    """The files of the dataset that the user named, or of the only one that fits.

    Raises:
        UserError: LAY01, LAY02; where nothing was found beside an archive that could not be opened, that archive's.
    """
    try:
        if dataset is None:
            return layout.detect(datasets, found, shown)
        return layout.find(dataset, found, shown, [other for other in datasets if other.name != dataset.name])
    except UserError as error:
        # The archive that could not be opened is the likelier reason for finding nothing.
        if error.code == "LAY01" and found.unopened:
            raise found.unopened[0] from error
        raise


def _choose_cases(
    destination: Destination, cases: list[Case], options: Options, source: str, failed: bool
) -> tuple[list[Case], dict[str, int], list[Finding]]:
    """Leave out what the user does not want, and compare the number with the published one.

    Args:
        destination: tells the dataset and its folder.
        cases: all cases of the sources.
        options: the user's.
        source: the first source, for messages.
        failed: whether errors were found already: then numbers mean nothing.

    Returns:
        Training cases and then test cases, why cases are left out -> how many, and findings SPL04, CNT01, CNT02.
    """
    dataset = destination.dataset
    left_out: dict[str, int] = {}
    labelled = sum(dataset.label in case.files for case in cases)
    normal = dataset.choice("normal")
    if normal is not None and not chosen(dataset, options.choices, "normal"):
        kept = [case for case in cases if (case.stratum or "").casefold() != dataset.normal]
        left_out[f"{dataset.normal}, nothing to segment ({normal.flag} keeps them)"] = len(cases) - len(kept)
        cases = kept
    cases, of_rescans = without_rescans(dataset, cases, options)
    left_out |= of_rescans
    training = [case for case in cases if case.split == "train"]
    shared, findings = overlap.shared_cases(dataset, training, destination.raw, destination.folder_name)
    for other in options.exclude_overlap:
        kept = overlap.exclude(training, shared, other, destination.raw)
        left_out[f"shared with {other}"] = len(training) - len(kept)
        training = kept
    findings = [finding for finding in findings if Path(finding.file).name not in options.exclude_overlap]
    test = [case for case in cases if case.split == "test"]
    if options.limit is not None:
        left_out["beyond --limit"] = sum(max(len(part) - options.limit, 0) for part in (training, test))
        training, test = training[: options.limit], test[: options.limit]
    if failed:
        return training + test, left_out, findings
    if options.limit is None and not options.exclude_overlap and labelled != dataset.cases:
        findings.append(Finding("CNT01", f"cases with labels: {labelled} found, {dataset.cases} published"))
    if len(training) < (1 if options.splits == 0 else 2):
        number = "no" if not training else "only one"
        remedy = "give the training data with -i" + (", or --splits 0 to convert a single case" if training else "")
        findings.append(Finding("CNT02", f"{number} training case", file=source, remedy=remedy))
    return training + test, left_out, findings


def _task(case: Case, destination: Destination, options: Options, policy: Policy) -> Task:
    return Task(
        case,
        destination.dataset,
        destination.target,
        str(destination.folder),
        options.link,
        policy,
        chosen(destination.dataset, options.choices, "drop_empty_slices") is True,
        options.resize,
    )


def _plan_cases(tasks: Sequence[Task], closed: Sequence[bool]) -> tuple[list[Task], list[Finding]]:
    """Tasks with what their headers tell; files of a closed archive cannot be looked at yet."""
    planned: list[Task] = []
    findings: list[Finding] = []
    with ThreadPoolExecutor(_READERS) as readers, Progress("reading headers", len(tasks)) as progress:
        read = readers.map(lambda task, shut: (task, []) if shut else _form(task).plan(task), tasks, closed)
        for task, found in read:
            planned.append(task)
            findings += found
            progress.step()
    return planned, findings


def _form(task: Task) -> Form:
    return FORMS[task.target.form]


def _group(
    destination: Destination, cases: Sequence[Case], options: Options
) -> tuple[dict[str, str], dict[str, str | None], list[Finding]]:
    """Groups and strata of what nnU-Net will train on, by its identifiers, and findings SPL05, SPL08, SPL10.

    Raises:
        UserError: CSV02, SPL01, SPL02: folds that cannot be made show before anything is written.
    """
    case_groups, case_strata = groups_and_strata(destination.dataset, cases, options)
    findings = divided_patients(destination.dataset, cases, case_groups, options)
    findings += people_unknown(destination.dataset, cases, case_groups, options)
    training = [case for case in cases if case.split == "train"]
    trained_on = {case_groups[case.id] for case in training}
    shared = sorted(case.name for case in cases if case.split == "test" and case_groups[case.id] in trained_on)
    if shared:
        message = f"{len(shared)} test cases share a patient with training cases, such as {shared[0]}"
        findings.append(Finding("SPL05", message))
    case_of = {identifier: case.id for case in training for identifier in identifiers(case, destination.target)}
    groups = {identifier: case_groups[case] for identifier, case in case_of.items()}
    strata = {identifier: case_strata[case] for identifier, case in case_of.items()}
    if isinstance(options.splits, int):
        check_number(groups, options.splits)
    else:
        make_folds(destination.dataset, groups, strata, options)
    return groups, strata, findings
