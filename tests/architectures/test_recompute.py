"""Recomputing in the backward pass changes what is kept and nothing else: for every network that offers it."""

from __future__ import annotations

import copy
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func, min_cut_rematerialization_partition
from torch import nn
from torch._dynamo.backends.common import aot_autograd
from torch.utils._python_dispatch import TorchDispatchMode

from nnunet_ext.architectures.blocks.basic_block import BasicBlock
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.modality_fusion import ModalityFusion
from nnunet_ext.architectures.blocks.recompute import observed, recomputed, repeatable
from nnunet_ext.families import NETWORKS, load

#: one network of every class: those that one class builds are looked at where their blocks are
OFFERING = list({row.class_path: row for row in reversed(NETWORKS.values()) if "recompute" in row.options}.values())
PATCHES = {2: (32, 48), 3: (16, 16, 24)}
each_network = pytest.mark.parametrize("row", OFFERING, ids=lambda row: row.name)
each_dimension = pytest.mark.parametrize("dimension", [2, 3])
pytestmark = pytest.mark.usefixtures("single_thread")


def build(row: Any, dimension: int, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = load(row.class_path)(
        input_channels=2,
        num_classes=3,
        n_stages=4,
        features_per_stage=[8, 16, 32, 32],
        conv_op=(nn.Conv2d, nn.Conv3d)[dimension - 2],
        kernel_sizes=[[3] * dimension] * 4,
        strides=[[1] * dimension] + [[2] * dimension] * 3,
        n_conv_per_stage=[2] * 4,
        n_conv_per_stage_decoder=[2] * 3,
        conv_bias=True,
        norm_op=(nn.InstanceNorm2d, nn.InstanceNorm3d)[dimension - 2],
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
        deep_supervision=True,
        **options,
    ).double()
    for parameter in network.parameters():  # away from the zeros at which residual blocks begin
        nn.init.normal_(parameter, std=0.2)
    return network


def image_for(dimension: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(
        batch, 2, *PATCHES[dimension], dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    ).requires_grad_()


def step(network: nn.Module, image: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Outputs, and gradients of the image and of all parameters."""
    torch.manual_seed(7)  # what drop path draws
    outputs = network(image)
    loss = torch.stack([output.square().mean() for output in outputs]).sum()
    return list(outputs), list(torch.autograd.grad(loss, [image, *network.parameters()]))


def kept_bytes(network: nn.Module, image: torch.Tensor) -> int:
    saved: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        outputs = network(image)
    assert len(outputs) > 1
    return sum(storage.nbytes() for storage in saved.values())


@pytest.mark.parametrize("drop_path", [0.0, 0.4])
@each_dimension
@each_network
def test_outputs_and_gradients_are_those_without(row: Any, dimension: int, drop_path: float) -> None:
    options = {}
    if drop_path:
        if "drop_path" not in row.options:
            pytest.skip(f"{row.name} draws no random numbers")
        options["drop_path"] = drop_path
    image = image_for(dimension)
    outputs, gradients = step(build(row, dimension, recompute=True, **options), image)
    expected, expected_gradients = step(build(row, dimension, recompute=False, **options), image)
    for output, other in zip(outputs, expected, strict=True):
        assert torch.equal(output, other)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=5e-15 * float(other.abs().max()))


@each_network
def test_autocast_changes_nothing_of_it(row: Any) -> None:
    image = image_for(2).float().detach().requires_grad_()
    found = []
    for recompute in (True, False):
        network = copy.deepcopy(build(row, 2, recompute=recompute).float())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found.append(step(network, image))
    (outputs, gradients), (expected, expected_gradients) = found
    assert all(torch.equal(output, other) for output, other in zip(outputs, expected, strict=True))
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-3, atol=1e-3 * float(other.abs().max()))


@each_dimension
@each_network
def test_less_is_kept_in_training_and_nothing_changes_in_evaluation(row: Any, dimension: int) -> None:
    image = image_for(dimension)
    small, large = (build(row, dimension, recompute=recompute) for recompute in (True, False))
    assert kept_bytes(small, image) < 0.9 * kept_bytes(large, image)
    assert kept_bytes(small.eval(), image) == kept_bytes(large.eval(), image)


@each_network
def test_recomputing_is_the_default_and_has_no_part_in_checkpoints(row: Any) -> None:
    image = image_for(2)
    default, other = build(row, 2), build(row, 2, recompute=False)
    assert kept_bytes(default, image) == kept_bytes(build(row, 2, recompute=True), image)
    with torch.no_grad():
        for parameter in default.parameters():
            parameter.add_(0.01)
    other.load_state_dict(default.state_dict(), strict=True)
    default.load_state_dict(other.state_dict(), strict=True)
    with torch.no_grad():
        assert torch.equal(default(image)[0], other(image)[0])


@pytest.mark.slow
@each_network
def test_a_compiled_network_recomputes_too_and_gives_the_same(row: Any) -> None:
    image = image_for(2)
    network = build(row, 2, recompute=True)
    expected = step(network, image)
    for backend in ("aot_eager", "aot_eager_decomp_partition"):
        torch.compiler.reset()
        all_kept = kept_bytes(torch.compile(build(row, 2, recompute=False), backend=backend, fullgraph=True), image)
        torch.compiler.reset()
        compiled = torch.compile(network, backend=backend, fullgraph=True)
        for found, other in zip(step(compiled, image), expected, strict=True):
            for tensor, like in zip(found, other, strict=True):
                torch.testing.assert_close(tensor, like, rtol=1e-9, atol=1e-12)
        assert kept_bytes(compiled, image) < 0.9 * all_kept, backend


# --- blocks -------------------------------------------------------------------------------------------------------


class Counted(TorchDispatchMode):
    """Counts the operations that really run."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def layers(norm: type[nn.Module] | None = nn.InstanceNorm2d) -> LayerPlan:
    return LayerPlan(nn.Conv2d, True, norm, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True})


def blocks(
    norm: type[nn.Module] | None = nn.InstanceNorm2d, plan: LayerPlan | None = None
) -> dict[str, tuple[nn.Module, list[torch.Tensor]]]:
    fine, coarse = torch.randn(2, 8, 16, 16), torch.randn(2, 12, 8, 8)
    plan = plan or layers(norm)
    return {
        "BasicBlock": (BasicBlock(plan, 8, 8, [3, 3], [1, 1], recompute=True), [fine]),
        "GatedCommunication": (GatedCommunication(plan, 8, 12, 3, recompute=True), [fine, coarse]),
        "ModalityFusion": (ModalityFusion(plan, 8, 6, 2, recompute=True), [fine, fine.flip(0)]),
    }


@pytest.mark.parametrize("name", ["BasicBlock", "GatedCommunication"])
def test_no_convolution_is_computed_twice(name: str) -> None:
    """What stands between two convolutions is repeated, and the repetition ends before the second one."""
    block, inputs = blocks()[name]
    with Counted() as forward:
        output = block(*(x.requires_grad_() for x in inputs))
    with Counted() as backward:
        output.sum().backward()
    assert forward.calls["convolution"] >= 2
    assert backward.calls["convolution"] == 0
    assert backward.calls["convolution_backward"] == forward.calls["convolution"]


@pytest.mark.parametrize("name", ["BasicBlock", "GatedCommunication", "ModalityFusion"])
def test_batch_norm_sees_a_batch_once(name: str) -> None:
    """A second run would count the batch into the running mean again, so nothing is recomputed there."""
    block, inputs = blocks(nn.BatchNorm2d)[name]
    block(*inputs).sum().backward()
    norms = [module for module in block.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert {int(norm.num_batches_tracked) for norm in norms} == {1}
    assert not repeatable(block)


@pytest.mark.parametrize("norm", [None, nn.Identity])
@pytest.mark.parametrize("name", ["BasicBlock", "GatedCommunication", "ModalityFusion"])
def test_blocks_without_a_norm_give_the_same(name: str, norm: type[nn.Module] | None) -> None:
    """There an activation in place would act on what is kept for the repetition."""
    block, inputs = blocks(norm)[name]
    block, inputs = block.double(), [x.double().requires_grad_() for x in inputs]
    found = torch.autograd.grad(block(*inputs).square().sum(), inputs)
    block.recompute = False
    expected = torch.autograd.grad(block(*inputs).square().sum(), inputs)
    for gradient, other in zip(found, expected, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["BasicBlock", "GatedCommunication"])
def test_no_convolution_is_computed_twice_by_a_compiled_block(name: str) -> None:
    """The backward pass that the compiler cuts out of the whole graph holds none."""
    counts: list[int] = []

    def counted(graph: torch.fx.GraphModule, _: Any) -> Callable[..., Any]:
        counts.append(sum("aten.convolution.default" in str(node.target) for node in graph.graph.nodes))
        return make_boxed_func(graph.forward)

    block, inputs = blocks()[name]
    torch.compiler.reset()
    backend = aot_autograd(fw_compiler=counted, bw_compiler=counted, partition_fn=min_cut_rematerialization_partition)
    output = torch.compile(block, backend=backend, fullgraph=True)(*(x.requires_grad_() for x in inputs))
    output.square().sum().backward()
    forward, backward = counts
    assert forward >= 2
    assert backward == 0


@pytest.mark.parametrize("name", ["BasicBlock", "GatedCommunication"])
def test_random_activations_are_the_same_the_second_time(name: str) -> None:
    plan = LayerPlan(nn.Conv2d, True, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.RReLU)
    found = []
    for recompute in (True, False):
        torch.manual_seed(0)
        block, inputs = blocks(plan=plan)[name]
        block, inputs = block.double(), [x.double().requires_grad_() for x in inputs]
        block.recompute = recompute
        torch.manual_seed(7)
        found.append(torch.autograd.grad(block(*inputs).square().sum(), [*inputs, *block.parameters()]))
    for gradient, other in zip(*found, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-12, atol=1e-13)


def test_an_observer_runs_each_part_that_would_be_recomputed_and_nothing_else() -> None:
    calls: list[Any] = []

    def note(part: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        calls.append(inputs)
        return part(*inputs)

    x = torch.ones(3, requires_grad=True)
    with observed(note):
        assert torch.equal(recomputed(torch.exp, x), x.exp())
        recomputed(torch.exp, x, enabled=False)
        with torch.no_grad():
            recomputed(torch.exp, x)
        other = threading.Thread(target=recomputed, args=(torch.exp, x))
        other.start()
        other.join()
    recomputed(torch.exp, x)
    assert len(calls) == 1
    assert calls[0][0] is x
