"""Seconds of a training epoch, measured on the GPU at hand with random data."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import torch
from torch import nn

WARM_UP_STEPS, TIMED_STEPS = 3, 5
#: of an epoch of nnU-Net
ITERATIONS, VALIDATION_ITERATIONS = 250, 50


def epoch_seconds(network: nn.Module, input_shape: Sequence[int], device: torch.device) -> float:
    """Seconds of an epoch of nnU-Net, estimated from a few iterations on random data.

    A training iteration is forward pass, backward pass and optimizer under autocast; validation is a forward pass.

    Loading and augmentation are not in it: where the CPU cannot keep up, an epoch takes longer.

    Args:
        network: built on ``device``; its weights change.
        input_shape: batch first.
        device: where to run; CUDA, or the CPU for tests.
    """
    image = torch.randn(tuple(input_shape), device=device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0, momentum=0.99)
    training = _median_seconds(lambda: _step(network, image, optimizer), device)
    with torch.no_grad():
        validation = _median_seconds(lambda: _forward(network, image), device)
    return ITERATIONS * training + VALIDATION_ITERATIONS * validation


def _forward(network: nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.autocast(image.device.type, enabled=image.device.type == "cuda"):
        outputs = network(image)
        outputs = outputs if isinstance(outputs, (list, tuple)) else [outputs]
        return torch.stack([output.float().square().mean() for output in outputs]).sum()


def _step(network: nn.Module, image: torch.Tensor, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad(set_to_none=True)
    _forward(network, image).backward()
    optimizer.step()


def _median_seconds(call: Callable[[], object], device: torch.device) -> float:
    seconds = []
    for number in range(WARM_UP_STEPS + TIMED_STEPS):
        _wait(device)
        start = time.perf_counter()
        call()
        _wait(device)
        if number >= WARM_UP_STEPS:
            seconds.append(time.perf_counter() - start)
    return sorted(seconds)[len(seconds) // 2]


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
