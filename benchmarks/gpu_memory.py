"""On a GPU: memory of real nnU-Net training steps beside what the planner estimates, and seconds of a step.

For every network, three patch sizes, with and without torch.compile: what PyTorch allocated at the peak, reserved, and
what the whole process holds, against ``planning.gpu``. From these the constants there are made. Steps are nnU-Net's:
float16 autocast with gradient scaling, its loss with deep supervision, clipping, SGD.

Run: python benchmarks/gpu_memory.py [--device cuda] [-o TABLE.csv]
With ``--device cpu --edges 32 --steps 1`` it only shows that it runs.
"""

from __future__ import annotations

import argparse
import copy
import csv
import importlib
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet, ResidualEncoderUNet
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from torch import nn
from training_step import CHANNELS, CLASSES, TOPOLOGY

from nnunet_ext.architectures import NETWORKS
from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import measure_sample

BATCH, WARM_UP = 2, 3


def networks() -> dict[str, tuple[type[nn.Module], dict[str, Any]]]:
    """Name -> class and arguments: nnU-Net's own two and those of the table."""
    residual = copy.deepcopy(TOPOLOGY) | {"n_blocks_per_stage": [1, 3, 4, 6, 6, 6], "n_conv_per_stage_decoder": [1] * 5}
    del residual["n_conv_per_stage"]
    found: dict[str, tuple[Any, dict[str, Any]]] = {
        "PlainConvUNet": (PlainConvUNet, TOPOLOGY),
        "ResidualEncoderUNet": (ResidualEncoderUNet, residual),
    }
    for row in NETWORKS:
        module, name = row.class_path.split(":")
        found[row.name] = (getattr(importlib.import_module(module), name), TOPOLOGY)
    return found


def loss_of(outputs: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor:
    """nnU-Net's loss with deep supervision, on random labels."""
    shape = (image.shape[0], 1)
    targets = [torch.randint(CLASSES, (*shape, *output.shape[2:]), device=image.device) for output in outputs]
    options = {"batch_dice": False, "smooth": 1e-5, "do_bg": False, "ddp": False}
    loss = DC_and_CE_loss(options, {}, dice_class=MemoryEfficientSoftDiceLoss)
    weights = [1 / 2**level for level in range(len(outputs))]
    return DeepSupervisionWrapper(loss, [weight / sum(weights) for weight in weights])(outputs, targets)


def steps(network: nn.Module, image: torch.Tensor, count: int) -> list[float]:
    """Seconds of ``count`` training steps after the warm-up."""
    cuda = image.is_cuda
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-4, momentum=0.99, nesterov=True)
    scaler = torch.amp.GradScaler("cuda", enabled=cuda)
    seconds = []
    for number in range(WARM_UP * cuda + count):
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(image.device.type, enabled=cuda):
            loss = loss_of(network(image), image)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(network.parameters(), 12)
        scaler.step(optimizer)
        scaler.update()
        if cuda:
            torch.cuda.synchronize()
        if number >= WARM_UP * cuda:
            seconds.append(time.perf_counter() - start)
    return seconds


def row_of(
    name: str, network_class: Any, arguments: dict[str, Any], edge: int, compiled: bool, args: Any
) -> dict[str, Any]:
    """One measurement."""
    cuda = args.device == "cuda"
    with torch.device("meta"):
        blank = network_class(**arguments)
    case = measure_sample(blank, (CHANNELS, edge, edge, edge), dtype=torch.float16, multiply_adds=False)
    network = network_class(**arguments).to(args.device)
    image = torch.randn(BATCH, CHANNELS, edge, edge, edge, device=args.device)
    if cuda:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        free_before = torch.cuda.mem_get_info()[0]
    seconds = steps(torch.compile(network) if compiled else network, image, args.steps)
    found = SimpleNamespace(allocated=0, reserved=0, used=0)
    if cuda:
        found.allocated, found.reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
        found.used = free_before - torch.cuda.mem_get_info()[0]
    estimate = gpu.training_bytes(case, BATCH)
    return {
        "network": name,
        "edge": edge,
        "compile": compiled,
        "step_seconds": round(min(seconds), 4),
        "allocated_gb": round(found.allocated / gpu.GB, 3),
        "reserved_gb": round(found.reserved / gpu.GB, 3),
        "used_more_gb": round(found.used / gpu.GB, 3),
        "estimate_gb": round(estimate / gpu.GB, 3),
        "without_overhead_gb": round((estimate - gpu.OVERHEAD) / gpu.GB, 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--edges", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("-o", dest="table", type=Path)
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True  # as nnU-Net has it
    if args.device == "cuda":
        print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, cuDNN {torch.backends.cudnn.version()}")
    rows = []
    for compiled in (False,) if args.no_compile or args.device != "cuda" else (False, True):
        for edge in args.edges:
            for name, (network_class, arguments) in networks().items():
                rows.append(row_of(name, network_class, arguments, edge, compiled, args))
                print(*(f"{key} {value}" for key, value in rows[-1].items()), flush=True)
                torch._dynamo.reset()
    if args.table:
        with args.table.open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
