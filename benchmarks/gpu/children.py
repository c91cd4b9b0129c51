"""Work in processes of its own: one that hangs or breaks its CUDA context takes nothing else with it.

Processes are forked from one that has imported torch and nnU-Net, which saves the seconds of importing them each time.
Forking is sound as long as that process has never touched the GPU; whether that holds is tried first, and if it does
not, every process starts anew.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from campaign import Run
from subjects import Subject

# what takes long to import and is used by all: the optimizers of torch import its compiler
PRELOADED = ("torch", "torch._dynamo", "nnunet_ext.trainers.base", "nnunet_ext.planning.estimate", "timm")
# and by commands
OF_COMMANDS = (
    "nnunetv2.run.run_training",
    "nnunetv2.inference.predict_from_raw_data",
    "nnunetv2.experiment_planning.plan_and_preprocess_entrypoints",
    "nnunetv2.evaluation.find_best_configuration",
    "nnunet_ext.planning.make_plans",
)
# PR_SET_PDEATHSIG of Linux
DIES_WITH_ITS_PARENT = 1
# seconds without which no process is started
LEAST_FOR_A_NETWORK = 3.0
_running: set[BaseProcess] = set()
# Starting a process asks after all others, and an exit code can be read but once: threads must take turns.
_asking = threading.Lock()


class Children:
    """Starts and ends processes.

    Args:
        probe: called in a first child with ``arguments``; if that fails, children are started anew from then on.
        server: fork from a server that has imported what commands need, as a process with threads must; else from this
            one.
    """

    def __init__(self, probe: Callable[..., None], arguments: Sequence[Any] = (), server: bool = False) -> None:
        # torch then asks the driver's library whether there is a GPU, which leaves CUDA untouched
        os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"
        # how processes start that a command starts itself: as when it is typed
        self._usual = multiprocessing.get_start_method()
        self.context: Any = multiprocessing.get_context("forkserver" if server else "fork")
        if server:
            self.context.set_forkserver_preload([*PRELOADED, *OF_COMMANDS])
        else:
            for module in PRELOADED:
                with suppress(ImportError):
                    importlib.import_module(module)
        if self.call(probe, arguments, seconds=60) != 0:
            print("processes cannot be forked here: each one starts anew", flush=True)
            self.context = multiprocessing.get_context("spawn")
            self.call(probe, arguments, seconds=60)

    def start(self, target: Callable[..., None], arguments: Sequence[Any], log: Path | None = None) -> BaseProcess:
        """
        Args:
            target: of a module; its process fails if it raises.
            arguments: that pickle.
            log: file to which all output is appended, or None for this process's own.
        """
        process = self.context.Process(target=_inside, args=(target, tuple(arguments), log, self._usual))
        with _asking:
            process.start()
        _running.add(process)
        return process

    def call(
        self, target: Callable[..., None], arguments: Sequence[Any] = (), seconds: float = 60, log: Path | None = None
    ) -> int | None:
        """Start and await. The exit code, or None if it had not ended in time and was killed."""
        return end_of(self.start(target, arguments, log), seconds)


def end_of(process: BaseProcess, seconds: float) -> int | None:
    """The exit code, or None if the process does not end in time; then it is killed, with all that it started."""
    code = _await(process, seconds)
    kill(process)
    return code


def _await(process: BaseProcess, seconds: float) -> int | None:
    ends = time.monotonic() + seconds
    while True:
        with _asking:
            code = process.exitcode
        if code is not None or time.monotonic() >= ends:
            return code
        time.sleep(0.05)


def kill(process: BaseProcess) -> None:
    """End a process and whatever it started, should they still run."""
    _running.discard(process)
    if process.pid is None:
        return
    # its children outlive it where it was killed; it leads their group
    for end in (lambda: os.killpg(process.pid or 0, signal.SIGKILL), process.kill):
        try:
            end()
        except (ProcessLookupError, PermissionError):
            continue
    _await(process, 5)


def one_process_each(
    children: Children, run: Run, subjects: Sequence[Subject], measure: Callable[..., None], *more: Any, steps: int
) -> None:
    """Measure networks one after the other.

    Args:
        children: where processes come from.
        run: of the part.
        subjects: networks.
        measure: called with ``run``, the subject and ``more``; writes the rows.
        steps: measurements of each, for the line of progress.
    """
    run.steps = steps * len(subjects)
    for number, subject in enumerate(subjects):
        run.done, seconds = number * steps, run.left()
        if seconds < LEAST_FOR_A_NETWORK:
            run.table.skip(subject.name, "", "no time was left")
            continue
        code = children.call(measure, (run, subject, *more), seconds)
        if code != 0:
            run.table.check(subject.name, "", "measured", False, reason(code, seconds))


def reason(code: int | None, seconds: float) -> str:
    """Why a process is said to have failed."""
    if code is None:
        return f"it did not end within {seconds:.0f} s"
    return f"ended by signal {-code}" if code < 0 else f"exit code {code}"


def _inside(target: Callable[..., None], arguments: tuple[Any, ...], log: Path | None, usual: str) -> None:
    multiprocessing.set_start_method(usual, force=True)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(DIES_WITH_ITS_PARENT, signal.SIGKILL)
    os.setsid()  # to be killed together with what it starts
    if log is not None:
        descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.close(descriptor)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    target(*arguments)


@atexit.register
def _kill_all() -> None:
    for process in list(_running):
        kill(process)


def end_orderly_on_termination() -> None:
    """Turn the signal of a limit into an exit, which ends the children too."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
