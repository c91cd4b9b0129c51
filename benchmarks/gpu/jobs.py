"""Jobs side by side as long as the GPU's memory and the cores allow, in their order, until the time is out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from campaign import Run
from table import Table


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Attributes:
        subject, setting: of its rows.
        memory: GB of the GPU that it may take.
        seconds: that it takes about; without so many left it does not begin.
        call: does it and writes its rows.
    """

    subject: str
    setting: str
    memory: float
    seconds: float
    call: Callable[[], None]


def run_jobs(jobs: Sequence[Job], run: Run, memory: float, at_once: int) -> None:
    """
    Args:
        jobs: in order of importance; a later one begins first only where an earlier one waits for memory.
        run: whose deadline holds.
        memory: GB that all may take together; a job that needs more than that is left out.
        at_once: jobs side by side, at most.
    """
    waiting = list(jobs)
    free = [memory, float(at_once)]
    changed = threading.Condition()
    threads: list[threading.Thread] = []

    def work(job: Job) -> None:
        try:
            with Table(run.table.file, run.table.part).attempt(job.subject, job.setting):
                job.call()
        finally:
            with changed:
                free[0] += job.memory
                free[1] += 1
                changed.notify_all()

    with changed:
        while waiting:
            impossible = [job for job in waiting if job.memory > memory]
            for job in impossible:
                waiting.remove(job)
                run.table.skip(job.subject, job.setting, f"needs {job.memory:.0f} GB, {memory:.0f} are there")
            fitting = next((job for job in waiting if job.memory <= free[0]), None) if free[1] >= 1 else None
            if fitting is not None:
                waiting.remove(fitting)
                if run.begins(fitting.subject, fitting.setting, fitting.setting, fitting.seconds):
                    free[0] -= fitting.memory
                    free[1] -= 1
                    # a daemon, so that ending the part does not wait for it
                    threads.append(threading.Thread(target=work, args=(fitting,), daemon=True))
                    threads[-1].start()
            elif waiting:
                changed.wait(1.0)
    for thread in threads:
        thread.join()
