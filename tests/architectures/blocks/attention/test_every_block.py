"""What every attention block promises, over the table in which networks find them."""

from __future__ import annotations

import ast
import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks import attention
from nnunet_ext.architectures.blocks.attention import ATTENTION, attention_block
from nnunet_ext.architectures.blocks.layers import LayerPlan

CHANNELS = 8
SIZES = {2: (6, 9), 3: (5, 6, 9)}
LAYERS = {
    2: LayerPlan(
        nn.Conv2d, False, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}
    ),
    3: LayerPlan(
        nn.Conv3d, False, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}
    ),
}
both_dimensions = pytest.mark.parametrize("dimension", [2, 3])
each_block = pytest.mark.parametrize("name", ATTENTION)
#: options with everything on that costs nothing in the default form
FULL: dict[str, dict[str, Any]] = {
    "se": {"pooling": "avg_and_max"},
    "slice": {"pooling": "avg_and_max"},
    **{name: {"channel_pooling": "avg_and_max", "slice_pooling": "avg_and_max"} for name in ("csa", "sca", "pam")},
    "dual": {"dropout": 0.0},
}


def place_of(dimension: int, depth: int | None = None) -> dict[str, Any]:
    """What a network knows of a place."""
    return {
        "layers": LAYERS[dimension],
        "dimension": dimension,
        "channels": CHANNELS,
        "out_channels": 12,
        "gate_channels": 16,
        "stride": (2, 2) if dimension == 2 else (1, 2, 2),
        "classes": 3,
        "depth": depth or (SIZES[3][0] if dimension == 3 else 1),
    }


def build(name: str, dimension: int, depth: int | None = None, **options: Any) -> nn.Module:
    torch.manual_seed(0)
    block = attention_block(name, place_of(dimension, depth), **{**FULL.get(name, {}), **options})
    with torch.no_grad():  # out of the identity in which some start
        for key, parameter in block.named_parameters():
            if key.endswith("gamma") or (name == "stn" and "expand" in key):
                parameter.add_(0.3 * torch.randn_like(parameter) + 0.2)
    return block


def inputs_of(name: str, dimension: int, batch: int = 2, size: tuple[int, ...] | None = None) -> list[torch.Tensor]:
    size = size or SIZES[dimension]
    generator = torch.Generator().manual_seed(4)
    inputs = [torch.randn(batch, CHANNELS, *size, generator=generator)]
    if name == "gate":
        coarser = (*size[:-2], size[-2] // 2, size[-1] // 2)
        inputs.append(torch.randn(batch, 16, *coarser, generator=generator))
    return inputs


def doubled(tensors: list[torch.Tensor]) -> list[torch.Tensor]:
    return [x.double() for x in tensors]


@each_block
@both_dimensions
def test_keeps_the_size_and_leaves_its_input_alone(name: str, dimension: int) -> None:
    block, inputs = build(name, dimension).eval(), inputs_of(name, dimension)
    before = [x.clone() for x in inputs]
    output = block(*inputs)
    channels = 12 if name == "se_residual" else CHANNELS
    assert output.shape == (2, channels, *SIZES[dimension])
    assert output.dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip(inputs, before, strict=True))
    assert torch.equal(block(*inputs), output)


@each_block
@both_dimensions
@pytest.mark.parametrize("train", [False, True])
def test_samples_do_not_depend_on_their_batch(name: str, dimension: int, train: bool) -> None:
    block, inputs = build(name, dimension).double().train(train), doubled(inputs_of(name, dimension, batch=3))
    together = block(*inputs)
    alone = torch.cat([block(*(x[i : i + 1] for x in inputs)) for i in range(3)])
    torch.testing.assert_close(alone, together, rtol=1e-12, atol=1e-12)
    order = [2, 0, 1]
    torch.testing.assert_close(block(*(x[order] for x in inputs)), together[order], rtol=1e-12, atol=1e-12)


@each_block
@both_dimensions
def test_every_parameter_gets_a_finite_gradient_that_is_not_zero(name: str, dimension: int) -> None:
    block, inputs = build(name, dimension), inputs_of(name, dimension)
    inputs[0].requires_grad_()
    # an activation that works in place stands before and behind the block in a network
    output = nn.functional.leaky_relu(block(nn.functional.leaky_relu(inputs[0] * 1, inplace=True), *inputs[1:]) * 1)
    (output * torch.randn_like(output)).sum().backward()
    assert torch.isfinite(inputs[0].grad).all()
    gradients = {key: parameter.grad for key, parameter in block.named_parameters()}
    assert [key for key, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert [key for key, gradient in gradients.items() if gradient.abs().max() == 0] == []


@each_block
@both_dimensions
def test_any_order_of_the_axes_in_memory_gives_the_same(name: str, dimension: int) -> None:
    block, inputs = build(name, dimension).double(), doubled(inputs_of(name, dimension))
    expected = block(*inputs)
    last = torch.channels_last if dimension == 2 else torch.channels_last_3d
    torch.testing.assert_close(block(*(x.to(memory_format=last) for x in inputs)), expected, rtol=1e-12, atol=1e-12)
    strided = [x.transpose(0, 1).contiguous().transpose(0, 1) for x in inputs]
    torch.testing.assert_close(block(*strided), expected, rtol=1e-12, atol=1e-12)


@each_block
def test_takes_a_single_slice(name: str) -> None:
    block = build(name, 3, depth=1)
    inputs = inputs_of(name, 3, size=(1, 6, 8))
    inputs[0].requires_grad_()
    output = block(*inputs)
    assert output.shape[2:] == (1, 6, 8)
    output.square().sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in block.parameters())


@each_block
@both_dimensions
def test_runs_on_the_meta_device(name: str, dimension: int) -> None:
    with torch.device("meta"):
        block = attention_block(name, place_of(dimension), **FULL.get(name, {}))
    inputs = [x.to("meta").requires_grad_() for x in inputs_of(name, dimension)]
    output = block(*inputs)
    assert output.is_meta
    output.sum().backward()
    assert inputs[0].grad.is_meta


@each_block
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_close_and_has_finite_gradients(name: str, dtype: torch.dtype) -> None:
    block, inputs = build(name, 3), inputs_of(name, 3)
    exact = block(*inputs)
    with torch.autocast("cpu", dtype=dtype):
        rounded = block(*(x.to(dtype) for x in inputs))
    rounded.float().square().sum().backward()
    # norms of the CPU return float32
    assert rounded.dtype in ((dtype, torch.float32) if name in ("gate", "dual") else (dtype,))
    assert all(torch.isfinite(p.grad).all() for p in block.parameters())
    assert (rounded.float() - exact).norm() < 0.05 * exact.norm()


@each_block
@both_dimensions
def test_float64_stays_float64_under_autocast(name: str, dimension: int) -> None:
    block, inputs = build(name, dimension).double(), doubled(inputs_of(name, dimension))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = block(*inputs)
    assert output.dtype == torch.float64
    torch.testing.assert_close(output, block(*inputs), rtol=1e-12, atol=1e-12)


# compiling takes seconds: the module of the paper always, the others where there is time
COMPILED = [pytest.param(name, marks=[] if name == "pam" else pytest.mark.slow) for name in ATTENTION]


@pytest.mark.parametrize("name", COMPILED)
def test_compiles_in_one_graph(name: str) -> None:
    block, inputs = build(name, 3), inputs_of(name, 3)
    torch.compiler.reset()
    compiled = torch.compile(copy.deepcopy(block), backend="aot_eager", fullgraph=True, dynamic=False)
    expected, actual = block(*inputs), compiled(*inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    probe = torch.randn_like(expected)
    (expected * probe).sum().backward()
    (actual * probe).sum().backward()
    for own, other in zip(block.parameters(), compiled._orig_mod.parameters(), strict=True):
        torch.testing.assert_close(other.grad, own.grad, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 7])
def test_the_progressive_module_compiles_for_other_depths_and_under_autocast(depth: int) -> None:
    block = build("pam", 3)
    torch.compiler.reset()
    compiled = torch.compile(block, backend="eager", fullgraph=True, dynamic=False)
    x = torch.randn(2, CHANNELS, depth, 6, 8)
    torch.testing.assert_close(compiled(x), block(x))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(compiled(x.bfloat16()), block(x.bfloat16()))


@each_block
@both_dimensions
def test_two_blocks_drawn_from_one_seed_are_the_same_and_load_strictly(name: str, dimension: int) -> None:
    first, second = build(name, dimension), build(name, dimension)
    assert list(first.state_dict()) == list(second.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    second.load_state_dict(first.state_dict(), strict=True)


def test_no_block_loops_over_values_or_copies_to_the_host() -> None:
    """Loops may run over axes and over layers alone; nothing asks the device for a value."""
    files = sorted(Path(attention.__file__).parent.glob("*.py"))
    assert len(files) > 15
    loops, calls = {}, {}
    for file in files:
        nodes = list(ast.walk(ast.parse(file.read_text())))
        found = [ast.unparse(n.iter) for n in nodes if isinstance(n, ast.For)]
        if found:
            loops[file.name] = found
        for node in nodes:
            if isinstance(node, ast.Attribute) and node.attr in ("cpu", "item", "numpy", "tolist", "nonzero"):
                calls.setdefault(file.name, []).append(node.attr)
    assert loops == {"project_excite.py": ["axes"]}
    assert calls == {}


def test_names_lead_to_blocks_with_their_options() -> None:
    block = build("pam", 3, slice_reduction=2, channel_reduction=4)
    assert block.slices.mlp.hidden == 2
    assert block.channels.mlp.hidden == 2
    with pytest.raises(ValueError, match="no attention 'pamm'; choose one of se, slice"):
        attention_block("pamm", {})
    with pytest.raises(TypeError):
        build("se", 3, slice_reduction=2)


def test_channel_attention_directly_behind_an_instance_norm_would_be_constant() -> None:
    norm, block = nn.InstanceNorm3d(CHANNELS, affine=True), build("se", 3, pooling="avg")
    nn.init.normal_(norm.bias)
    first, second = (block.gates_of(norm(x)).channels for x in inputs_of("se", 3)[0].split(1))
    torch.testing.assert_close(first, second, rtol=1e-5, atol=1e-6)
    first, second = (block.gates_of(norm(x).relu()).channels for x in inputs_of("se", 3)[0].split(1))
    assert (first - second).abs().max() > 1e-4
