"""Memory and time of a training step of every network of the tables, beside nnU-Net's two, as ratios.

Six stages as nnU-Net plans them, 2D and 3D, four image channels, deep supervision on. Networks that recompute in the
backward pass stand there with it and without. Columns:

- kept: what autograd keeps of one sample under float16 autocast, at the full patch (``nnunet_ext.planning.memory``,
  without data); peak: the same and what the backward pass adds; alive: the most that prediction holds at once.
- forward, step: CPU seconds of a forward pass without gradient and of forward and backward pass in float32, on a
  smaller patch, one thread. The networks take turns within one process, so that a noisy machine hits all; ratios are
  medians of the turns' own ratios. ``without``: the step over that of the same network without recomputation.

With ``--compiled`` the networks are compiled by ``torch.compile`` first (inductor), and kept is what the compiled
network really keeps there, in float32.

Run: python benchmarks/training_step.py [--dimensions 2 3] [--turns 5] [--compiled]
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from in_turns import seconds_of
from torch import nn

from nnunet_ext.families import NETWORKS, load, suffixes_of
from nnunet_ext.families.rows import SELF_CONFIGURING
from nnunet_ext.planning.live import forward_peak
from nnunet_ext.planning.memory import built_without_data, measure_sample

CHANNELS, CLASSES, STAGES = 4, 4, 6
FEATURES = {2: [32, 64, 128, 256, 512, 512], 3: [32, 64, 128, 256, 320, 320]}
PATCHES = {2: (224, 224), 3: (128, 128, 128)}
TIMED_PATCHES = {2: (224, 224), 3: (64, 64, 64)}
PLAIN = "PlainConvUNet"
MIB = 2**20


def build(cls: type[nn.Module], dimension: int, **options: Any) -> nn.Module:
    residual = cls is ResidualEncoderUNet
    stages: dict[str, Any] = {"n_blocks_per_stage": [1, 3, 4, 6, 6, 6]} if residual else {"n_conv_per_stage": [2] * 6}
    network: nn.Module = cls(
        input_channels=CHANNELS,
        num_classes=CLASSES,
        n_stages=STAGES,
        features_per_stage=FEATURES[dimension],
        conv_op=(nn.Conv2d, nn.Conv3d)[dimension - 2],
        kernel_sizes=[[3] * dimension] * STAGES,
        strides=[[1] * dimension] + [[2] * dimension] * (STAGES - 1),
        n_conv_per_stage_decoder=[1 if residual else 2] * (STAGES - 1),
        conv_bias=True,
        norm_op=(nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **stages,
        **options,
    )
    return network


def networks(dimension: int) -> dict[str, Callable[[], nn.Module]]:
    """nnU-Net's two; then all of the tables in each of their sizes, without recomputation and with it."""
    found: dict[str, Callable[[], nn.Module]] = {
        PLAIN: lambda: build(PlainConvUNet, dimension),
        "ResidualEncoderUNet": lambda: build(ResidualEncoderUNet, dimension),
    }
    for row in NETWORKS.values():
        cls = load(row.class_path)
        sizes = [s.options for s in suffixes_of(row.name, SELF_CONFIGURING) if s.group == "size"] or [{}]
        for size in sizes:
            name = " ".join([row.name, *map(str, size.values())])
            for options in [{"recompute": False}, {}] if "recompute" in row.options else [{}]:
                make = partial(build, cls, dimension, **row.built_with, **size, **options)
                try:
                    built_without_data(make)
                except ValueError:  # a size that this dimension has not
                    continue
                found[name + (", all kept" if options else "")] = make
    return found


def kept_bytes(network: nn.Module, image: torch.Tensor) -> int:
    """Bytes of the distinct storages that autograd saves, parameters not counted."""
    parameters = {parameter.untyped_storage().data_ptr() for parameter in network.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    total = sum(storage.nbytes() for storage in kept.values())
    del outputs
    return total


def step(network: nn.Module, image: torch.Tensor) -> None:
    network.zero_grad(set_to_none=True)
    torch.stack([output.square().mean() for output in network(image)]).sum().backward()


def predict(network: nn.Module, image: torch.Tensor) -> None:
    with torch.no_grad():
        network(image)


def timed(made: dict[str, nn.Module], image: torch.Tensor, turns: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of forward pass and step of each network, in turn, after one turn to warm up."""
    found: dict[str, dict[str, list[float]]] = {kind: {name: [] for name in made} for kind in ("forward", "step")}
    for turn in range(turns + 1):
        for name, network in made.items():
            for kind, call in (("forward", predict), ("step", step)):
                seconds = seconds_of(lambda call=call, network=network: call(network, image))  # type: ignore[misc]
                if turn:
                    found[kind][name].append(seconds)
    return found


def ratio(values: list[float], base: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def table(dimension: int, turns: int, compiled: bool) -> None:
    patch, small = PATCHES[dimension], TIMED_PATCHES[dimension]
    image = torch.randn(1, CHANNELS, *small)
    makers = networks(dimension)
    made = {name: make() for name, make in makers.items()}
    if compiled:
        made = {name: torch.compile(network) for name, network in made.items()}  # type: ignore[misc]
        for network in made.values():
            step(network, image)
    times = timed(made, image, turns)
    print(
        f"\n{dimension}D, memory at {'x'.join(map(str, small if compiled else patch))}, time at "
        f"{'x'.join(map(str, small))}{', compiled' if compiled else ''}; {turns} turns; all but MiB: x {PLAIN}"
    )
    heads = ("kept MiB", "kept", "peak", "alive", "forward", "step", "without")
    print(f"{'':28}" + "".join(f"{head:>9}" for head in heads))
    base: tuple[float, float, float] | None = None
    for name, make in makers.items():
        blank = built_without_data(make)
        case = measure_sample(blank, (CHANNELS, *patch), dtype=torch.float16, multiply_adds=False)
        kept = kept_bytes(made[name], image) if compiled else case.activations
        alive = forward_peak(blank.eval(), (1, CHANNELS, *patch), torch.float16)
        figures = (kept, case.activations + case.transient, alive)
        base = base or figures
        memory = [f"{own / plain:9.2f}" for own, plain in zip(figures, base, strict=True)]
        if compiled:
            memory[1:] = [f"{'-':>9}"] * 2
        times_of = [f"{ratio(times[kind][name], times[kind][PLAIN]):9.2f}" for kind in ("forward", "step")]
        other = times["step"].get(f"{name}, all kept")
        without = "" if other is None else f"{ratio(times['step'][name], other):9.2f}"
        print(f"{name:28}{kept / MIB:9.0f}{''.join(memory)}{''.join(times_of)}{without}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dimensions", type=int, nargs="+", choices=(2, 3), default=[2, 3])
    parser.add_argument("--turns", type=int, default=5, help="steps of each network, after one to warm up")
    parser.add_argument("--compiled", action="store_true", help="compiled networks; compiling each takes minutes")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    for dimension in options.dimensions:
        table(dimension, options.turns, options.compiled)


if __name__ == "__main__":
    main()
