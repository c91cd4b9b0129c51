"""What a conversion will do, found out from names and headers alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_ext.dataset_conversion.core import layout, overlap, place
from nnunet_ext.dataset_conversion.core.assemble import assemble
from nnunet_ext.dataset_conversion.core.cases import Case, SourceFile
from nnunet_ext.dataset_conversion.core.checks import Finding, Policy, errors
from nnunet_ext.dataset_conversion.core.description import Dataset, Target
from nnunet_ext.dataset_conversion.core.forms import FORMS
from nnunet_ext.dataset_conversion.core.options import Options
from nnunet_ext.dataset_conversion.core.progress import Progress
from nnunet_ext.dataset_conversion.core.series import slice_id
from nnunet_ext.dataset_conversion.core.sources import Index, index
from nnunet_ext.dataset_conversion.core.splits import Splits, check_number, make_splits, read_splits
from nnunet_ext.dataset_conversion.core.tables import apply_sizes, apply_tables, read_groups
from nnunet_ext.dataset_conversion.core.tasks import Task
from nnunet_ext.errors import UserError

# Headers are read by a few threads: on a network file system each of them is a wait.
_READERS = 8


@dataclass(frozen=True)
class Destination:
    """Where the dataset goes."""

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


@dataclass
class Plan:
    """Everything that is known before a voxel is read.

    ``groups`` and ``strata`` are by identifier of nnU-Net, for training cases; ``skipped`` counts leftovers of other
    programs, ``left_out`` the cases not converted, with the reason.
    """

    destination: Destination
    sources: tuple[Path, ...]
    tasks: list[Task]
    findings: list[Finding]
    groups: dict[str, str]
    strata: dict[str, str | None]
    unknown: list[SourceFile] = field(default_factory=list)
    skipped: int = 0
    left_out: dict[str, int] = field(default_factory=dict)
    headers_read: bool = True

    def cases(self, split: str) -> list[Case]:
        return [task.case for task in self.tasks if task.case.split == split]

    @property
    def bytes_to_write(self) -> int:
        return sum(task.bytes_to_write for task in self.tasks)


def choose_target(dataset: Dataset, options: Options) -> str:
    """The key of the target that ``--as`` names, or the first.

    Raises:
        UserError: for a form that the dataset has not, and for options that do not fit the dataset or the form.
    """
    key = options.target or next(iter(dataset.targets))
    if key not in dataset.targets:
        raise UserError(f'--as: {dataset.name} has no form "{key}"', remedy=f"one of {', '.join(dataset.targets)}")
    pictures = dataset.targets[key].file_ending == ".png"
    for option, given in (("--resize", options.resize is not None), ("--rgb-norm", options.rgb_norm != "zscore")):
        if given and not pictures:
            form = f"{dataset.name} --as {key}" if len(dataset.targets) > 1 else dataset.name
            raise UserError(f"{option} is for pictures, and {form} is made of volumes", remedy=f"leave {option} out")
    if options.with_normal and not dataset.normal:
        raise UserError(f"--with-normal: {dataset.name} has no cases without lesion", remedy="leave it out")
    if options.official_split and dataset.official_split is None:
        raise UserError(f"--official-split: none is known of {dataset.name}", remedy="leave it out")
    if options.only_labelled and dataset.targets[key].form != "slices":
        raise UserError("--only-tumour-slices needs a target made of slices", remedy="--as 2d")
    return key


def find_destination(dataset: Dataset, options: Options) -> Destination:
    """Id, name and folder.

    Raises:
        UserError: OUT02, OUT04.
    """
    key = choose_target(dataset, options)
    target = dataset.targets[key]
    raw = place.raw_folder(options.output)
    number = place.dataset_id(options.dataset_id, target.dataset_id)
    name = options.name or target.folder_name
    if not name.replace("_", "").replace("-", "").isalnum() or "__" in name:
        raise UserError(f'-n: "{name}" is no name for a folder', remedy="letters, digits and single _ and - only")
    folder_name = f"Dataset{number:03d}_{name}"
    place.check_name_is_free(number, folder_name, raw)
    return Destination(dataset, key, number, raw, folder_name)


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
    raw = place.raw_folder(options.output)
    if dataset is not None:
        _check_sources(sources, find_destination(dataset, options))
    found = index([Path(source) for source in sources], [raw], extract_to)
    shown = ", ".join(str(source) for source in sources)
    try:
        if dataset is None:
            matched = layout.detect(datasets, found, shown)
            dataset = matched.dataset
        else:
            matched = layout.find(dataset, found, shown, [other for other in datasets if other.name != dataset.name])
    except UserError as error:
        # The archive that could not be opened is the likelier reason for finding nothing.
        if error.code == "LAY01" and found.unopened:
            raise found.unopened[0] from error
        raise
    destination = find_destination(dataset, options)
    _check_sources(sources, destination)
    assembled = assemble(matched, found.sealed)
    cases, table_findings = apply_tables(dataset, assembled.cases, matched.tables)
    cases, size_findings = apply_sizes(cases, matched.sizes)
    cases, split_findings = _officially_divided(dataset, cases, options)
    table_findings += size_findings + split_findings
    unopened = [Finding.of(error) for error in found.unopened]
    findings = policy.apply(unopened + assembled.findings + table_findings)
    plan = Plan(destination, tuple(sources), [], findings, {}, {}, assembled.unknown, found.skipped)
    cases = _choose_cases(plan, cases, options)
    _make_tasks(plan, cases, found, options, policy)
    if cases and not errors(policy.apply(plan.findings)):
        plan.groups, plan.strata = groups_and_strata(dataset, cases, options)
        plan.findings += divided_patients(dataset, cases, plan.groups, options)
        _look_at_test_groups(plan)
        if isinstance(options.splits, int):
            check_number(plan.groups, options.splits)
        else:
            make_folds(plan.groups, plan.strata, options)
    plan.findings = policy.apply(plan.findings)
    return plan


def _check_sources(sources: Iterable[Path], destination: Destination) -> None:
    for source in sources:
        real, folder = source.resolve(), destination.folder.resolve()
        if real in (folder, destination.raw.resolve()) or folder in real.parents:
            raise UserError(
                "source and output are the same", file=source, remedy="give the download with -i", code="OUT01"
            )


def _officially_divided(dataset: Dataset, cases: Sequence[Case], options: Options) -> tuple[list[Case], list[Finding]]:
    """The published test cases as such, and SPL09 for cases of which the publication does not speak."""
    if dataset.official_split is None or options.official_split is False:
        return list(cases), []
    table = {name.casefold(): split for name, split in dataset.official_split().items()}
    divided = [replace(case, split=table.get(case.name.casefold(), case.split)) for case in cases]
    unknown = [case for case in cases if case.name.casefold() not in table]
    if not unknown:
        return divided, []
    message = f"cases in no part of the official split, which are trained on: {len(unknown)}, such as {unknown[0].name}"
    return divided, [Finding("SPL09", message, unknown[0].name, unknown[0].all_files[0][1].shown)]


def _choose_cases(plan: Plan, cases: list[Case], options: Options) -> list[Case]:
    """Leave out what the user does not want, and compare the number with the published one."""
    destination = plan.destination
    dataset = destination.dataset
    labelled = sum(dataset.label in case.files for case in cases)
    if dataset.normal and not options.with_normal:
        kept = [case for case in cases if (case.stratum or "").casefold() != dataset.normal]
        plan.left_out[f"{dataset.normal}, nothing to segment (--with-normal keeps them)"] = len(cases) - len(kept)
        cases = kept
    training = [case for case in cases if case.split == "train"]
    shared, findings = overlap.shared_cases(dataset, training, destination.raw, destination.folder_name)
    for other in options.exclude_overlap:
        kept = overlap.exclude(training, shared, other, destination.raw)
        plan.left_out[f"shared with {other}"] = len(training) - len(kept)
        training = kept
    plan.findings += [finding for finding in findings if Path(finding.file).name not in options.exclude_overlap]
    test = [case for case in cases if case.split == "test"]
    if options.limit is not None:
        plan.left_out["beyond --limit"] = sum(max(len(part) - options.limit, 0) for part in (training, test))
        training, test = training[: options.limit], test[: options.limit]
    if errors(plan.findings):
        return training + test
    if options.limit is None and not options.exclude_overlap and labelled != dataset.cases:
        plan.findings.append(Finding("CNT01", f"cases with labels: {labelled} found, {dataset.cases} published"))
    if len(training) < (1 if options.splits == 0 else 2):
        number = "no" if not training else "only one"
        remedy = "give the training data with -i" + (", or --splits 0 to convert a single case" if training else "")
        plan.findings.append(Finding("CNT02", f"{number} training case", file=str(plan.sources[0]), remedy=remedy))
    return training + test


def _make_tasks(plan: Plan, cases: Sequence[Case], found: Index, options: Options, policy: Policy) -> None:
    destination = plan.destination
    tasks = [
        Task(
            case,
            destination.dataset,
            destination.target,
            str(destination.folder),
            options.link,
            policy,
            options.only_labelled,
            options.resize,
        )
        for case in cases
    ]
    sealed = [any(file.location in found.sealed for _, file in case.all_files) for case in cases]
    plan.headers_read = not any(sealed)
    form = FORMS[destination.target.form]
    with ThreadPoolExecutor(_READERS) as readers, Progress("reading headers", len(tasks)) as progress:
        planned = readers.map(lambda task, closed: (task, []) if closed else form.plan(task), tasks, sealed)
        for task, findings in planned:
            plan.tasks.append(task)
            plan.findings += findings
            progress.step()


def identifiers(case: Case, target: Target) -> list[str]:
    """Identifiers of nnU-Net that a case will become."""
    return [slice_id(case.id, number) for number in case.numbers] if target.form == "slices" else [case.id]


def groups_and_strata(
    dataset: Dataset, cases: Sequence[Case], options: Options
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Group and stratum of every case, by its id.

    Groups come from ``--groups``, else the dataset's own table, else the names. Names of cases and patients are
    compared without regard to the case of their letters, as the names of files are.

    Raises:
        UserError: CSV02.
    """
    groups = _patients(dataset, cases)
    if options.groups is not None:
        given = read_groups(options.groups, [case.name for case in cases if case.split == "train"])
        groups |= {case.id: given[case.name] for case in cases if case.name in given}
    strata = _one_spelling({case.id: case.stratum for case in cases if case.stratum is not None})
    return groups, {case.id: strata.get(case.id) for case in cases}


def _patients(dataset: Dataset, cases: Sequence[Case]) -> dict[str, str]:
    table: Mapping[str, str] = dataset.patients() if dataset.patients is not None else {}
    patients = {name.casefold(): patient for name, patient in table.items()}
    return _one_spelling({case.id: patients.get(case.name.casefold(), case.group) for case in cases})


def divided_patients(
    dataset: Dataset, cases: Sequence[Case], groups: Mapping[str, str], options: Options
) -> list[Finding]:
    """SPL08 for known patients whose cases a table of groups takes apart.

    Args:
        dataset: has the table of patients, or names that tell them.
        cases: all.
        groups: of every case, by id, as ``groups_and_strata`` gives them.
        options: of which ``--groups`` counts.
    """
    if options.groups is None:
        return []
    given: dict[str, set[str]] = {}
    training = [case for case in cases if case.split == "train"]
    for case_id, patient in _patients(dataset, training).items():
        given.setdefault(patient, set()).add(groups[case_id])
    return [
        Finding(
            "SPL08",
            f"the given groups divide patient {patient}: {', '.join(sorted(parts))}",
            file=str(options.groups),
            remedy="give all cases of the patient one group",
        )
        for patient, parts in sorted(given.items())
        if len(parts) > 1
    ]


def _one_spelling(names: Mapping[str, str]) -> dict[str, str]:
    """Values that differ in the case of their letters alone are written as the first of them."""
    spelling: dict[str, str] = {}
    return {key: spelling.setdefault(name.casefold(), name) for key, name in names.items()}


def _look_at_test_groups(plan: Plan) -> None:
    training = {plan.groups[case.id] for case in plan.cases("train")}
    shared = sorted(case.name for case in plan.cases("test") if plan.groups[case.id] in training)
    if shared:
        plan.findings.append(
            Finding("SPL05", f"{len(shared)} test cases share a patient with training cases, such as {shared[0]}")
        )
    # Folds are over what nnU-Net sees, and over training cases only.
    target = plan.destination.target
    units = [(case, identifier) for case in plan.cases("train") for identifier in identifiers(case, target)]
    plan.strata = {identifier: plan.strata[case.id] for case, identifier in units}
    plan.groups = {identifier: plan.groups[case.id] for case, identifier in units}


def make_folds(
    groups: Mapping[str, str], strata: Mapping[str, str | None], options: Options
) -> tuple[Splits | None, list[Finding]]:
    """Folds by ``--splits``: a number, a file, or none.

    Raises:
        UserError: SPL01, SPL02.
    """
    if options.splits == 0:
        return None, []
    if isinstance(options.splits, int):
        return make_splits(groups, strata, options.splits, options.seed)
    return read_splits(Path(options.splits), groups)
