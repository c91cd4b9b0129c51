"""The peak of a prediction, against the allocations that PyTorch's profiler sees on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.live import forward_peak

Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]
pytestmark = pytest.mark.usefixtures("single_thread")


def peak_on_cpu(network: nn.Module, shape: Sequence[int]) -> int:
    image = torch.randn(shape)
    with torch.no_grad():
        network(image)
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
            network(image)
    recorded = run.profiler
    assert recorded is not None
    now = peak = 0
    for event in sorted(recorded.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            now += event.nbytes()
            peak = max(peak, now)
    return peak + image.nbytes


@pytest.mark.parametrize(
    ("topology", "patch"), [("512", (256, 256)), pytest.param("brats", (64, 64, 64), marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", ["PlainConvUNet", "CFNet"])
def test_the_peak_is_the_profilers(name: str, topology: str, patch: tuple[int, ...], make_network: Make) -> None:
    """Widths and maps as in earnest: with less, scratch memory of the CPU's kernels is larger than the maps."""
    real, shape = make_network(name, topology, device="cpu", patch=patch, deep_supervision=False)
    network, _ = make_network(name, topology, deep_supervision=False)
    assert forward_peak(network, shape) == pytest.approx(peak_on_cpu(real, shape), rel=0.01)


MAP = 4 * 8 * 8


class Line(nn.Module):
    def __init__(self, line: Callable[[Any, torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.line = line
        self.convolution = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(self, x)


def chain(network: Line, x: torch.Tensor) -> torch.Tensor:
    for _ in range(5):
        x = network.convolution(x)
    return x


def skip(network: Line, x: torch.Tensor) -> torch.Tensor:
    kept = [network.convolution(x) for _ in range(3)]
    return kept[0] + kept[1] + kept[2]


LINES: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], int]] = {
    "a chain": (chain, 3),  # the caller's input, and input and output of a convolution
    "skips": (skip, 6),  # input, three skips, two sums
    "views and work in place": (lambda network, x: network.convolution(x).flatten().relu_().view(8, 8), 2),
    "halves": (lambda network, x: torch.cat(network.convolution(x).chunk(2, dim=2), dim=3), 3),
}


@pytest.mark.parametrize("case", LINES)
def test_maps_live_until_nobody_holds_them(case: str) -> None:
    line, maps = LINES[case]
    with torch.device("meta"):
        network = Line(line)
    assert forward_peak(network, (1, 1, 8, 8)) == maps * MAP


def test_half_precision_counts_half_and_copies_of_weights(make_network: Make) -> None:
    with torch.device("meta"):
        network = Line(chain)
    weights = sum(parameter.numel() for parameter in network.parameters()) * 2
    # input in float32, and in each step input and output in half precision
    assert forward_peak(network, (1, 1, 8, 8), torch.float16) == MAP + MAP // 2 * 2 + weights
    large, shape = make_network("PlainConvUNet", "3d", deep_supervision=False)
    assert forward_peak(large, shape, torch.float16) < 0.7 * forward_peak(large, shape)


def test_a_prediction_needs_less_than_training_keeps(make_network: Make) -> None:
    from nnunet_ext.planning.memory import measure

    for row in {row.class_path: row for row in NETWORKS.values()}.values():  # one network of every class
        network, shape = make_network(row.name, "3d")
        assert forward_peak(network, shape) < measure(network, shape).activations
