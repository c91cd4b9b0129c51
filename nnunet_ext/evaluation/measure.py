"""One case of an evaluation, in whatever process: its columns for each region, or what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.evaluation.columns import Columns
from nnunet_ext.evaluation.images import read_geometry
from nnunet_ext.evaluation.regions import axes_differ, region_masks

#: what every row says besides the metrics
COUNTS = ("voxels_prediction", "voxels_reference")
Row = dict[str, float]
Stamp = tuple[int, int, int, int]


@dataclass(frozen=True)
class Task:
    """What a worker needs to know of a case.

    Attributes:
        case: its name.
        prediction: label map.
        reference: label map.
        regions: name -> label values.
        ignore: value of the reference that does not count.
        known: values that label maps may hold.
        columns: that are asked for.
    """

    case: str
    prediction: Path
    reference: Path
    regions: Mapping[str, tuple[int, ...]]
    ignore: int | None
    known: frozenset[int]
    columns: Columns


class Outcome(NamedTuple):
    """Of one case.

    Attributes:
        case: its name.
        stamp: size and time of both files before they were read.
        rows: region -> column -> value, with ``COUNTS``; NaN where undefined.
        problem: why there are no rows; nothing where there are.
        axes_differ: the headers disagree on where the axes lead; voxels were compared one by one nevertheless.
    """

    case: str
    stamp: Stamp
    rows: dict[str, Row]
    problem: str = ""
    axes_differ: bool = False


def stamp(task: Task) -> Stamp:
    """Size and time of change of both files.

    Raises:
        OSError: one is not there.
    """
    first, second = task.prediction.stat(), task.reference.stat()
    return first.st_size, first.st_mtime_ns, second.st_size, second.st_mtime_ns


def measure(task: Task) -> Outcome:
    """Compare the two label maps of a case. What is wrong with its files is its ``problem`` and concerns no other."""
    taken: Stamp = (0, 0, 0, 0)
    try:
        taken = stamp(task)
        geometry, of_reference = read_geometry(task.prediction), read_geometry(task.reference)
        rows = _rows(task, len(of_reference.shape))
        return Outcome(task.case, taken, rows, axes_differ=axes_differ(geometry, of_reference))
    except UserError as error:
        return Outcome(task.case, taken, {}, str(error))
    except MemoryError:
        problem = UserError(
            "there is not enough memory for this case", file=task.prediction, remedy="use a smaller -np"
        )
    except OSError as error:
        problem = UserError(error.strerror or reason_of(error), file=error.filename or task.prediction)
    return Outcome(task.case, taken, {}, str(problem))


def _rows(task: Task, dimensions: int) -> dict[str, Row]:
    if dimensions not in (2, 3):
        raise UserError(f"an image of {dimensions} dimensions; two or three are evaluated", file=task.reference)
    if task.columns.challenge and dimensions != 3:
        raise UserError("the rules of BraTS are for volumes, this is a picture", task.reference, "leave out --brats")
    metrics = task.columns.metrics()
    rows: dict[str, Row] = {}
    masks = region_masks(task.prediction, task.reference, task.regions, ignore=task.ignore, known=task.known)
    for region, pair in masks:
        row: Row = {}
        for metric in metrics:
            row |= metric.columns(pair)
        rows[region] = {**row, **dict(zip(COUNTS, (pair.voxels_prediction, pair.voxels_reference), strict=True))}
    return rows
