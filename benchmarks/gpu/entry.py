"""A command of nnU-Net or of nnunet_ext, called as its script calls it, in a process of its own."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

#: the last line that a command prints which ran with a bound of its memory: this and a JSON document, in GB
PEAK = "peak of the GPU's memory: "


@dataclass(frozen=True)
class Circumstances:
    """What differs from typing the command.

    Attributes:
        folder: where it is typed.
        augmentation: processes of nnU-Net for augmentation, ``nnUNet_n_proc_DA``.
        allowed_gb: GPU memory (1e9 bytes) that PyTorch may take; None: all.
        killed_in_epoch: a training is killed when this epoch begins (from 0), as a cluster kills it.
        threads: instead of the processes that nnU-Net spawns, which import everything anew: for two cores.
        out_of_memory: on a CPU, stands in for a bound that is too small: the first convolution finds no memory.
    """

    folder: Path
    augmentation: int = 1
    allowed_gb: float | None = None
    killed_in_epoch: int | None = None
    threads: bool = False
    out_of_memory: bool = False


def run_command(words: Sequence[str], circumstances: Circumstances) -> None:
    """
    Raises:
        SystemExit: as the command ends; whatever else it raises.
    """
    print(f"\n$ {' '.join(words)}", flush=True)
    os.chdir(circumstances.folder)
    os.environ["nnUNet_n_proc_DA"] = str(circumstances.augmentation)
    _arrange(circumstances)
    sys.argv = list(words)
    try:
        _entry_point(words[0])()
    finally:
        if circumstances.allowed_gb is not None:
            print(PEAK + json.dumps(_peak()), flush=True)


def _entry_point(name: str) -> Any:
    if name == "nnunet_ext":  # which need not be installed
        from nnunet_ext.cli import main

        return lambda: sys.exit(main())
    return next(iter(entry_points(group="console_scripts", name=name))).load()


def _arrange(circumstances: Circumstances) -> None:
    import torch  # here, because the part that starts commands needs none

    if circumstances.threads:
        original = multiprocessing.get_context

        def threads_for_spawn(method: str | None = None) -> Any:
            return SimpleNamespace(Pool=ThreadPool) if method == "spawn" else original(method)

        multiprocessing.get_context = threads_for_spawn
        multiprocessing.cpu_count = lambda: 1
    if circumstances.allowed_gb is not None and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, circumstances.allowed_gb * 1e9 / total))
    if circumstances.out_of_memory:
        torch.nn.Conv3d.forward = _no_memory  # type: ignore[method-assign]
    if circumstances.killed_in_epoch is not None:
        _kill_in_epoch(circumstances.killed_in_epoch)


def _no_memory(*_: Any, **__: Any) -> Any:
    import torch

    raise torch.cuda.OutOfMemoryError("CUDA out of memory. (A stand-in for it on the CPU.)")


def _kill_in_epoch(number: int) -> None:
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    original = nnUNetTrainer.on_epoch_start

    def on_epoch_start(trainer: Any) -> None:
        if trainer.current_epoch == number:
            os.kill(os.getpid(), signal.SIGKILL)
        original(trainer)

    nnUNetTrainer.on_epoch_start = on_epoch_start


def _peak() -> dict[str, float]:
    """GB; zeros without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return {"allocated": 0.0, "reserved": 0.0}
    return {
        "allocated": torch.cuda.max_memory_allocated() / 1e9,
        "reserved": torch.cuda.max_memory_reserved() / 1e9,
    }


def read_peak(text: str) -> dict[str, float]:
    """From the output of a command.

    Raises:
        ValueError: it printed none.
    """
    lines = [line.removeprefix(PEAK) for line in text.splitlines() if line.startswith(PEAK)]
    if not lines:
        raise ValueError("the command printed no peak of its memory")
    return json.loads(lines[-1])
