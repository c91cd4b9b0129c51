"""The ways in which a case becomes files of nnU-Net: form -> (plan from names and headers, run with pixels)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nnunet_ext.dataset_conversion.cases import pairs, series, volumes
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task


@dataclass(frozen=True)
class Form:
    plan: Callable[[Task], tuple[Task, list[Finding]]]
    run: Callable[[Task], CaseResult]


FORMS = {
    "volume": Form(volumes.plan, volumes.run),
    "picture": Form(pairs.plan, pairs.run),
    "slices": Form(series.plan, series.run),
    "stack": Form(series.plan, series.run),
}


def run(task: Task) -> CaseResult:
    """Convert one case (in a worker)."""
    return FORMS[task.target.form].run(task)
