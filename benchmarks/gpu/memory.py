"""Part 2: memory that ``planning/gpu.py`` predicts beside what training and prediction take.

Every network in a process of its own: real training steps as nnU-Net makes them (float16 with gradient scaling, its
loss, clipping, the trainer's optimizer), then one tile of a prediction. On a CPU the process's resident memory stands
in for the GPU's, which only shows that it runs. The summary prints the constants that planning takes
over. Compiled trainings are
measured by part 3, which compiles anyway.

Run by run.sh.
"""

from __future__ import annotations

import campaign  # first: its clock starts before torch is imported

import sys  # isort: skip
from contextlib import suppress
from functools import partial
from pathlib import Path

import torch
from building import build, optimizer_name
from children import Children, end_orderly_on_termination, one_process_each
from fit import fitted, measured_points
from machine import used_before_cuda, write_facts
from subjects import Plan, Subject, brats, networks
from table import read
from training import as_nnunet_trains, autocast, release, training_of, wait

from nnunet_ext.planning import gpu
from nnunet_ext.planning.live import forward_peak
from nnunet_ext.planning.memory import built_without_data, measure_sample

LIMIT = 90
# cuDNN tries its algorithms in the first step; what it keeps of them is there from then on
STEPS = 4


def plans(toy: bool) -> list[Plan]:
    return [brats(edge, toy=True) for edge in (8, 16)] if toy else [brats(edge) for edge in (64, 96, 128)]


class Meter:
    """GB taken since ``start``. On a CPU the resident memory of the process."""

    def __init__(self, device: torch.device, before_cuda: float | None) -> None:
        self._device = device
        self._before = before_cuda

    def start(self) -> None:
        release(self._device)
        if self._device.type == "cuda":
            torch.zeros(1, device=self._device)  # CUDA's context is there before anything is counted
            torch.cuda.reset_peak_memory_stats()
        else:
            with suppress(OSError):  # where it is forbidden, the peak is that of the whole process
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self._resident = _status("VmRSS")

    def read(self) -> dict[str, float]:
        """``allocated``, ``reserved``: PyTorch's peaks. ``process``: all that this process holds, CUDA's context
        included. ``context``: what of it PyTorch did not reserve."""
        wait(self._device)
        if self._device.type == "cpu":
            peak = _status("VmHWM") - self._resident
            return {"allocated": peak, "reserved": peak, "process": _status("VmHWM"), "context": self._resident}
        free, total = torch.cuda.mem_get_info()
        found = {
            "allocated": torch.cuda.max_memory_allocated() / gpu.GB,
            "reserved": torch.cuda.max_memory_reserved() / gpu.GB,
        }
        if self._before is not None:
            found["process"] = (total - free) / gpu.GB - self._before
            found["context"] = found["process"] - torch.cuda.memory_reserved() / gpu.GB
        return found


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(key)) * 1024 / gpu.GB


def measure_network(run: campaign.Run, subject: Subject, before_cuda: float | None) -> None:
    """All rows of one network, eager."""
    device = torch.device(run.device)
    as_nnunet_trains(device)
    meter = Meter(device, before_cuda)
    for plan in plans(run.toy):
        run.measure(subject.name, plan.name, partial(train, run, subject, plan, meter), "train", 5)
    plan = plans(run.toy)[-1]
    run.measure(subject.name, f"{plan.name} tile", partial(predict, run, subject, plan, meter), "predict", 3)


def train(run: campaign.Run, subject: Subject, plan: Plan, meter: Meter) -> None:
    """Predicted and measured memory of a few training steps."""
    blank = built_without_data(partial(build, subject, plan))
    case = measure_sample(blank, plan.shape[1:], dtype=torch.float16, multiply_adds=False)
    computed = (gpu.training_bytes(case, plan.batch, optimizer_name(subject)) - gpu.OVERHEAD) / gpu.GB
    meter.start()
    training = training_of(subject, plan, torch.device(run.device), "fp16")
    for _ in range(STEPS if run.device == "cuda" else 1):
        training.step()
    found = meter.read()
    _write(run, subject, f"{plan.name} eager", computed, found)


def predict(run: campaign.Run, subject: Subject, plan: Plan, meter: Meter) -> None:
    """One tile as nnU-Net predicts it: batch 1, float16, no gradient."""
    blank = built_without_data(partial(build, subject, plan))
    _without_deep_supervision(blank)
    shape = (1, *plan.shape[1:])
    parameters = sum(parameter.numel() for parameter in blank.parameters())
    computed = (forward_peak(blank, shape, torch.float16) + 4 * parameters) / gpu.GB
    meter.start()
    device = torch.device(run.device)
    network = build(subject, plan).to(device).eval()
    _without_deep_supervision(network)
    with torch.no_grad(), autocast(device, torch.float16):
        network(torch.randn(shape, device=device))
    _write(run, subject, f"{plan.name} tile", computed, meter.read())


def _without_deep_supervision(network: torch.nn.Module) -> None:
    decoder = getattr(network, "decoder", None)
    if decoder is not None:
        decoder.deep_supervision = False


def _write(run: campaign.Run, subject: Subject, setting: str, computed: float, found: dict[str, float]) -> None:
    run.table.add(subject.name, setting, "computed", computed, "GB", "without the constant")
    for quantity, value in found.items():
        run.table.add(subject.name, setting, quantity, value, "GB")


def write_fit(run: campaign.Run) -> None:
    found, _ = measured_points(read(run.table.file))
    if not found:
        run.table.skip("constant", "", "no training was measured with the memory of its process")
        return
    fit = fitted(found)
    run.table.add("constant", "eager", "OVERHEAD", fit.constant, "GB", f"from {len(found)} trainings")
    run.table.add("constant", "eager", "largest residual", fit.largest_residual, "GB")


def main() -> int:
    end_orderly_on_termination()
    run = campaign.begin("memory", LIMIT)
    before = used_before_cuda() if run.device == "cuda" else None
    children = Children(write_facts, (run.table.file, run.device))
    one_process_each(children, run, networks(), measure_network, before, steps=len(plans(run.toy)) + 1)
    write_fit(run)
    return run.exit_code()


if __name__ == "__main__":
    sys.exit(main())
