"""Seconds of an epoch: from a clock that stands still unless the network runs, and from a real one."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from nnunet_ext.planning import timing

Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]
CPU = torch.device("cpu")
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.mark.parametrize("name", ["PlainConvUNet", "CFNet"])
def test_an_epoch_takes_some_time(name: str, make_network: Make) -> None:
    network, shape = make_network(name, "2d", device="cpu", patch=(16, 16))
    seconds = timing.epoch_seconds(network, shape, CPU)
    assert math.isfinite(seconds)
    assert seconds > 0


@pytest.mark.parametrize("outputs", [1, 2])
def test_steps_and_validation_are_counted_without_the_slow_first_ones(
    outputs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock:
        now = 0.0

    class Timed(nn.Module):
        """Takes 1 s with gradient and 0.25 s without; the first three runs of each kind take 100 s longer."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(1))
            self.runs = {True: 0, False: 0}

        def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
            training = torch.is_grad_enabled()
            self.runs[training] += 1
            Clock.now += (1.0 if training else 0.25) + (100 if self.runs[training] <= 3 else 0)
            result = x * self.weight
            return result if outputs == 1 else [result] * outputs

    monkeypatch.setattr(timing.time, "perf_counter", lambda: Clock.now)
    network = Timed()
    assert timing.epoch_seconds(network, (1, 4), CPU) == 250 * 1.0 + 50 * 0.25
    assert network.runs[True] == network.runs[False] > 3
    assert network.weight.grad is not None
