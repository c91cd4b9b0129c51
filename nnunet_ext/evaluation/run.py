"""A whole evaluation: case by case through workers, with a journal, to a table and its summary."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.columns import Columns
from nnunet_ext.evaluation.destination import SUMMARY, TABLE, check_folder, taken
from nnunet_ext.evaluation.journal import Journal
from nnunet_ext.evaluation.measure import COUNTS, Outcome, Task, measure, stamp
from nnunet_ext.evaluation.metrics import brats_column
from nnunet_ext.evaluation.regions import foreground, known_values
from nnunet_ext.evaluation.sources import Source
from nnunet_ext.evaluation.summary import summarize
from nnunet_ext.files import write_atomically
from nnunet_ext.pool import in_order
from nnunet_ext.progress import Progress
from nnunet_ext.shown import csv_cell


@dataclass(frozen=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        folder: where it was written.
        table: one row a case and region, as in ``metrics.csv``.
        summary: content of ``metrics.json``.
        reused: how many cases an earlier call had measured.
        problems: case -> what is wrong with it.
    """

    folder: Path
    table: pd.DataFrame
    summary: dict[str, Any]
    reused: int
    problems: Mapping[str, str]


def evaluate(source: Source, columns: Columns, folder: Path, processes: int = 1) -> Evaluation:
    """Measure every case and write ``metrics.csv`` and ``metrics.json``.

    A case whose files are broken or missing is named in ``problems`` and leaves the others alone. Cases that an earlier
    call on the same folder has measured are not measured again while their files stay as they are.

    Args:
        source: what is compared.
        columns: metrics.
        folder: for the results; made, or one of an evaluation of the same with the same metrics.
        processes: workers, each with one case in memory; the results do not depend on their number.

    Raises:
        UserError: results may not go there, the folder holds another evaluation, no case can be evaluated, or a worker
            died.
        OSError: the results cannot be written.
    """
    regions = foreground(source.dataset)
    problems = dict(source.missing)
    if not source.cases:
        raise UserError(_nothing(problems), file=source.predictions, remedy="check that names and folders fit")
    check_folder(folder, source)
    names = column_names(columns)
    tasks = [
        Task(
            files.case,
            files.prediction,
            files.reference,
            regions,
            source.dataset["labels"].get("ignore"),
            known_values(source.dataset),
            columns,
        )
        for files in source.cases
    ]
    with taken(folder):
        journal = Journal(folder, _request(source, columns, tasks[0]), regions, (*names, *COUNTS))
        try:
            measured, reused = _measured(tasks, journal, processes, problems)
        finally:
            journal.close()
        if not measured:
            journal.remove_if_empty()
            raise UserError(_nothing(problems), remedy="mend it and call again")
        table = _table(source, regions, names, measured)
        notes = (*source.notes, *_axes(measured.values()))
        summary = summarize(table, source, columns, problems, notes)
        _write(folder / TABLE, _csv(table))
        _write(folder / SUMMARY, json.dumps(summary, indent=2) + "\n")
    return Evaluation(folder, table, summary, reused, dict(sorted(problems.items())))


def column_names(columns: Columns) -> tuple[str, ...]:
    """The columns of a table, in the order of the metrics; those of the policy ``brats`` after their twins."""
    names: list[str] = []
    for metric in columns.metrics():
        names += [metric.name, brats_column(metric)] if metric.follows_policy else [metric.name]
    return tuple(names)


def _nothing(problems: Mapping[str, str]) -> str:
    first = next(iter(problems.items()), None)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return "no case can be evaluated" + (f": {first[0]}: {first[1]}{more}" if first else "")


def _request(source: Source, columns: Columns, task: Task) -> dict[str, Any]:
    return {
        "predictions": str(source.predictions.resolve()),
        "references": str(source.references.resolve()),
        "folds": source.folds,
        "regions": task.regions,
        "ignored label": task.ignore,
        "labels": sorted(task.known),
        "metrics": columns.names,
        "tolerances": columns.tolerances,
        "challenge": columns.challenge,
        "unit": "pixels" if columns.pixels else "mm",
    }


def _measured(
    tasks: Sequence[Task], journal: Journal, processes: int, problems: dict[str, str]
) -> tuple[dict[str, Outcome], int]:
    outcomes: dict[str, Outcome] = {}
    left = []
    for task in tasks:
        try:
            known = journal.finished(task.case, stamp(task))
        except OSError:
            known = None  # measuring it will tell
        if known is None:
            left.append(task)
        else:
            outcomes[task.case] = known
    reused = len(outcomes)
    with Progress("evaluate", len(left)) as progress:
        for outcome in in_order(measure, left, processes, _died):
            _take(outcome, journal, outcomes, problems)
            progress.step()
    return outcomes, reused


def _take(outcome: Outcome, journal: Journal, outcomes: dict[str, Outcome], problems: dict[str, str]) -> None:
    if outcome.problem:
        problems[outcome.case] = outcome.problem
    else:
        journal.add(outcome)
        outcomes[outcome.case] = outcome


def _axes(outcomes: Iterable[Outcome]) -> Iterator[str]:
    """What is told where a header may be wrong, or voxels may be compared that do not lie at the same place."""
    differ = [outcome.case for outcome in outcomes if outcome.axes_differ]
    if differ:
        yield (
            f"in {len(differ)} case(s), such as {differ[0]}, the axes of prediction and reference lead in different "
            "directions by their headers; voxels were compared one by one, as nnU-Net does"
        )


def _died(tasks: Sequence[Task]) -> UserError:
    names = ", ".join(task.case for task in tasks)
    return UserError(
        f"a worker process died, most often for lack of memory, at one of {names}",
        remedy="use a smaller -np; the same command goes on where it stopped",
    )


def _table(
    source: Source, regions: Mapping[str, Any], names: Sequence[str], measured: Mapping[str, Outcome]
) -> pd.DataFrame:
    rows = []
    for files in source.cases:
        if files.case not in measured:
            continue
        for region in regions:
            row = measured[files.case].rows[region]
            counts = {count: int(row[count]) for count in COUNTS}
            about = {"case": files.case, **({"fold": files.fold} if source.folds and files.fold else {})}
            rows.append(about | {"region": region} | {name: row[name] for name in names} | counts)
    table = pd.DataFrame(rows)
    empty = {(True, True): "both", (True, False): "prediction", (False, True): "reference", (False, False): ""}
    table["empty"] = [empty[pair] for pair in zip(*((table[count] == 0).tolist() for count in COUNTS), strict=True)]
    return table


def _csv(table: pd.DataFrame) -> str:
    shown = table.copy()
    for column in ("case", "fold", "region"):
        if column in shown:
            shown[column] = shown[column].map(csv_cell)
    text = io.StringIO()
    shown.to_csv(text, index=False, lineterminator="\n")
    return text.getvalue()


def _write(file: Path, text: str) -> None:
    with write_atomically(file) as stream:
        stream.write(text.encode("utf-8", "backslashreplace"))
