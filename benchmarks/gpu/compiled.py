"""Compiled trainings for part 3: each in a process of its own, several compile at once, and then each is timed alone.

Compiling keeps cores busy and the GPU idle, so processes compile side by side. A process says when it has compiled and
warmed up, and waits to be called: nothing else computes while it is timed. All processes are forked before the part
touches the GPU, and wait for their work.
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch._functorch.config as functorch_config  # private, read in torch 2.15.0; raises where a name is gone
from campaign import Run, cores
from children import Children, kill
from subjects import Plan, Subject
from table import first_line
from training import as_nnunet_trains, training_of
from turns import taking_turns

GB = 10**9
READY = "ready"
WARM_UP = 3
# processes that compile side by side have this many cores each (TORCHINDUCTOR_COMPILE_THREADS in run.sh)
CORES_EACH = 4
# seconds without which it is not tried
LEAST_TO_COMPILE = 5


@dataclass(frozen=True)
class Job:
    """What a process compiles. ``budget``: the share of activations that the compiler may keep, 1 for all."""

    subject: Subject
    plan: Plan
    precision: str
    device: str
    backend: str
    rounds: int
    seconds: float
    budget: float = 1.0


@dataclass(frozen=True)
class Result:
    """Seconds of compiling and of each step, and PyTorch's peaks in GB (0 on a CPU)."""

    compile_seconds: float
    steps: list[float]
    allocated: float
    reserved: float


def serve(connection: Connection) -> None:
    """In the process: await a job, compile, say so, wait to be called, measure, answer. The first line of an error is
    an answer too."""
    try:
        job: Job = connection.recv()
        device = torch.device(job.device)
        as_nnunet_trains(device)
        functorch_config.activation_memory_budget = job.budget
        begun = time.monotonic()
        training = training_of(job.subject, job.plan, device, job.precision, job.backend)
        training.step()
        compile_seconds = time.monotonic() - begun
        for _ in range(WARM_UP if device.type == "cuda" else 0):
            training.step()
        connection.send(READY)
        connection.recv()
        times = taking_turns({"step": training.step}, device, job.rounds, job.seconds)["step"]
        cuda = device.type == "cuda"
        allocated, reserved = (
            (torch.cuda.max_memory_allocated() / GB, torch.cuda.max_memory_reserved() / GB) if cuda else (0.0, 0.0)
        )
        connection.send(Result(compile_seconds, times, allocated, reserved))
    except Exception as error:
        traceback.print_exc()
        connection.send(first_line(error))


class Compilers:
    """Processes that wait for one job each."""

    def __init__(self, children: Children, count: int) -> None:
        self._waiting: list[tuple[BaseProcess, Connection]] = []
        for _ in range(count):
            here, there = children.context.Pipe()
            self._waiting.append((children.start(serve, (there,)), here))

    def run(self, jobs: list[Job], run: Run, limit: float) -> dict[Job, Result | str]:
        """What became of each job: its result, or why there is none. Those that there was no time for are missing.

        Args:
            jobs: in order of importance, at most as many as there are processes.
            run: whose deadline holds.
            limit: seconds that compiling may take; a process that has not compiled then is ended.
        """
        found: dict[Job, Result | str] = {}
        at_once = max(1, cores() // CORES_EACH)
        for first in range(0, len(jobs), at_once):
            wave = jobs[first : first + at_once]
            timing = sum(job.seconds for job in wave)
            if run.left() < timing + LEAST_TO_COMPILE:
                break
            found |= self._wave(wave, min(limit, run.left() - timing))
        return found

    def end(self) -> None:
        for process, _ in self._waiting:
            kill(process)

    def _wave(self, jobs: list[Job], limit: float) -> dict[Job, Result | str]:
        ends = time.monotonic() + limit
        found: dict[Job, Result | str] = {}
        busy = {job: self._waiting.pop() for job in jobs}
        try:
            for job, (_, connection) in busy.items():
                print(f"compiling {job.subject.name} {job.plan.name} {job.precision}", flush=True)
                connection.send(job)
            for job, (process, connection) in busy.items():
                answer = _answer(connection, ends - time.monotonic())
                if answer != READY:
                    found[job] = answer or f"it did not compile within {limit:.0f} s"
                    kill(process)
            for job, (process, connection) in busy.items():
                if job not in found:
                    connection.send("go")
                    found[job] = _answer(connection, 2 * job.seconds + 10) or "the timed steps did not end"
                    kill(process)
        finally:
            for process, _ in busy.values():
                kill(process)
        return found


def _answer(connection: Connection, seconds: float) -> Any:
    """What the process sends, or None if it is silent for so long."""
    try:
        return connection.recv() if connection.poll(max(0.0, seconds)) else None
    except (EOFError, ConnectionError) as error:
        return f"its process ended: {type(error).__name__}"
