"""What attention costs: blocks beside a convolution stage and beside plain loops, networks beside nnU-Net's U-Net.

CPU seconds of this process, one thread, float32. The sides of a ratio take turns within one process; a ratio is the
median of the turns' own ratios, with their quartiles in brackets. Four tables:

- blocks: each block of the table of attention blocks over two 3x3x3 convolutions with instance norm and leaky ReLU, of
  the same width and on the same map. ``kept``: what autograd keeps under float16 autocast, the input among it, in maps
  of float16 (counted without data).
- loops: slice attention and its series against plain loops that give the same (``attention_loops.py``), and against
  loops over channels that write into the map, as the authors' code does. Ratios are the loops' times over ours.
- steps: forward pass, nnU-Net's loss with deep supervision, backward pass and step of SGD, over those of PlainConvUNet;
  ``backbone``: V-Nets over the V-Net without attention; ``all kept``: over the same network without recomputation.
- memory: of one sample under float16 autocast, without data. ``peak``: kept, and what the backward pass adds; ``GPU``:
  the planner's estimate for batches of two.

Run: python benchmarks/attention.py [--tables blocks loops steps memory] [--turns 7] [--networks PAMUNet VNet] [--quick]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from attention_loops import looped, written_back
from attention_subjects import (
    MAPS,
    MEMORY_PLANS,
    PLAIN,
    QUICK_MAPS,
    QUICK_MEMORY_PLANS,
    QUICK_PLAN,
    STEP_PLAN,
    Maps,
    Plan,
    block_cases,
    gates_of,
    network_names,
    networks,
    step_of,
)
from in_turns import Ratio, in_turns, keep_freed_memory
from torch import nn

from nnunet_ext.architectures.blocks.attention import attention_block
from nnunet_ext.planning.gpu import training_bytes
from nnunet_ext.planning.memory import Memory, built_without_data, measure, measure_sample

TABLES = ("blocks", "loops", "steps", "memory")
GOAL_LOOPS, GOAL_STEP, GOAL_MEMORY = 5.0, 1.10, 1.2
#: the network that the goals of step and memory are for
SUBJECT = "PAMUNet"
#: nnU-Net's network beside itself, which shows the noise; the subject's blocks alone, without a network
AGAIN, GATES = "itself", "blocks alone"
GPU_BATCH = 2
QUICK_NETWORKS = ["PAMUNet", "PAMVNet", "AnatomyNet"]
MIB = 2**20


def verdict(value: float, goal: float, at_least: bool = False) -> str:
    met = value >= goal if at_least else value <= goal
    return f"goal {'>=' if at_least else '<='} {goal:g}: {'met' if met else 'MISSED'}"


def passes(call: Callable[..., torch.Tensor], *inputs: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """A forward pass without gradient, and a forward and backward pass whose gradient reaches the inputs."""

    def forward() -> None:
        with torch.no_grad():
            call(*inputs)

    with torch.no_grad():
        probe = torch.randn_like(call(*inputs))
    followed = [x.clone().requires_grad_() for x in inputs]

    def both() -> None:
        call(*followed).backward(probe)
        for x in followed:
            x.grad = None

    return {"forward": forward, "forward+backward": both}


def all_of(calls: list[Callable[[], Any]]) -> None:
    for call in calls:
        call()


class Halved(nn.Module):
    """A block whose inputs come in float16, as under autocast behind a convolution."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.block(*(x.half() for x in inputs))
        return result


def kept_maps(make: Callable[[], nn.Module], *shapes: tuple[int, ...]) -> float:
    block = built_without_data(lambda: Halved(make()))
    kept = measure(block, *shapes, dtype=torch.float16, multiply_adds=False).activations
    return kept / (2 * torch.Size(shapes[0]).numel())


def blocks_table(maps: Mapping[int, Maps], turns: int) -> None:
    for dimension in (3, 2):
        fine, deep = maps[dimension].fine, maps[dimension].deep
        shown = [f"{channels} channels at {'x'.join(map(str, size))}" for channels, size in (fine, deep)]
        print(f"\nblocks, {dimension}D; fine: {shown[0]}; deep: {shown[1]}; x a convolution stage; {turns} turns")
        print(f"{'':24}{'map':6}{'forward':>22}{'forward+backward':>22}{'kept':>7}{'stage':>7}")
        for case in block_cases(dimension, maps[dimension]):
            block, stage = case.make(), case.make_stage()
            inputs = [torch.randn(shape) for shape in case.shapes]
            times = {}
            for kind, own in passes(block, *inputs).items():
                times[kind] = in_turns({"own": own, "stage": passes(stage, inputs[0])[kind]}, turns)
            ratios = "".join(f"{Ratio.of(found['own'], found['stage'])!s:>22}" for found in times.values())
            kept = kept_maps(case.make, *case.shapes), kept_maps(case.make_stage, case.shapes[0])
            print(f"{case.name:24}{case.place:6}{ratios}{kept[0]:7.2f}{kept[1]:7.2f}", flush=True)


def loops_table(maps: Mapping[int, Maps], turns: int) -> None:
    channels, size = maps[3].fine
    place = {"channels": channels, "depth": size[0]}
    print(f"\nloops: time over ours, {channels} channels at {'x'.join(map(str, size))}; {turns} turns")
    print(f"{'':8}{'batch':>6}{'pass':>18}{'over both':>22}{'as the authors':>22}{'ours, ms':>10}")
    for name in ("slice", "csa", "sca", "pam"):
        block = attention_block(name, place)
        for batch in (1, 2):
            x = torch.randn(batch, channels, *size)
            sides: dict[str, Callable[..., torch.Tensor]] = {
                "own": block,
                "both": partial(looped, block),
                "authors": partial(written_back, block),
            }
            with torch.no_grad():
                for form in ("both", "authors"):
                    torch.testing.assert_close(sides[form](x), block(x), rtol=1e-4, atol=1e-5)
            made = {side: passes(call, x) for side, call in sides.items()}
            for kind in ("forward", "forward+backward"):
                times = in_turns({side: calls[kind] for side, calls in made.items()}, turns)
                both, authors = (Ratio.of(times[side], times["own"]) for side in ("both", "authors"))
                ours = 1000 * statistics.median(times["own"])
                goal = verdict(both.median, GOAL_LOOPS, at_least=True)
                print(f"{name:8}{batch:6}{kind:>18}{both!s:>22}{authors!s:>22}{ours:10.1f}  {goal}", flush=True)


def chosen(names: list[str]) -> list[str]:
    return [name for name in network_names() if not names or name in names]


def steps_table(plan: Plan, batch: int, turns: int, names: list[str]) -> None:
    shown = "x".join(map(str, (batch, plan.channels, *plan.patch)))
    print(f"\nsteps at {shown}, features {'-'.join(map(str, plan.features))}; x {PLAIN}; {turns} turns")
    print(f"{'':20}{'recompute':>10}{'step':>22}{'backbone':>22}{'all kept':>22}{'ms':>8}")
    makers = networks(plan)
    makers[AGAIN, False] = makers[PLAIN, False]
    for name in chosen(names):
        is_vnet = name.endswith("VNet") and name != "VNet"
        sides = [(PLAIN, False), *((each, again) for each in ["VNet"] * is_vnet + [name] for again in (False, True))]
        if name == SUBJECT:
            sides += [(AGAIN, False), (GATES, False)]
        steps = {key: step_of(makers[key]().train(), plan, batch) for key in sides if key[0] != GATES}
        if name == SUBJECT:
            found = gates_of(makers[name, False](), torch.randn(batch, plan.channels, *plan.patch))
            steps[GATES, False] = partial(
                all_of, [passes(gate, torch.randn(shape))["forward+backward"] for gate, shape in found]
            )
        times = in_turns(steps, turns)
        for extra in (AGAIN, GATES) if name == SUBJECT else ():
            print(f"{extra:30}{Ratio.of(times[extra, False], times[PLAIN, False])!s:>22}")
        for recompute in (False, True):
            own = times[name, recompute]
            step = Ratio.of(own, times[PLAIN, False])
            backbone = f"{Ratio.of(own, times['VNet', recompute])}" if is_vnet else ""
            kept = f"{Ratio.of(own, times[name, False])}" if recompute else ""
            goal = f"  {verdict(step.median, GOAL_STEP)}" if name == SUBJECT else ""
            print(
                f"{name:20}{'yes' if recompute else 'no':>10}{step!s:>22}{backbone:>22}{kept:>22}"
                f"{1000 * statistics.median(own):8.0f}{goal}",
                flush=True,
            )


def memory_table(plans: Mapping[int, Plan], names: list[str]) -> None:
    for dimension, plan in plans.items():
        size = "x".join(map(str, plan.patch))
        print(f"\nmemory, {dimension}D at {size}; x {PLAIN}")
        print(f"{'':22}{'recompute':>10}{'kept MiB':>10}{'kept':>8}{'peak':>8}{'GPU':>8}{'GPU, GB':>10}")
        plain: Memory | None = None
        for (name, recompute), make in networks(plan).items():
            if name not in (PLAIN, *chosen(names)):
                continue
            own = measure_sample(
                built_without_data(make), (plan.channels, *plan.patch), torch.float16, multiply_adds=False
            )
            plain = plain or own
            kept = own.activations / plain.activations
            peak = (own.activations + own.transient) / (plain.activations + plain.transient)
            gpu = training_bytes(own, GPU_BATCH)
            ratio = gpu / training_bytes(plain, GPU_BATCH)
            goal = f"  {verdict(peak, GOAL_MEMORY)}" if name == SUBJECT else ""
            print(
                f"{name:22}{'yes' if recompute else 'no':>10}{own.activations / MIB:10.0f}{kept:8.2f}{peak:8.2f}"
                f"{ratio:8.2f}{gpu / 1e9:10.2f}{goal}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=TABLES)
    parser.add_argument("--turns", type=int, default=7, help="measurements of each, after one to warm up")
    parser.add_argument("--batch", type=int, default=1, help="samples of a training step")
    parser.add_argument("--networks", nargs="+", default=[], help="of steps and memory; all of the family unless given")
    parser.add_argument("--quick", action="store_true", help="does it run? tiny maps, one turn, few networks")
    options = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    quick = options.quick
    turns = 1 if quick else options.turns
    names = options.networks or (QUICK_NETWORKS if quick else [])
    if quick:
        print("tiny maps and networks: that it runs is all that this says")
    tables: dict[str, Callable[[], None]] = {
        "blocks": partial(blocks_table, QUICK_MAPS if quick else MAPS, turns),
        "loops": partial(loops_table, QUICK_MAPS if quick else MAPS, turns),
        "steps": partial(steps_table, QUICK_PLAN if quick else STEP_PLAN, options.batch, turns, names),
        "memory": partial(memory_table, QUICK_MEMORY_PLANS if quick else MEMORY_PLANS, names),
    }
    for name in options.tables:
        tables[name]()


if __name__ == "__main__":
    main()
