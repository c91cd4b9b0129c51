"""Workers: results in order, and a death that is told instead of a hang."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext import pool as workers
from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.cases import case_forms as forms
from nnunet_ext.dataset_conversion.cases import pool
from nnunet_ext.dataset_conversion.checks import Policy
from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.tasks import CaseResult, Task
from nnunet_ext.errors import UserError


def task(name: str) -> Task:
    dataset = get("brats2021")
    return Task(Case(name, name, "train", {}, name), dataset, dataset.default_target, "", "copy", Policy())


def test_one_process_works_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forms, "run", lambda task: CaseResult(task.case.id))
    assert [result.case for result in pool.results([task("b"), task("a")], 1)] == ["b", "a"]


class _Future:
    """Answers as the executor below says."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def result(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


def test_the_results_come_in_order_and_a_closed_stream_starts_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    closed: list[bool] = []

    class Executor:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def submit(self, _: Any, task: Task) -> _Future:
            started.append(task.case.id)
            return _Future(CaseResult(task.case.id))

        def shutdown(self, wait: bool, cancel_futures: bool) -> None:
            closed.append(wait and cancel_futures)

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Executor)
    stream = pool.results([task(f"c{number}") for number in range(50)], 2)
    assert [next(stream).case for _ in range(3)] == ["c0", "c1", "c2"]
    assert len(started) <= 3 + 4 * 2, "more cases ahead than there is room for"
    stream.close()
    assert closed == [True]
    assert len(started) < 50


def _die(_: Task) -> CaseResult:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def test_a_killed_worker_is_told_with_the_cases_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from concurrent.futures.process import BrokenProcessPool

    class Executor:
        def __init__(self, *_: Any, **__: Any) -> None: ...

        def submit(self, _: Any, task: Task) -> _Future:
            return _Future(BrokenProcessPool("a worker died"))

        def shutdown(self, wait: bool, cancel_futures: bool) -> None: ...

    monkeypatch.setattr(workers, "ProcessPoolExecutor", Executor)
    with pytest.raises(UserError, match=r"worker process died.* one of c0, c1 - use a smaller -np and resume"):
        list(pool.results([task(f"c{number}") for number in range(9)], 2))
