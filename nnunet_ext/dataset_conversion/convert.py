"""The conversion from beginning to end: plan, write case by case, finish."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from nnunet_ext.dataset_conversion import record_forms
from nnunet_ext.dataset_conversion.cases.pool import results
from nnunet_ext.dataset_conversion.checks import Finding, errors, raise_first
from nnunet_ext.dataset_conversion.choices import check_none
from nnunet_ext.dataset_conversion.datasets import AUTO, DATASETS, get
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.archives import close_all
from nnunet_ext.dataset_conversion.finish import Finished, finish, write_report
from nnunet_ext.dataset_conversion.folds.groups import make_folds
from nnunet_ext.dataset_conversion.folds.splits import Splits
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output import nnunet_folders, provenance
from nnunet_ext.dataset_conversion.output.conversion import Conversion
from nnunet_ext.dataset_conversion.output.journal import NAME, Journal, check_own, only_begun, remove_leftovers
from nnunet_ext.dataset_conversion.output.one_at_a_time import locked, unpacking
from nnunet_ext.dataset_conversion.plan import Plan
from nnunet_ext.dataset_conversion.plan_conversion import make_plan
from nnunet_ext.dataset_conversion.record_forms import FOLDERS, PROVENANCE
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task, identifiers
from nnunet_ext.dataset_conversion.writing import cannot_write, write_json
from nnunet_ext.errors import UserError
from nnunet_ext.folders import cannot_read, default_processes, require_readable
from nnunet_ext.nnunet_json import read_dataset_json, read_splits
from nnunet_ext.progress import Progress

Document = TypeVar("Document")

#: With this many errors a conversion stops: the source is broken, not a file of it.
MAX_ERRORS = 20


def convert(dataset: str | Dataset, sources: Sequence[str | Path], options: Options | None = None) -> Conversion:
    """Turn a downloaded dataset into nnU-Net's raw format.

    Args:
        dataset: a name from the table of datasets, a description, or ``"auto"`` for the only dataset that fits.
        sources: folders at any level of the download, or archives of it.
        options: see ``Options``.

    Returns:
        What was done. With ``dry_run`` nothing is written, and errors are among the findings instead of being raised.

    Raises:
        UserError: for every fault of the input, with the code of the check (docs/checks.md). After errors in some cases
            the folder stays without ``dataset.json``, so that nnU-Net does not take it for complete; resume it then.
    """
    options = options or Options()
    known = [get(name) for name in DATASETS]
    if isinstance(dataset, Dataset):
        wanted: Dataset | None = dataset
    else:
        wanted = None if dataset.casefold() == AUTO else get(dataset)
    if wanted is None:
        check_none(options.choices)
    given = [Path(source) for source in sources]
    raw = nnunet_folders.raw_folder(options.output)
    if options.dry_run:
        try:
            return _dry_run(make_plan(wanted, known, given, options, None), options)
        finally:
            close_all()
    with unpacking(raw) as unpacked:
        try:
            plan = make_plan(wanted, known, given, options, unpacked)
            raise_first(plan.findings, "--dry-run lists all findings")
            with locked(plan.destination):
                return _execute(plan, options)
        finally:
            close_all()


def _execute(plan: Plan, options: Options) -> Conversion:
    record = _earlier_record(plan, options)
    folder = plan.destination.folder
    if record is not None and (folder / "dataset.json").is_file():
        return _already(plan, record)
    journal = Journal(folder)
    found = {task.case.id: result for task in plan.tasks if (result := _finished(journal, task)) is not None}
    needed = sum(task.bytes_to_write for task in plan.tasks if task.case.id not in found)
    nnunet_folders.check_free_space(plan.destination.raw, needed)
    run = provenance.run_facts(plan, options, _now())
    try:
        for name in FOLDERS if plan.cases("test") else FOLDERS[:2]:
            (folder / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error
    write_json(folder / PROVENANCE, provenance.header(plan, options, "running", run))
    remove_leftovers(folder)
    resumed = len(found)
    try:
        done = _write_cases(plan, options, journal, found)
        run["finished"] = _now()
        finished = finish(plan, options, run, done)
        journal.remove()
    finally:
        journal.close()
    return _conversion(plan, finished, resumed)


def _finished(journal: Journal, task: Task) -> CaseResult | None:
    """What the journal knows of a case, if these are the files that would be made of it now."""
    result = journal.finished(task.case)
    if result is None:
        return None
    planned, made = {path for _, path in task.operations}, {file["path"] for file in result.files}
    same = made == planned or (task.drop_empty_slices and made < planned)
    return result if same and set(result.outputs) <= set(identifiers(task.case, task.target)) else None


def _earlier_record(plan: Plan, options: Options) -> dict[str, Any] | None:
    """The record of an earlier conversion into the folder, which is emptied on ``--restart``.

    Raises:
        UserError: OUT01 for a folder that is not ours or has links in it, OUT05 for one that was begun otherwise.
    """
    folder = plan.destination.folder
    require_readable(folder)
    try:
        nothing = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        complete = (folder / "dataset.json").is_file()
    except OSError as error:
        raise cannot_read(folder, error) from error
    if nothing:
        if options.resume:
            raise UserError(f"there is nothing to resume in {folder}", remedy="leave --resume out", code="OUT05")
        return None
    record = record_forms.read(folder, record_forms.FINISHED if complete else record_forms.BEGUN)
    if record is None and only_begun(folder):
        return None
    if record is None and not os.access(folder / PROVENANCE, os.R_OK) and (folder / PROVENANCE).exists():
        raise UserError(
            "the file may not be read", file=folder / PROVENANCE, remedy="mend its permissions", code="OUT01"
        )
    if record is None:
        raise UserError(
            f"{folder} exists and was not made by this converter",
            code="OUT01",
            remedy="remove it, or give another id with -d",
        )
    if options.restart:
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise cannot_write(folder, error, "remove it by hand") from error
        return None
    provenance.check_same_run(record, plan, options)
    check_own(folder)
    return record


def _write_cases(plan: Plan, options: Options, journal: Journal, found: dict[str, CaseResult]) -> list[CaseResult]:
    """All cases; ``found`` are those that the journal knows to be finished.

    Raises:
        UserError: the first error found in a case; the others are in the report.
    """
    found = dict(found)
    todo = [task for task in plan.tasks if task.case.id not in found]
    failed: list[Finding] = []
    with (
        Progress("converting", len(todo)) as progress,
        closing(results(todo, options.processes or default_processes())) as stream,
    ):
        for task, result in zip(todo, stream, strict=False):
            if result.failed:
                failed += errors(result.findings)
                if len(failed) >= MAX_ERRORS:
                    break
            else:
                journal.add(task.case, result)
                found[result.case] = result
            progress.step()
    done = [found[task.case.id] for task in plan.tasks if task.case.id in found]
    if failed:
        report = write_report(plan, done, [*plan.findings, *failed])
        raise_first(failed, f"then resume with the same command; all findings are in {report}")
    return done


def _dry_run(plan: Plan, options: Options) -> Conversion:
    """A dry run: the plan, with the folds where no error stands in their way."""
    if errors(plan.findings):
        return Conversion(plan, findings=list(plan.findings))
    folds, findings = make_folds(plan.destination.dataset, plan.groups, plan.strata, options)
    return Conversion(plan, findings=[*plan.findings, *plan.tasks[0].policy.apply(findings)], splits=folds)


def _already(plan: Plan, record: dict[str, Any]) -> Conversion:
    folder = plan.destination.folder
    provenance.check_same_cases(record, plan)
    remove_leftovers(folder)
    (folder / NAME).unlink(missing_ok=True)  # of a run that was killed after its last file
    _read(read_dataset_json, folder / "dataset.json")
    splits = None
    if (folder / "splits_final.json").is_file():
        splits = Splits(_read(read_splits, folder / "splits_final.json"), record["splits"]["rule"])
    # A fingerprint is no news here: the raw data is what it was.
    found = nnunet_folders.check_preprocessed(folder.name, splits.folds if splits else None)
    findings = [finding for finding in found if finding.code != "OUT06"]
    return Conversion(plan, findings=[*plan.findings, *findings], splits=splits, complete=True, already=True)


def _read(reader: Callable[[Path], Document], file: Path) -> Document:
    try:
        return reader(file)
    except UserError as error:
        raise UserError(error.message, file=file, code="OUT05", remedy="--restart converts everything anew") from error


def _conversion(plan: Plan, finished: Finished, resumed: int) -> Conversion:
    return Conversion(plan, finished.results, finished.findings, finished.splits, resumed, complete=True)


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
