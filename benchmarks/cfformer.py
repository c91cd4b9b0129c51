"""CFFormer beside other networks at 224 x 224, and its windowed attention beside timm's, as ratios.

First tables: frames per second of a forward pass in evaluation mode, in batches of 1 and 16, and memory: kept by
autograd for one sample in training (``nnunet_ext.planning.memory``), and alive at once in prediction
(``nnunet_ext.planning.live``; on CUDA, measured beside it). Four image channels, two classes; plans of six stages as
nnU-Net makes them for that size. The published form is that of the published size, with Swin V2 tiny.

Second table: one block of Swin V2 of ours and of timm, equal weights and shapes, forward and backward: windows of 7, 8
and 16, with and without a shift. A ratio of 1 or less is the goal for windows of 64 tokens and more.

All take turns within one process, so that a noisy machine hits all; ratios are medians of the turns' own ratios.

Run: python benchmarks/cfformer.py [--repeats 2] [--batches 1 16] [--threads 1]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from torch import nn

from nnunet_ext.architectures.blocks.swin_v2_block import SwinV2Block
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.planning.live import forward_peak
from nnunet_ext.planning.memory import measure_sample

EDGE, CHANNELS, CLASSES, STAGES = 224, 4, 2, 6
GOAL, GOAL_FROM_TOKENS = 1.0, 64
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MIB = 2**20
PLAN: dict[str, Any] = {
    "input_channels": CHANNELS,
    "num_classes": CLASSES,
    "n_stages": STAGES,
    "features_per_stage": [32, 64, 128, 256, 512, 512],
    "conv_op": nn.Conv2d,
    "kernel_sizes": [[3, 3]] * STAGES,
    "strides": [[1, 1]] + [[2, 2]] * (STAGES - 1),
    "n_conv_per_stage_decoder": [2] * (STAGES - 1),
    "conv_bias": True,
    "norm_op": nn.InstanceNorm2d,
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "nonlin": nn.LeakyReLU,
    "nonlin_kwargs": {"inplace": True},
}
PLAIN = {**PLAN, "n_conv_per_stage": [2] * STAGES}
RESIDUAL = {**PLAN, "n_blocks_per_stage": [1, 3, 4, 6, 6, 6], "n_conv_per_stage_decoder": [1] * (STAGES - 1)}
NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "PlainConvUNet": lambda: PlainConvUNet(**PLAIN),
    "ResidualEncoderUNet": lambda: ResidualEncoderUNet(**RESIDUAL),
    "CFNet": lambda: CFNet(**PLAIN),
    "CFFormer small": lambda: CFFormer(**PLAIN),
    "CFFormer base": lambda: CFFormer(**PLAIN, preset="base"),
    "CFFormer published": lambda: CFFormer.reference(CHANNELS, CLASSES),
}
# grid, channels, heads, window
BLOCKS = [(56, 128, 4, 7), (64, 128, 4, 8), (64, 96, 3, 16)]


def seconds_of(call: Callable[[], Any]) -> float:
    """CPU seconds where the CPU computes, so that other jobs count less; else seconds until the device is done."""
    if DEVICE.type == "cpu":
        start = time.process_time()
        call()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def taking_turns(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, after one turn to warm up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats + 1):
        for name, call in calls.items():
            elapsed = seconds_of(call)
            if turn:
                seconds[name].append(elapsed)
    return seconds


def ratio(values: list[float], base: list[float]) -> float:
    return statistics.median(a / b for a, b in zip(values, base, strict=True))


def memory_table() -> None:
    heads = f"{'kept MiB':>9} {'x plain':>8} {'alive MiB':>10} {'x plain':>8} {'G mult-adds':>11}"
    print(f"{'':20} {'parameters':>12} {heads}")
    plain: tuple[int, int] | None = None
    for name, make in NETWORKS.items():
        with torch.device("meta"):
            network = make()
        case = measure_sample(network, (CHANNELS, EDGE, EDGE))
        kept, alive = case.activations, forward_peak(network.eval(), (1, CHANNELS, EDGE, EDGE))
        plain = plain or (kept, alive)
        print(
            f"{name:20} {case.parameters:12,} {kept / MIB:9.0f} {kept / plain[0]:8.2f} {alive / MIB:10.1f} "
            f"{alive / plain[1]:8.2f} {case.multiply_adds / 1e9:11.1f}"
        )


def speed_table(batch: int, repeats: int) -> None:
    networks = {name: make().to(DEVICE).eval() for name, make in NETWORKS.items()}
    image = torch.randn(batch, CHANNELS, EDGE, EDGE, device=DEVICE)

    def forward(network: nn.Module) -> None:
        with torch.no_grad():
            network(image)

    calls = {name: lambda network=network: forward(network) for name, network in networks.items()}
    seconds = taking_turns(calls, repeats)
    print(
        f"\nbatch {batch:<14} {'frames per s':>12} {'time x plain':>13}"
        + ("   peak MiB" if DEVICE.type == "cuda" else "")
    )
    for name, network in networks.items():
        line = f"{name:20} {batch / statistics.median(seconds[name]):12.2f}"
        line += f" {ratio(seconds[name], seconds['PlainConvUNet']):13.2f}"
        if DEVICE.type == "cuda":
            before = torch.cuda.memory_allocated()
            torch.cuda.reset_peak_memory_stats()
            forward(network)
            line += f" {(torch.cuda.max_memory_allocated() - before) / MIB:10.1f}"
        print(line)


def kept_bytes(call: Callable[[], torch.Tensor], ignored: nn.Module) -> int:
    """Of distinct storages that autograd saves, but for parameters and what else the module holds."""
    own = {x.untyped_storage().data_ptr() for x in (*ignored.parameters(), *ignored.buffers())}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = call()
    total = sum(storage.nbytes() for storage in kept.values())
    del output
    return total


def block_table(repeats: int) -> None:
    try:
        from timm.models.swin_transformer_v2 import SwinTransformerV2Block
    except ImportError:
        print("\ntimm is not installed: no comparison of blocks")
        return
    print(
        f"\nour block over timm's    {'forward':>8} {'step':>6} {'kept':>6}   timm's forward ms, kept MiB"
        f"   (goal <= {GOAL} from {GOAL_FROM_TOKENS} tokens on)"
    )
    for edge, channels, heads, window in BLOCKS:
        for shift in (0, window // 2):
            theirs = SwinTransformerV2Block(channels, (edge, edge), heads, window_size=window, shift_size=shift).to(
                DEVICE
            )
            ours = SwinV2Block(channels, heads, 2, shifted=bool(shift)).to(DEVICE)
            ours.load_state_dict({key: value for key, value in theirs.state_dict().items() if key in ours.state_dict()})
            image = torch.randn(1, edge, edge, channels, device=DEVICE, requires_grad=True)
            target = (window, window)
            passes = {"timm": lambda b=theirs, x=image: b(x), "ours": lambda b=ours, x=image, w=target: b(x, w)}
            torch.testing.assert_close(passes["ours"](), passes["timm"](), rtol=1e-3, atol=1e-4)

            def forward(name: str, passes: dict[str, Callable[[], torch.Tensor]] = passes) -> None:
                with torch.no_grad():
                    passes[name]()

            fast = taking_turns({name: lambda name=name: forward(name) for name in passes}, 3 * repeats)
            step = taking_turns(
                {name: lambda call=call: call().sum().backward() for name, call in passes.items()}, 2 * repeats
            )
            kept = {"timm": kept_bytes(passes["timm"], theirs), "ours": kept_bytes(passes["ours"], ours)}
            label = f"{edge} x {edge}, {channels}, window {window}{', shifted' if shift else ''}"
            print(
                f"{label:33}"[:33]
                + f"{ratio(fast['ours'], fast['timm']):6.2f} {ratio(step['ours'], step['timm']):6.2f}"
                + f" {kept['ours'] / kept['timm']:6.2f}   {1e3 * statistics.median(fast['timm']):8.1f}"
                + f" {kept['timm'] / MIB:9.1f}"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--repeats",
        type=int,
        default=2,
        help="measured passes of each network, on a CPU half of it in larger batches (default 2)",
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 16], help="sizes of batches (default 1 16)")
    parser.add_argument("--threads", type=int, default=1, help="of the CPU (default 1)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(
        f"{DEVICE.type}, {options.threads} thread(s), torch {torch.__version__}, {EDGE} x {EDGE}, {CHANNELS} channels\n"
    )
    memory_table()
    for batch in options.batches:
        speed_table(batch, options.repeats if batch == 1 or DEVICE.type != "cpu" else max(1, options.repeats // 2))
    block_table(options.repeats)


if __name__ == "__main__":
    main()
