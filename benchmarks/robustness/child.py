"""Runs one command of ours in a forked child: time limit, peak memory, what it printed, how it ended.

The parent has imported everything once (``warm_up``) and computes nothing itself, so that a fork is safe and cheap.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SECONDS = 60
#: what a child may ask for beyond what its parent holds; more ends in MemoryError, on a machine that others use too
_ADDRESS_SPACE = 8 << 30
_FILE_BYTES = 2 << 30


@dataclass(frozen=True)
class Ending:
    """How a child ended. ``code`` is negative for a signal, None where it was stopped at the time limit."""

    code: int | None
    out: str
    err: str
    peak: int
    seconds: float


def warm_up() -> None:
    """Imports what commands import, so that no child does."""
    import nnunet_ext

    for module in pkgutil.walk_packages(nnunet_ext.__path__, "nnunet_ext."):
        if not module.name.endswith(("__main__", ".nnunet_ext_discovery")):
            with suppress(Exception):
                importlib.import_module(module.name)
    for name in ("torch._dynamo", "nnunetv2.training.nnUNetTrainer.nnUNetTrainer", "nnunetv2.run.run_training"):
        importlib.import_module(name)


def warm_up_conversions() -> None:
    """Imports what conversions need, and no torch."""
    for name in ("commands.convert", "commands.to_submission", "commands.overlay", "commands.phantom", "phantoms"):
        importlib.import_module(f"nnunet_ext.{name}")
    for name in ("convert", "submission", "reporting.report", "cases.case_forms", "plan_conversion"):
        importlib.import_module(f"nnunet_ext.dataset_conversion.{name}")
    for name in ("SimpleITK", "tifffile", "PIL.Image", "nnunet_ext.report.folder_overlay"):
        importlib.import_module(name)


def run_command(argv: Sequence[str], cwd: Path, environment: Mapping[str, str], log: Path) -> Ending:
    """Our command with these arguments."""

    def command() -> int:
        from nnunet_ext.cli import main

        sys.argv = ["nnunet_ext", *argv]
        return main(list(argv))

    return call(command, cwd, environment, log)


def call(
    work: Callable[[], int], cwd: Path, environment: Mapping[str, str], log: Path, seconds: float = SECONDS
) -> Ending:
    """A function in a child of its own; its value is the exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    out, err = log.with_suffix(".out"), log.with_suffix(".err")
    begun = time.monotonic()
    child = os.fork()
    if child == 0:
        _child(work, cwd, environment, out, err)
    code, usage = _wait(child, begun + seconds)
    told = [path.read_bytes().decode("utf-8", "replace") if path.exists() else "" for path in (out, err)]
    return Ending(code, told[0], told[1], usage.ru_maxrss * 1024, time.monotonic() - begun)


def _child(work: Callable[[], int], cwd: Path, environment: Mapping[str, str], out: Path, err: Path) -> None:
    code = 1
    try:
        os.setsid()
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(cwd)
        os.environ.update(environment)
        tempfile.tempdir = None
        held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + _ADDRESS_SPACE,) * 2)
        resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        code = work()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code & 255)


def _wait(child: int, until: float) -> tuple[int | None, resource.struct_rusage]:
    pause = 0.002
    while True:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            with suppress(ProcessLookupError):  # workers that it left
                os.killpg(child, signal.SIGKILL)
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > until:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)
            _, _, usage = os.wait4(child, 0)
            return None, usage
        time.sleep(pause)
        pause = min(pause * 1.3, 0.01)
