"""Along which axes nnU-Net's arrays must not be mirrored, found out from how the files lie."""

from __future__ import annotations

from collections.abc import Sequence

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import DIRECTIONS, Dataset
from nnunet_ext.dataset_conversion.tasks import Task
from nnunet_ext.shown import joined


def no_mirror_axes(dataset: Dataset, tasks: Sequence[Task]) -> list[int]:
    """Axes of the arrays (z, y, x) that nnU-Net reads, 0 to 2; those of all cases where the files lie differently."""
    return sorted({axis for direction in dataset.no_mirror for axis in _first_cases(direction, tasks)})


def different_axes(dataset: Dataset, tasks: Sequence[Task]) -> list[Finding]:
    """GEO09 where a direction that must not be mirrored is not the same axis in all files."""
    found = []
    for direction in dataset.no_mirror:
        first = _first_cases(direction, tasks)
        if len(first) > 1:
            where = joined([f"axis {axis} (such as {task.case.name})" for axis, task in sorted(first.items())])
            message = f"from {direction.replace('-', ' to ')} runs {where}; none of these axes is mirrored"
            found.append(Finding("GEO09", message, remedy="bring all images into one orientation"))
    return found


def _first_cases(direction: str, tasks: Sequence[Task]) -> dict[int, Task]:
    """Axis of the arrays -> the first case that lies so. Without cases whose headers were not looked at."""
    letters = DIRECTIONS[direction]
    first: dict[int, Task] = {}
    for task in tasks:
        for stored, letter in enumerate(task.orientation):
            if letter in letters:
                first.setdefault(2 - stored, task)  # a file stores x fastest, an array names it last
    return first
