"""What a measurement says is what autograd keeps: against hooks and allocations of real passes on the CPU."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.memory import TOP, Memory, measure, measure_sample

MIB, GIB = 2**20, 2**30
Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]

each_network = pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet", *NETWORKS])
each_topology = pytest.mark.parametrize("topology", ["2d", "3d", "anisotropic"])
pytestmark = pytest.mark.usefixtures("single_thread")


def kept_on_cpu(network: nn.Module, shape: Sequence[int]) -> tuple[int, int]:
    """Bytes that autograd saves in a real pass, parameters and input not counted, and bytes of the outputs."""
    image = torch.randn(shape)
    own = [*network.parameters(), *network.buffers(), image]
    ignored = {tensor.untyped_storage().data_ptr() for tensor in own}
    saved: list[torch.Tensor] = []  # held, so that no address is used twice

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    sizes = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in saved}
    return sum(size for place, size in sizes.items() if place not in ignored), sum(x.nbytes for x in outputs)


@each_topology
@each_network
def test_a_measurement_without_data_equals_a_real_pass_to_the_byte(
    name: str, topology: str, make_network: Make
) -> None:
    network, shape = make_network(name, topology)
    found = measure(network, shape)
    real, _ = make_network(name, topology, device="cpu")
    assert (found.activations, found.outputs) == kept_on_cpu(real, shape)
    assert found == measure(real, shape)  # parts, transient, inputs and arithmetic too


@pytest.mark.parametrize(("name", "topology"), [("PlainConvUNet", "3d"), ("CFNet", "2d")])
def test_kept_and_outputs_are_what_stays_allocated_after_the_forward_pass(
    name: str, topology: str, make_network: Make
) -> None:
    patch = (48, 32, 32) if topology == "3d" else (256, 192)
    network, shape = make_network(name, topology, device="cpu", patch=patch)
    image = torch.randn(shape)
    network(image)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        outputs = network(image)
    allocated = sum(row.self_cpu_memory_usage for row in run.key_averages())
    found = measure(make_network(name, topology)[0], shape)
    assert len(outputs) > 1
    assert found.activations + found.outputs == pytest.approx(allocated, rel=1e-3)


@pytest.mark.parametrize(
    ("name", "kept", "half", "copies", "parameters", "giga"),
    [
        ("PlainConvUNet", 425.86, 3.3581, 59.5, 31_199_796, 482.89),
        ("ResidualEncoderUNet", 520.47, 4.0965, 195.1, 102_353_972, 723.06),
    ],
)
def test_figures_of_nnunets_networks_for_brats(
    name: str, kept: float, half: float, copies: float, parameters: int, giga: float, make_network: Make
) -> None:
    network, shape = make_network(name, "brats", classes=4)
    small = measure(network, shape, multiply_adds=False)
    assert round(small.activations / MIB, 2) == kept
    large = measure(network, (2, 4, 128, 128, 128), dtype=torch.bfloat16)
    assert round(large.activations / GIB, 4) == half
    assert round(large.weight_copies / MIB, 1) == copies
    assert (large.parameters, large.trainable) == (parameters, parameters)
    assert round(large.multiply_adds / 2 / 1e9, 2) == giga
    assert measure(network, (2, 4, 128, 128, 128), dtype=torch.float16, multiply_adds=False).activations == (
        large.activations
    )


@pytest.mark.parametrize(
    ("name", "full", "half", "parameters", "giga"),
    [
        ("PlainConvUNet", 7.3416, 3.6890, 46_325_134, 59.76),
        ("ResidualEncoderUNet", 11.3393, 5.6894, 140_017_614, 130.28),
    ],
)
def test_figures_of_nnunets_networks_in_2d(
    name: str, full: float, half: float, parameters: int, giga: float, make_network: Make
) -> None:
    network, _ = make_network(name, "512", channels=3, classes=2)
    batch = (12, 3, 512, 512)
    assert round(measure(network, batch, multiply_adds=False).activations / GIB, 4) == full
    found = measure(network, batch, dtype=torch.float16)
    assert round(found.activations / GIB, 4) == half
    assert found.parameters == parameters
    assert round(found.multiply_adds / 12 / 1e9, 2) == giga


def test_activations_in_place_save_a_third_of_the_others(make_network: Make) -> None:
    inside = measure(*make_network("PlainConvUNet", "brats"), multiply_adds=False).activations
    apart = measure(*make_network("PlainConvUNet", "brats", nonlin_kwargs={"inplace": False}), multiply_adds=False)
    assert apart.activations / inside == pytest.approx(1.40, abs=0.005)


@pytest.mark.parametrize("dtype", [None, torch.float16])
@each_network
def test_a_batch_keeps_as_many_times_what_a_sample_of_it_keeps(
    name: str, dtype: torch.dtype | None, make_network: Make
) -> None:
    network, (_, *sample) = make_network(name, "brats", patch=(128, 128, 128))
    one = measure_sample(network, sample, dtype=dtype, multiply_adds=False)
    five = measure(network, (5, *sample), dtype=dtype, multiply_adds=False)
    for figure in ("inputs", "outputs", "transient"):
        assert getattr(five, figure) == 5 * getattr(one, figure), figure
    assert (five.weight_copies, five.parameters) == (one.weight_copies, one.parameters)
    assert (one.weight_copies > 0) == (dtype is not None)
    # what a network keeps once a batch (biases by position) is counted for every second sample: rather too much
    assert five.activations == pytest.approx(5 * one.activations, rel=0.005)
    assert five.activations <= 5 * one.activations * (1 + 1e-6)
    assert sum(one.parts.values()) == one.activations


@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet"])
def test_nnunets_networks_keep_as_much_of_a_single_sample(name: str, make_network: Make) -> None:
    network, shape = make_network(name, "3d")
    assert measure_sample(network, shape[1:]) == measure(network, shape)


def test_a_single_sample_may_keep_less_than_its_share_of_a_batch(make_network: Make) -> None:
    """Why plans are not made from a batch of one."""
    network, shape = make_network("CFNet", "2d", recompute=False)
    assert measure_sample(network, shape[1:]).activations > 1.02 * measure(network, shape).activations


@each_topology
@each_network
def test_parts_are_children_and_sum_to_the_total(name: str, topology: str, make_network: Make) -> None:
    network, shape = make_network(name, topology)
    found = measure(network, shape)
    assert sum(found.parts.values()) == found.activations
    assert set(found.parts) <= {child for child, _ in network.named_children()} | {TOP}
    assert found.parts["decoder"] > 0
    assert max(found.parts.values()) < found.activations


def test_nothing_is_allocated_for_a_large_patch(make_network: Make) -> None:
    network, _ = make_network("PlainConvUNet", "brats")
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = measure(network, (2, 4, 128, 128, 128))
    seconds = time.process_time() - start
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * (1 if sys.platform == "darwin" else 1024)
    assert found.activations > 6 * GIB
    assert grown < 200 * MIB
    assert seconds < 3


class Small(nn.Module):
    """A network of one line: ``line(self, x)``, with a square weight, a buffer and a block of two convolutions."""

    def __init__(self, line: Callable[[Any, torch.Tensor], Any], edge: int = 16) -> None:
        super().__init__()
        self.line = line
        self.weight = nn.Parameter(torch.ones(edge, edge))
        self.register_buffer("mask", torch.ones(edge, edge))
        self.block = nn.Sequential(nn.Conv2d(1, 1, 3, padding=1), nn.Sigmoid(), nn.Conv2d(1, 1, 3, padding=1))

    def forward(self, x: torch.Tensor) -> Any:
        return self.line(self, x)


SHAPE = (2, 1, 16, 16)
MAP = 2 * 16 * 16 * 4


def twice(network: Small, x: torch.Tensor) -> torch.Tensor:
    y = x + network.weight
    return y * y


def views(network: Small, x: torch.Tensor) -> torch.Tensor:
    y = x + network.weight
    return (
        y.square().sum() + y.flatten().square().sum() + y.transpose(2, 3).exp().sum() * 0 + y[:1, :, 3].square().sum()
    )


def chunks(network: Small, x: torch.Tensor) -> torch.Tensor:
    first, second = (x + network.weight).chunk(2, dim=2)
    return first.square() + second.square()


def in_place(network: Small, x: torch.Tensor) -> torch.Tensor:
    return network.block[2](nn.functional.leaky_relu(x + network.weight, inplace=True))


LINES: dict[str, tuple[Callable[[Any, torch.Tensor], Any], int, int]] = {
    # what it does: the line, activations and inputs that it keeps, in maps
    "a tensor saved twice": (twice, 1, 0),
    "views of a tensor": (views, 2, 0),  # and the result of exp
    "one view that keeps the whole": (lambda network, x: (x + network.weight)[:1].square(), 1, 0),
    "chunks of a tensor": (chunks, 1, 0),
    "an activation in place": (in_place, 1, 0),
    "a transposed parameter": (lambda network, x: x @ network.weight.t(), 0, 1),
    "a buffer": (lambda network, x: (x + network.weight) * network.mask, 0, 0),
    "chunks of the input": (
        lambda network, x: torch.cat([part @ network.weight[:8] for part in x.chunk(2, dim=3)]),
        0,
        1,
    ),
    "a checkpointed block": (
        lambda network, x: checkpoint(network.block, x + network.weight, use_reentrant=False),
        1,
        0,
    ),
    "the same block": (lambda network, x: network.block(x + network.weight), 2, 0),
}


@pytest.mark.parametrize("case", LINES)
def test_storages_count_once_and_under_what_they_are(case: str) -> None:
    line, activations, inputs = LINES[case]
    with torch.device("meta"):
        network = Small(line)
    for found in (measure(network, SHAPE), measure(Small(line), SHAPE)):
        assert (found.activations, found.inputs) == (activations * MAP, inputs * MAP)


def test_two_inputs_are_told_apart_from_activations() -> None:
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(8, 8))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x @ self.weight) * y

    with torch.device("meta"):
        found = measure(Two(), (4, 8), (4, 8))
    assert (found.inputs, found.activations) == (2 * 4 * 8 * 4, 0)


def test_frozen_parameters_are_not_counted_as_trainable() -> None:
    with torch.device("meta"):
        network = Small(lambda network, x: network.block(x))
    network.weight.requires_grad_(False)
    found = measure(network, SHAPE)
    assert found.parameters - found.trainable == 16 * 16


def test_a_list_of_modules_is_a_part_of_its_own() -> None:
    class Levels(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.levels = nn.ModuleList(nn.Sequential(nn.Conv2d(1, 1, 1), nn.Sigmoid()) for _ in range(3))
            self.by_name = nn.ModuleDict({"last": nn.Sigmoid()})

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            for level in self.levels:
                x = level(x)
            return self.by_name["last"](x).exp()

    with torch.device("meta"):
        found = measure(Levels(), SHAPE)
    assert found.parts == {"levels": 3 * MAP, "by_name": MAP, TOP: MAP}


def test_buffers_and_weights_of_a_child_called_twice_count_once() -> None:
    with torch.device("meta"):
        network = Small(lambda network, x: network.block(network.block(x)))
    assert measure(network, SHAPE).activations == 3 * MAP


NEEDS_VALUES: dict[str, Callable[[Any, torch.Tensor], Any]] = {
    "item": lambda network, x: network.block(x) * x.max().item(),
    "tolist": lambda network, x: network.block(x) * x.sum().tolist(),
    "branch": lambda network, x: network.block(x) if x.sum() > 0 else x,
    "boolean index": lambda network, x: network.block(x)[x > 0],
    "numpy": lambda network, x: network.block(x) + float(x.numpy().sum()),
    "a tensor elsewhere": lambda network, x: network.block(x) + torch.ones(1, 1, 16, 16),
}


@pytest.mark.parametrize("kind", NEEDS_VALUES)
def test_a_network_that_needs_values_is_refused_in_one_line_that_names_the_part(kind: str) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(1, 1, 1)
            self.picky = Small(NEEDS_VALUES[kind])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.picky(self.stem(x).detach())

    with torch.device("meta"):
        network = Outer()
    with pytest.raises(ValueError, match=r"^Outer cannot be measured without data, in its part picky: .+") as raised:
        measure(network, SHAPE)
    assert "\n" not in str(raised.value)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())


def test_an_error_of_a_real_pass_stays_what_it_is() -> None:
    with pytest.raises(RuntimeError, match="channels"):
        measure(Small(lambda network, x: network.block(x)), (1, 3, 16, 16))


def test_measuring_leaves_the_network_as_it_was(make_network: Make) -> None:
    network, shape = make_network("CFNet", "2d", device="cpu")
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = measure(network, shape)
    assert isinstance(found, Memory)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
