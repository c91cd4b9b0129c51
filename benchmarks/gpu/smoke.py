"""Part 1: does it run there at all? ``nnunet_ext doctor``; every network forward, backward and one optimizer step, in
three precisions, 2D and 3D; its outputs beside those of the CPU.

Run by run.sh.
"""

from __future__ import annotations

import campaign  # first: its clock starts before torch is imported

import sys  # isort: skip
from functools import partial

import torch
from building import build
from children import Children, end_of, end_orderly_on_termination, one_process_each, reason
from entry import Circumstances, run_command
from machine import write_facts
from subjects import Plan, Subject, brats, networks, pictures
from torch import nn
from training import PRECISIONS, autocast, release, training_of

LIMIT = 90
# Bounds of |output - output on the CPU| / |output on the CPU| (Euclidean norms, the CPU in float32).
#
# Every operation rounds its result by up to u, half a unit in the last place: 6e-8 in float32, 4.9e-4 in float16,
# 3.9e-3 in bfloat16. Such errors are independent, so over the about 100 operations in a row of the deepest network here
# they grow like the root, to 10 u; seen on a CPU in bfloat16: 2 to 10 u. Normalisation over few voxels, gates and
# softmax enlarge what comes in: bfloat16 gets a factor of 5 for it. Float16 gets 10, because it also loses numbers
# below 6e-8 (seen on a CPU: 40 u). In float32 the devices add up the thousands of products of a convolution in
# different orders and by other algorithms, which costs the root of a sum's length, about 100, and once more 10. A wrong
# kernel, mask or dtype gives errors of the order of 1.
BOUNDS = {"fp32": 1e-4, "fp16": 5e-2, "bf16": 2e-1}
# GradScaler starts with a factor that may be too large; it halves it and leaves out the step.
STEPS_UNTIL_SCALED = 12


def compared_plans(toy: bool) -> list[Plan]:
    """The default topologies on patches that the CPU can keep up with."""
    return [brats(8, toy=True), pictures(2, toy=True)] if toy else [brats(64, batch=1), pictures(1)]


def trained_plans(toy: bool) -> list[Plan]:
    return [brats(8, toy=True), pictures(2, toy=True)] if toy else [brats(128), pictures()]


def check_network(run: campaign.Run, subject: Subject) -> None:
    """All rows of one network."""
    device = torch.device(run.device)
    torch.set_num_threads(max(1, campaign.cores() - 1) if not run.toy else 1)
    for plan in compared_plans(run.toy):
        run.measure(subject.name, f"{plan.name} as on the CPU", partial(compare, run, subject, plan), "compare", 10)
    for plan in trained_plans(run.toy):
        for precision in PRECISIONS:
            run.measure(
                subject.name,
                f"{plan.name} {precision}",
                partial(step, run, subject, plan, precision),
                "step",
                4,
            )
            release(device)


def compare(run: campaign.Run, subject: Subject, plan: Plan) -> None:
    """Outputs in every precision beside the CPU's in float32."""
    device = torch.device(run.device)
    # TF32 has 10 bits of fraction: what is called float32 shall be it here
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    network = build(subject, plan).eval()
    image = torch.randn(plan.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = _outputs(network, image)
        network = network.to(device)
        for precision, dtype in PRECISIONS.items():
            with autocast(device, dtype):
                found = _outputs(network, image.to(device))
            error = max(relative_error(a, b) for a, b in zip(found, expected, strict=True))
            run.table.add(subject.name, f"{plan.name} {precision}", "output error", error, "relative")
            run.table.check(
                subject.name,
                f"{plan.name} {precision}",
                "output as on the CPU",
                error <= BOUNDS[precision],
                f"error {error:.2g}, bound {BOUNDS[precision]:g}",
            )
    torch.backends.cudnn.allow_tf32 = True


def _outputs(network: nn.Module, image: torch.Tensor) -> list[torch.Tensor]:
    outputs = network(image)
    return [output.float().cpu() for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]


def relative_error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def step(run: campaign.Run, subject: Subject, plan: Plan, precision: str) -> None:
    """One step of the optimizer from a finite loss to finite, changed weights."""
    training = training_of(subject, plan, torch.device(run.device), precision)
    before = [parameter.detach().clone() for parameter in training.network.parameters()]
    skipped = 0
    for _ in range(STEPS_UNTIL_SCALED):
        scale = training.scaler.get_scale()
        loss = training.step().item()
        if training.scaler.get_scale() >= scale:
            break
        skipped += 1
    setting = f"{plan.name} {precision}"
    run.table.add(subject.name, setting, "loss", loss, "", f"{skipped} steps left out by the scaler")
    after = list(training.network.parameters())
    finite = all(bool(parameter.isfinite().all()) for parameter in after)
    changed = any(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    wrong = [text for text, holds in (("weights are not finite", finite), ("no weight changed", changed)) if not holds]
    run.table.check(subject.name, setting, "forward, backward and step", not wrong, ", ".join(wrong))


def check_doctor(run: campaign.Run, code: int | None, output: str) -> None:
    problems = [line.strip() for line in output.splitlines() if "PROBLEM" in line]
    why = "" if code == 0 else "; ".join(problems) or reason(code, 60)
    run.table.check("nnunet_ext doctor", "", "no problem found", code == 0, why)


def main() -> int:
    end_orderly_on_termination()
    run = campaign.begin("smoke", LIMIT)
    campaign.own_folders(run)
    children = Children(write_facts, (run.table.file, run.device))
    log = run.work / "doctor.log"
    doctor = children.start(run_command, (["nnunet_ext", "doctor"], Circumstances(run.work)), log)
    each = len(compared_plans(run.toy)) + len(PRECISIONS) * len(trained_plans(run.toy))
    one_process_each(children, run, networks(), check_network, steps=each)
    code = end_of(doctor, min(60.0, run.left() + 1))
    output = log.read_text(encoding="utf-8") if log.is_file() else ""
    print(output, flush=True)
    check_doctor(run, code, output)
    return run.exit_code()


if __name__ == "__main__":
    sys.exit(main())
