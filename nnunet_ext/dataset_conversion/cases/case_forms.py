"""The forms of a target: how a case of each becomes files of nnU-Net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnunet_ext.dataset_conversion.cases import series, single_pictures, volumes
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task


@dataclass(frozen=True)
class Form:
    """Two functions of a form.

    Args:
        plan: decides from names and headers what will be written; it reads no pixel.
        run: reads, checks and writes the pixels, in a worker.
    """

    plan: Callable[[Task], tuple[Task, list[Finding]]]
    run: Callable[[Task], CaseResult]


FORMS = {
    "volume": Form(volumes.plan, volumes.run),
    "picture": Form(single_pictures.plan, single_pictures.run),
    "slices": Form(series.plan, series.run),
    "stack": Form(series.plan, series.run),
}


def run(task: Task) -> CaseResult:
    """Convert one case (in a worker). Too little memory for it is MEM01."""
    try:
        return FORMS[task.target.form].run(task)
    except MemoryError:
        pass  # what the case had taken is free again when the error is
    result = CaseResult(task.case.id)
    largest = max((file for _, file in task.case.all_files), key=lambda file: file.size)
    message = f"{task.case.name}: the memory does not suffice; the largest file is {largest.shown}"
    task.note(result, "MEM01", message, largest.shown, "give a smaller -np, or convert where there is more memory")
    return result
