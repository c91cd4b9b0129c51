"""Workers: cases in parallel, results in order."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from nnunet_ext.dataset_conversion.cases import case_forms as forms
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.errors import UserError
from nnunet_ext.pool import in_order


def results(tasks: Sequence[Task], processes: int) -> Generator[CaseResult, None, None]:
    """Convert cases; the results come in the order of the tasks, whatever the number of processes.

    Closing the iterator waits for the cases that are being written and starts no others.

    Raises:
        UserError: what a worker raised (OUT04), or a line that names the cases at hand when a worker died.
    """
    return in_order(forms.run, tasks, processes, _died)


def _died(tasks: Sequence[Task]) -> UserError:
    names = ", ".join(task.case.name for task in tasks)
    return UserError(
        f"a worker process died, most often for lack of memory, while converting one of {names}",
        remedy="use a smaller -np and resume with the same command",
    )
