"""Workers: cases in parallel, results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from nnunet_ext.dataset_conversion.cases import case_forms as forms
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.errors import UserError

# How many cases may wait for an earlier, slower one: keeps workers busy and the answers few.
_AHEAD = 4


def results(tasks: Sequence[Task], processes: int) -> Generator[CaseResult, None, None]:
    """Convert cases; the results come in the order of the tasks, whatever the number of processes.

    Closing the iterator waits for the cases that are being written and starts no others.

    Raises:
        UserError: what a worker raised (OUT04), or a line that names the cases at hand when a worker died.
    """
    if processes == 1 or len(tasks) < 2:
        yield from map(forms.run, tasks)
        return
    executor = ProcessPoolExecutor(
        min(processes, len(tasks)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    running: deque[tuple[Task, Future[CaseResult]]] = deque()
    waiting = iter(tasks)
    try:
        while True:
            while len(running) < _AHEAD * processes and (task := next(waiting, None)) is not None:
                running.append((task, executor.submit(forms.run, task)))
            if not running:
                return
            task, future = running[0]
            try:
                result = future.result()
            except BrokenProcessPool as error:
                raise _died([task for task, _ in running][:processes]) from error
            running.popleft()
            yield result
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _start_worker() -> None:
    # Ctrl-C reaches all processes of a terminal; the parent decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A parent that was killed cannot stop its workers, which would wait for work for ever.
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _died(tasks: Sequence[Task]) -> UserError:
    names = ", ".join(task.case.name for task in tasks)
    return UserError(
        f"a worker process died, most often for lack of memory, while converting one of {names}",
        remedy="use a smaller -np and resume with the same command",
    )
