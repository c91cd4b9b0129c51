"""What a trainer says of memory: before the first step what it needs, and after running out of it what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.families import suffixes_of
from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import built_without_data, measure_sample
from nnunet_ext.planning.plans_file import OURS
from nnunet_ext.shown import command, joined, printable
from nnunet_ext.trainers.registry import row_of

#: nnU-Net's own targets and the sizes of common GPUs, in GB
GPU_SIZES = (8, 11, 16, 24, 40, 80)


def first_line(trainer: Any) -> str:
    """Estimated and available memory of a training, and where it will not fit, the command for plans that do.

    Args:
        trainer: initialized.
    """
    cuda = trainer.device.type == "cuda"
    half = torch.bfloat16 if trainer.recipe.bf16 else torch.float16 if cuda else None
    shape = (trainer.num_input_channels, *trainer.configuration_manager.patch_size)
    try:
        network = built_without_data(
            lambda: trainer.build_network_architecture(
                trainer.plans_manager,
                trainer.configuration_manager,
                trainer.num_input_channels,
                trainer.label_manager.num_segmentation_heads,
                trainer.enable_deep_supervision,
            )
        )
        sample = measure_sample(network, shape, dtype=half, multiply_adds=False)
    except Exception as error:  # whatever a network of a user's own does without data: a hint must not end a training
        return f"the memory of this training cannot be estimated: {printable(reason_of(error))}"
    needed = gpu.training_bytes(sample, trainer.batch_size, trainer.recipe.optimizer)
    if not cuda:
        needed -= gpu.OVERHEAD
    said = f"memory: about {needed / gpu.GB:.1f} GB estimated for batches of {trainer.batch_size}"
    available = _available(trainer.device)
    if available is None:
        return said
    said += f", {available / gpu.GB:.1f} GB available"
    return said if needed <= available else f"WARNING: {said}, so it may not fit. {advice(trainer, needed)}"


@contextmanager
def advised(trainer: Any) -> Iterator[None]:
    """Running out of memory ends with the command that helps instead of a bare trace.

    Raises:
        UserError: the GPU has no memory left.
    """
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        raise UserError(
            f"out of memory at patch {list(trainer.configuration_manager.patch_size)}, batch {trainer.batch_size}: "
            f"{reason_of(error)}",
            remedy=advice(trainer),
        ) from error


def advice(trainer: Any, needed: float | None = None) -> str:
    """The command that makes plans which fit, or what else helps.

    Args:
        trainer: initialized.
        needed: bytes of a training step, where they are known to exceed what is available.
    """
    target = smaller_target(_planned_target(trainer.plans_manager.plans), needed, _available(trainer.device))
    if trainer.fixes_patch_or_batch():
        smaller = _smaller_sizes(trainer)
        return f"This trainer fixes patch or batch: use {smaller + ', or ' if smaller else ''}a larger GPU"
    if trainer.builds_published_network:
        return f"Train on plans for a smaller GPU: -gpu_memory_target {target} of nnU-Net's own planner"
    number = trainer.plans_manager.dataset_name.removeprefix("Dataset").partition("_")[0]
    which = ("-a", _network_name(trainer))
    if trainer.recipe.network_options:
        which = ("-tr", type(trainer).__name__)
    # the folder of a dataset bears its id; plans of somebody else may name any folder
    dataset = int(number) if number.isdecimal() and len(number) < 10 else "ID"
    plan = command(["nnunet_ext", "plan", "-d", dataset, *which, "-gpu_memory_target", target])
    return f"For plans that fit: {plan}, then train with -p and the name that it prints"


def _smaller_sizes(trainer: Any) -> str:
    """The suffixes of smaller sizes of a published network, such as ``"_tiny or _small"``; empty where it has none."""
    row = row_of(type(trainer).__name__)
    if row is None:  # a trainer of the user's own
        return ""
    sizes = [each for each in suffixes_of(row.network, row.form) if each.group == "size"]
    options = {**trainer.published_recipe.network_options, **trainer.recipe.network_options}
    present = [number for number, each in enumerate(sizes) if each.options.items() <= options.items()]
    names = [f"_{each.name}" for each in sizes[: present[0] if present else 0]]
    return joined(names, "or") if names else ""


def _network_name(trainer: Any) -> str:
    """As listed, for a trainer of ours; a trainer of the user's own is planned for by its network's class."""
    row = row_of(type(trainer).__name__)
    return trainer.network_class.__name__ if row is None else row.network


def _planned_target(plans: dict[str, Any]) -> float | None:
    """The target in GB that our planner noted; None where plans of somebody else hold something else there."""
    made = plans.get(OURS)
    target = made.get("gpu_memory_target_in_gb") if isinstance(made, dict) else None
    return float(target) if isinstance(target, (int, float)) and 0 < target < 1e6 else None


def smaller_target(present: float | None, needed: float | None, available: float | None) -> int:
    """GB to plan for: the largest common size that is free, below that of plans which have turned out too large.

    Args:
        present: target of the present plans, where they tell.
        needed: bytes that they need.
        available: bytes that are free; None: not known.
    """
    most = float(GPU_SIZES[0]) if available is None else available / gpu.GB
    if present is not None:
        scale = 0.8 if needed is None or available is None else min(0.95, available / needed)
        most = min(most, present * scale)
    fitting = [size for size in GPU_SIZES if size <= most]
    return fitting[-1] if fitting else max(1, int(most))


def _available(device: torch.device) -> float | None:
    """Bytes of a GPU that other processes leave; of main memory on a CPU where Linux tells."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return float(min(total, free + torch.cuda.memory_reserved(device) + gpu.CONTEXT))
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return float(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return None
