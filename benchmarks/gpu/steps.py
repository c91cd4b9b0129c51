"""Part 3: seconds of a training step of every network, eager and compiled, and what share of the card's speed that is.

Networks take turns, so that a noisy machine hits all; ratios are medians of the rounds' own ratios. TFLOP/s count two
operations a multiply-add and three passes a step (forward, gradients of activations, gradients of weights), beside a
product of large matrices on the same card.

Run by run.sh.
"""

from __future__ import annotations

import campaign  # first: its clock starts before torch is imported

import statistics  # isort: skip
import sys
import time
from functools import partial

import torch
from attention import PAIRS, SHAPES, TOY_SHAPES, Absent, Shape, difference, passes
from building import build
from children import Children, end_orderly_on_termination
from compiled import Compilers, Job, Result
from machine import write_facts
from subjects import PLAIN, Plan, Subject, brats, families, networks, pictures, variants
from training import PRECISIONS, Training, as_nnunet_trains, release, training_of, wait
from turns import ratio, spread, taking_turns

from nnunet_ext.planning.memory import built_without_data, measure_sample

LIMIT = 150
HALF = ("fp16", "bf16")
ROUNDS = 9
WARM_UP = 3
PASSES = 3
MATRIX, TOY_MATRIX = 8192, 64
# Where sums are taken in another order and some factors in half precision, results still agree to this, in float32.
SAME = 1e-2
COMPILE_LIMIT = 80.0
COMPILED_SECONDS = 4.0
# shares of the activations that the compiler may keep
BUDGETS = (0.9, 0.7, 0.5)


def plans(toy: bool) -> list[Plan]:
    return [brats(8, toy=True), pictures(2, toy=True)] if toy else [brats(128), pictures()]


def matrix_product(run: campaign.Run, precision: str) -> float:
    """TFLOP/s of one large product; a row."""
    device, edge = torch.device(run.device), TOY_MATRIX if run.toy else MATRIX
    a, b = (torch.randn(edge, edge, device=device, dtype=PRECISIONS[precision]) for _ in range(2))
    for _ in range(WARM_UP):
        a @ b
    times = taking_turns({"product": lambda: a @ b}, device, 10, run.left())["product"]
    speeds = [2 * edge**3 / seconds / 1e12 for seconds in times]
    run.table.add(
        "matrix product",
        f"{edge}x{edge}x{edge} {precision}",
        "speed",
        statistics.median(speeds),
        "TFLOP/s",
        spread(speeds),
    )
    return statistics.median(speeds)


def eager(run: campaign.Run, plan: Plan, precision: str, product: float | None) -> None:
    """Steps of all networks, in turns."""
    device = torch.device(run.device)
    trainings: dict[str, Training] = {}
    setting = f"{plan.name} {precision} eager"
    subjects = networks() + variants()
    for subject in subjects:

        def warm_up(subject: Subject = subject) -> None:
            training = training_of(subject, plan, device, precision)
            for _ in range(WARM_UP if device.type == "cuda" else 1):
                training.step()
            wait(device)
            trainings[subject.name] = training

        run.measure(subject.name, setting, warm_up, f"warm up {plan.name}", 5)
    with run.table.attempt("all networks", setting):
        calls = {name: training.step for name, training in trainings.items()}
        times = taking_turns(calls, device, 2 if run.toy else ROUNDS, run.left())
        for subject in subjects:
            if subject.name in times:
                _write(run, subject, plan, setting, times[subject.name], times.get(PLAIN), product)


def _write(
    run: campaign.Run,
    subject: Subject,
    plan: Plan,
    setting: str,
    seconds: list[float],
    plain: list[float] | None,
    product: float | None,
) -> None:
    middle = statistics.median(seconds)
    run.table.add(subject.name, setting, "step", middle, "s", spread(seconds))
    if plain is not None and len(plain) == len(seconds):
        ratios = ratio(seconds, plain)
        run.table.add(subject.name, setting, f"time / {PLAIN}", statistics.median(ratios), "", spread(ratios))
    case = measure_sample(built_without_data(partial(build, subject, plan)), plan.shape[1:])
    speed = 2 * PASSES * plan.batch * case.multiply_adds / middle / 1e12
    run.table.add(subject.name, setting, "speed", speed, "TFLOP/s", f"{case.multiply_adds / 1e9:.4g} G multiply-adds")
    if product:
        run.table.add(subject.name, setting, "share of the matrix product", speed / product, "")


def attentions(run: campaign.Run) -> None:
    """Both forms of every pair, forward and a step, and their ratio."""
    device = torch.device(run.device)
    for name in PAIRS:
        for shape in TOY_SHAPES if run.toy else SHAPES:
            run.measure(name, shape.name, partial(_compare, run, name, shape, device), "attention", 3)
            release(device)


def _compare(run: campaign.Run, name: str, shape: Shape, device: torch.device) -> None:
    try:
        pair = PAIRS[name](shape, device)
    except Absent as reason:
        run.table.skip(name, shape.name, str(reason))
        return
    apart = difference(pair)
    run.table.check(name, shape.name, "same result", apart <= SAME, f"relative difference {apart:.2g}")
    repeats = 1 if run.toy else 10
    for kind, calls in passes(pair, device).items():
        for call in calls.values():
            call()
        times = taking_turns(calls, device, 3 if run.toy else 15, run.left(), repeats)
        base, other = times
        ratios = ratio(times[other], times[base])
        run.table.add(name, shape.name, f"{kind}, {other} / {base}", statistics.median(ratios), "", spread(ratios))
        for form, seconds in times.items():
            run.table.add(name, shape.name, f"{kind}, {form}", statistics.median(seconds), "s", spread(seconds))


def compile_jobs(run: campaign.Run) -> list[Job]:
    """One form a family beside nnU-Net's own two, on the first plan; then the same without our recomputation, and the
    first family where the compiler may keep a share of the activations alone."""
    backend = "eager" if run.toy else "inductor"
    own = [subject for subject in networks() if subject.residual or subject.name == PLAIN]
    kept = [subject for subject in variants() if not subject.recompute]
    wanted = [(subject, 1.0) for subject in own[:1] + families() + own[1:] + kept]
    wanted += [(kept[0], budget) for budget in BUDGETS]
    return [
        Job(
            subject, plans(run.toy)[0], HALF[0], run.device, backend, 2 if run.toy else ROUNDS, COMPILED_SECONDS, budget
        )
        for subject, budget in wanted
    ]


def compiled(run: campaign.Run, jobs: list[Job], compilers: Compilers, products: dict[str, float]) -> None:
    plan, precision = jobs[0].plan, jobs[0].precision
    print(f"[steps, {run.left():.0f} of {run.limit:.0f} s left] compiling {len(jobs)} networks", flush=True)
    found = compilers.run(jobs, run, COMPILE_LIMIT)
    for job in jobs:
        setting = f"{plan.name} {precision} compiled{'' if job.budget == 1 else f', budget {job.budget}'}"
        result = found.get(job, None)
        if result is None:
            run.table.skip(job.subject.name, setting, "no time was left")
            continue
        worked = isinstance(result, Result)
        run.table.check(job.subject.name, setting, "compiled", worked, "" if worked else str(result))
        if isinstance(result, Result):
            with run.table.attempt(job.subject.name, setting):
                _write(run, job.subject, plan, setting, result.steps, None, products.get(precision))
                run.table.add(job.subject.name, setting, "until the first step", result.compile_seconds, "s")
                run.table.add(job.subject.name, setting, "allocated", result.allocated, "GB")
                run.table.add(job.subject.name, setting, "reserved", result.reserved, "GB")


def main() -> int:
    end_orderly_on_termination()
    run = campaign.begin("steps", LIMIT)
    device = torch.device(run.device)
    jobs = compile_jobs(run)
    # before this process touches the GPU
    compilers = Compilers(Children(write_facts, (run.table.file, run.device)), len(jobs))
    torch.set_num_threads(1)
    as_nnunet_trains(device)
    combinations = [(plan, precision) for precision in HALF for plan in plans(run.toy)]
    pairs = len(PAIRS) * len(TOY_SHAPES if run.toy else SHAPES)
    run.steps = len(HALF) + len(combinations) * len(networks() + variants()) + pairs
    products: dict[str, float] = {}
    with run.share(0.55):
        for precision in HALF:
            speed = run.measure("matrix product", precision, partial(matrix_product, run, precision), "product", 2)
            if speed is not None:
                products[precision] = speed
        for number, (plan, precision) in enumerate(combinations):
            with run.share(1 / (len(combinations) - number)):
                eager(run, plan, precision, products.get(precision))
            release(device)
    with run.share(0.25):
        attentions(run)
    begun = time.monotonic()
    compiled(run, jobs, compilers, products)
    compilers.end()
    print(f"compiling and timing took {time.monotonic() - begun:.0f} s", flush=True)
    return run.exit_code()


if __name__ == "__main__":
    sys.exit(main())
