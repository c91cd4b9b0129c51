"""What a trainer says of memory: before the first step what it needs, and after running out of it what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import measure_sample

#: nnU-Net's own targets and the sizes of common GPUs, in GB
SIZES = (8, 11, 16, 24, 40, 80)


def first_line(trainer: Any) -> str:
    """Estimated and available memory of a training, and where it will not fit, the command for plans that do.

    Args:
        trainer: initialized.
    """
    with torch.device("meta"):
        network: nn.Module = trainer.build_network_architecture(
            trainer.plans_manager,
            trainer.configuration_manager,
            trainer.num_input_channels,
            trainer.label_manager.num_segmentation_heads,
            trainer.enable_deep_supervision,
        )
    cuda = trainer.device.type == "cuda"
    half = torch.bfloat16 if trainer.recipe.bf16 else torch.float16 if cuda else None
    shape = (trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    try:
        case = measure_sample(network, shape, dtype=half, multiply_adds=False)
    except ValueError as error:
        return f"the memory of this training cannot be estimated: {error}"
    needed = gpu.training_bytes(case, trainer.batch_size, trainer.recipe.optimizer)
    if not cuda:
        needed -= gpu.OVERHEAD
    said = f"memory: about {needed / gpu.GB:.1f} GB estimated for batches of {trainer.batch_size}"
    available = _available(trainer.device)
    if available is None:
        return said
    said += f", {available / gpu.GB:.1f} GB available"
    return said if needed <= available else f"WARNING: {said}. {advice(trainer, available)}"


def advice(trainer: Any, available: float | None = None) -> str:
    """The command that makes plans which fit."""
    size = _available(trainer.device) if available is None else available
    fitting = [target for target in SIZES if size is not None and target * gpu.GB <= size]
    target = fitting[-1] if fitting else SIZES[0] if size is None else max(1, int(size // gpu.GB))
    number = trainer.plans_manager.dataset_name[len("Dataset") :].partition("_")[0].lstrip("0")
    network = trainer.network_class.__name__
    return (
        f"For plans that fit: nnunet_ext plan -d {number} -a {network} -gpu_memory_target {target}, "
        f"then train with -p and the name that it prints"
    )


def _available(device: torch.device) -> float | None:
    """Free bytes of a GPU, what this process holds already included; of main memory on a CPU where Linux tells."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return float(free + torch.cuda.memory_reserved(device))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None
