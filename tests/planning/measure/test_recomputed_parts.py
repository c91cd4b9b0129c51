"""What a part that is run again in the backward pass counts as: its inputs, and what it needs at its turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from nnunet_ext.architectures.blocks.recompute import recomputed
from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.memory import BACKWARD_COPIES, measure

Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]
SHAPE = (1, 4, 32, 32)
MAP = 4 * 32 * 32 * 4
pytestmark = pytest.mark.usefixtures("single_thread")


class Chain(nn.Module):
    """``first`` layers as they are, ``middle`` layers that are recomputed together, ``last`` layers as they are."""

    def __init__(self, first: int, middle: int, last: int) -> None:
        super().__init__()
        self.first, self.middle, self.last = (
            nn.Sequential(*(nn.Sigmoid() for _ in range(count))) for count in (first, middle, last)
        )
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.last(recomputed(self.middle, self.first(x * self.weight)))
        return y


def measured(*counts: int) -> Any:
    with torch.device("meta"):
        return measure(Chain(*counts), SHAPE)


def test_the_inputs_of_a_recomputed_part_count_as_kept_and_nothing_inside() -> None:
    # every sigmoid keeps its result; the result of the part's last one is the input of the next only by value
    assert measured(1, 5, 2).activations == 3 * MAP
    assert measured(1, 0, 2).activations == 3 * MAP


@pytest.mark.parametrize(("first", "middle", "last"), [(1, 5, 2), (1, 5, 9), (3, 4, 0), (1, 1, 1)])
def test_the_backward_pass_needs_the_most_of_its_start_and_of_each_recomputed_part(
    first: int, middle: int, last: int
) -> None:
    found = measured(first, middle, last)
    at_the_start = first + last + BACKWARD_COPIES
    at_the_part = first + middle + BACKWARD_COPIES + 2  # and the gradients of its input and of its output
    assert found.activations + found.transient == max(at_the_start, at_the_part) * MAP


def test_a_frozen_part_keeps_nothing_and_a_part_within_a_part_counts_once() -> None:
    class Frozen(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(()))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            frozen = recomputed(lambda y: y.sigmoid().sigmoid(), x + 1)
            y = (x * self.weight).sigmoid()
            y = recomputed(lambda y: recomputed(lambda z: z.sigmoid().sigmoid(), y.sigmoid()), y)
            return y.sigmoid() + frozen

    with torch.device("meta"):
        found = measure(Frozen(), SHAPE)
    assert found.activations == 2 * MAP


def peak_of_backward(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Most bytes allocated at once during forward and backward pass, without gradients of parameters."""
    image = torch.randn(shape)

    def step() -> None:
        outputs = network(image)
        outputs = outputs if isinstance(outputs, list) else [outputs]
        torch.stack([output.square().mean() for output in outputs]).sum().backward()

    step()  # gradients are there from now on, and are added to
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, record_shapes=False) as run:
        step()
    now = peak = 0
    for event in run.profiler.kineto_results.events():  # type: ignore[union-attr]
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak


def test_the_turn_of_a_long_recomputed_part_is_the_peak_of_a_real_backward_pass() -> None:
    shape = (1, 4, 256, 256)
    with torch.device("meta"):
        found = measure(Chain(1, 12, 2), shape)
    real = peak_of_backward(Chain(1, 12, 2), shape)
    # the caller holds the outputs until the end
    assert real <= found.activations + found.transient + found.outputs <= 1.15 * real
    at_the_start = 3 + BACKWARD_COPIES
    assert real > 2 * at_the_start * 4 * 256 * 256 * 4


# widths and patches as nnU-Net plans them: on tiny ones the CPU's own copies of weights weigh more than activations
@pytest.mark.parametrize(("topology", "batch"), [("pictures", 2), pytest.param("brats", 1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet", *NETWORKS])
def test_the_estimate_of_the_backward_pass_is_the_peak_of_a_real_one(
    name: str, topology: str, batch: int, make_network: Make
) -> None:
    network, (_, *sample) = make_network(name, topology, device="cpu")
    shape = (batch, *sample)
    found = measure(make_network(name, topology)[0], shape, multiply_adds=False)
    estimate = found.activations + found.transient + found.outputs
    assert estimate == pytest.approx(peak_of_backward(network, shape), rel=0.05)
