"""From kept bytes to GPU memory: the table that the constant was fitted on, and what follows from the sum."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import Memory, measure, measure_sample

Make = Callable[..., tuple[nn.Module, tuple[int, ...]]]
pytestmark = pytest.mark.usefixtures("single_thread")

# network, patch, batch, computed without overhead, reported by nnU-Net's documentation, difference; GB
FITTED = [
    ("PlainConvUNet", (128, 128, 128), 2, 5.12, 7.7, 2.58),
    ("ResidualEncoderUNet", (128, 128, 128), 2, 6.91, 9.1, 2.19),
    ("ResidualEncoderUNet", (160, 192, 160), 3, 20.67, 22.7, 2.03),
    ("ResidualEncoderUNet", (160, 192, 160), 5, 33.50, 36.6, 3.10),
]


def sample(activations: int = 1000, transient: int = 200, parameters: int = 10) -> Memory:
    return Memory(parameters, parameters, activations, 0, 0, 0, transient)


@pytest.mark.parametrize(("name", "patch", "batch", "computed", "reported", "difference"), FITTED)
def test_the_table_of_the_fit_is_what_the_code_computes(
    name: str,
    patch: tuple[int, ...],
    batch: int,
    computed: float,
    reported: float,
    difference: float,
    make_network: Make,
) -> None:
    network, (_, *shape) = make_network(name, "brats", classes=4, patch=patch)
    case = measure_sample(network, shape, dtype=torch.float16, multiply_adds=False)
    estimate = gpu.training_bytes(case, batch)
    without = (estimate - gpu.OVERHEAD) / gpu.GB
    assert without == pytest.approx(computed, abs=0.01)
    assert reported - without == pytest.approx(difference, abs=0.01)
    assert abs(estimate / gpu.GB - reported) < gpu.UNCERTAINTY / gpu.GB


def test_the_overhead_is_the_mean_of_the_differences() -> None:
    mean = sum(difference for *_, difference in FITTED) / len(FITTED)
    assert abs(gpu.OVERHEAD / gpu.GB - mean) < 0.006


def test_a_parameter_takes_weight_gradient_copy_and_the_optimizers_state() -> None:
    assert gpu.parameter_bytes(10, "SGD") == 10 * (4 + 4 + 2 + 4)
    assert gpu.parameter_bytes(10, "AdamW") == gpu.parameter_bytes(10, "Adam") == 10 * (4 + 4 + 2 + 8)
    assert gpu.parameter_bytes(10, "Lookahead") == gpu.parameter_bytes(10, "Adam")  # unknown: rather too much
    adam, sgd = (gpu.training_bytes(sample(), 2, name) for name in ("Adam", "SGD"))
    assert adam - sgd == 10 * 4


def test_every_sample_adds_what_it_keeps_and_what_the_backward_pass_adds() -> None:
    one, four = (gpu.training_bytes(sample(), batch) for batch in (1, 4))
    assert four - one == 3 * (1000 + 200)


@pytest.mark.parametrize("optimizer", ["SGD", "AdamW"])
@pytest.mark.parametrize("available", [2.0, 2.5, 4.0, 7.99, 8.0, 24.0, 80.0])
@pytest.mark.parametrize(
    "case", [sample(10**9, 10**8, 10**7), sample(3 * 10**8, 0, 10**8), sample(17, 5, 0)], ids=["large", "deep", "tiny"]
)
def test_the_largest_batch_is_the_largest_that_fits(case: Memory, available: float, optimizer: str) -> None:
    batch = gpu.largest_batch(case, available * gpu.GB, optimizer)
    if batch > 0:
        assert gpu.training_bytes(case, batch, optimizer) <= available * gpu.GB
    assert gpu.training_bytes(case, batch + 1, optimizer) > available * gpu.GB


def test_prediction_holds_image_logits_and_counts() -> None:
    def predicted(image: tuple[int, ...], patch: tuple[int, ...]) -> float:
        return gpu.prediction_bytes(1000, 500, 4, 3, image, patch)

    fixed = gpu.OVERHEAD + 1000 * 4 + 500
    assert predicted((20, 30, 40), (8, 8, 8)) == fixed + 20 * 30 * 40 * (4 * 4 + 3 * 2 + 2)
    assert predicted((4, 30, 40), (8, 8, 8)) == fixed + 8 * 30 * 40 * 24  # padded to the patch
    assert predicted((20, 30, 40), (64, 32)) == fixed + 20 * 64 * 40 * 24  # slices of a volume


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("name", ["PlainConvUNet", "ResidualEncoderUNet", "CFNet"])
def test_a_training_step_on_a_gpu_needs_what_is_estimated(name: str, make_network: Make) -> None:
    """Within 15 %, the overhead apart: context and workspace are not in the allocator's count."""
    batch, patch = 2, (128, 128, 128)
    network, (_, *shape) = make_network(name, "brats", classes=4, patch=patch)
    case = measure(network, (batch, *shape), dtype=torch.float16, multiply_adds=False)
    expected = gpu.parameter_bytes(case.parameters) + case.activations + case.transient
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    real, _ = make_network(name, "brats", device="cuda", classes=4, patch=patch)
    optimizer = torch.optim.SGD(real.parameters(), lr=1e-3, momentum=0.99)
    image = torch.randn(batch, *shape, device="cuda")
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast("cuda", dtype=torch.float16):
            loss = torch.stack([output.float().square().mean() for output in real(image)]).sum()
        loss.backward()
        optimizer.step()
    assert torch.cuda.max_memory_allocated() - before == pytest.approx(expected, rel=0.15)
