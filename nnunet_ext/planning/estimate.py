"""Parameters, memory and arithmetic of one configuration of plans, for training and for prediction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

import torch
from torch import nn

from nnunet_ext.planning import gpu
from nnunet_ext.planning.live import forward_peak
from nnunet_ext.planning.memory import built_without_data, measure_sample

# of nnU-Net's ExperimentPlanner: max_dataset_covered, UNet_min_batch_size
COVERED, MIN_BATCH = 0.05, 2

#: builds the network; called within ``torch.device("meta")``
Build = Callable[[], nn.Module]


@dataclass(frozen=True)
class Estimate:
    """One row of a table; bytes, but for what its name says otherwise.

    Attributes:
        network, plans, configuration: names; ``network`` is the trainer's where one was asked for.
        patch_size, batch_size, stages: of the plans.
        parameters: number.
        multiply_adds: of one sample, forward.
        kept_float32, kept_autocast: by autograd for the whole batch.
        parameter_bytes: weights, gradients, state of the optimizer, half-precision copies.
        training_bytes, prediction_bytes: estimated on a GPU, under autocast.
        largest_batch: that fits ``available``; None if that is not known.
        batch_of_dataset: the largest that nnU-Net plans for this dataset, whatever the memory; None if not known.
        whole_images: whether a patch covers the median image, so that no plans have a larger one.
        available: memory to fit into, or None.
        parts: of ``kept_autocast``.
    """

    network: str
    plans: str
    configuration: str
    patch_size: tuple[int, ...]
    batch_size: int
    stages: int
    parameters: int
    multiply_adds: int
    kept_float32: int
    kept_autocast: int
    parameter_bytes: int
    training_bytes: float
    prediction_bytes: float
    largest_batch: int | None
    available: float | None
    parts: dict[str, int]
    batch_of_dataset: int | None = None
    whole_images: bool = False

    @property
    def bound_by_dataset(self) -> bool:
        """Whether patch and batch are as large as nnU-Net plans them for this dataset with any memory."""
        if self.largest_batch is None or self.batch_of_dataset is None:
            return False
        return self.whole_images and self.largest_batch > self.batch_size >= self.batch_of_dataset

    @property
    def fits(self) -> bool | None:
        """Whether training fits; None if it is not known into what."""
        return None if self.available is None else self.training_bytes <= self.available

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "fits": self.fits}


def estimate(
    name: str,
    plans: Any,
    configuration: str,
    build: Build,
    input_channels: int,
    classes: int,
    optimizer: str = "SGD",
    available: float | None = None,
    cases: int | None = None,
) -> Estimate:
    """Estimate one configuration.

    Args:
        name: what the row is called.
        plans: ``PlansManager``.
        configuration: its name in the plans.
        build: makes the network as it trains.
        input_channels: image and previous stage together.
        classes: logits.
        optimizer: name in ``torch.optim``.
        available: bytes of GPU memory to fit into.
        cases: of the dataset, for training.

    Raises:
        ValueError: the network needs data to run, or refuses the configuration.
    """
    manager = plans.get_configuration(configuration)
    network = built_without_data(build)
    patch = tuple(int(edge) for edge in manager.patch_size)
    shape = (1, input_channels, *patch)
    half = measure_sample(network, shape[1:], dtype=torch.float16)
    full = measure_sample(network, shape[1:], multiply_adds=False)
    batch = int(manager.batch_size)
    image = [int(edge) for edge in manager.median_image_size_in_voxels]
    if len(patch) == 2:  # slices are predicted one by one into a volume
        image = [int(edge) for edge in plans.plans["original_median_shape_after_transp"]][:1] + image
    decoder: Any = getattr(network, "decoder", None)
    if decoder is not None:
        decoder.deep_supervision = False  # as nnU-Net predicts
    peak = forward_peak(network, shape, torch.float16)
    return Estimate(
        network=name,
        plans=plans.plans_name,
        configuration=configuration,
        patch_size=patch,
        batch_size=batch,
        stages=len(manager.pool_op_kernel_sizes),
        parameters=half.parameters,
        multiply_adds=half.multiply_adds,
        kept_float32=batch * full.activations,
        kept_autocast=batch * half.activations,
        parameter_bytes=gpu.parameter_bytes(half.parameters, optimizer),
        training_bytes=gpu.training_bytes(half, batch, optimizer),
        prediction_bytes=gpu.prediction_bytes(half.parameters, peak, input_channels, classes, image, patch),
        largest_batch=None if available is None else gpu.largest_batch(half, available, optimizer),
        available=available,
        parts={part: batch * size for part, size in half.parts.items()},
        batch_of_dataset=None if cases is None else _batch_of_dataset(cases, image, patch),
        whole_images=all(edge <= of_patch for edge, of_patch in zip(image[-len(patch) :], patch, strict=True)),
    )


def _batch_of_dataset(cases: int, image: Sequence[int], patch: Sequence[int]) -> int:
    """nnU-Net plans no batch that covers more than a twentieth of all voxels, and none of less than two samples."""
    return max(MIN_BATCH, round(cases * prod(image) * COVERED / prod(patch)))
