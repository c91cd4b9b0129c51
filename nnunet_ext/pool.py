"""Work in several processes, with the results in the order of the tasks."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from nnunet_ext.errors import UserError

# How many tasks may wait for an earlier, slower one: keeps workers busy and the answers few.
_AHEAD = 4

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Task], Result], tasks: Sequence[Task], processes: int, died: Callable[[Sequence[Task]], UserError]
) -> Generator[Result, None, None]:
    """The result of each task, in the order of the tasks, whatever the number of processes.

    Closing the iterator waits for the tasks at work and starts no others.

    Args:
        work: a function of a module, and of one task, both of which can be sent to another process.
        tasks: what is to be done.
        processes: with one, everything happens in this process.
        died: the error for a worker that died at one of these tasks.

    Raises:
        UserError: what a worker raised, or ``died``.
    """
    if processes == 1 or len(tasks) < 2:
        yield from map(work, tasks)
        return
    executor = ProcessPoolExecutor(
        min(processes, len(tasks)), mp_context=multiprocessing.get_context("spawn"), initializer=_start_worker
    )
    running: deque[tuple[Task, Future[Result]]] = deque()
    waiting = iter(tasks)
    try:
        while True:
            while len(running) < _AHEAD * processes:
                for task in waiting:
                    running.append((task, executor.submit(work, task)))
                    break
                else:
                    break
            if not running:
                return
            _, future = running[0]
            try:
                result = future.result()
            except BrokenProcessPool as error:
                raise died([task for task, _ in running][:processes]) from error
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
