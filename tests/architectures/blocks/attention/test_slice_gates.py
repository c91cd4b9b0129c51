"""What slice attention, key slices and the progressive module promise."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.nn import functional

from nnunet_ext.architectures.blocks.attention.channel_then_slice import ChannelThenSlice
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP
from nnunet_ext.architectures.blocks.attention.key_slices import key_slices
from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention, resized_weights
from nnunet_ext.architectures.blocks.attention.slice_then_channel import SliceThenChannel
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite

SERIES = {"csa": ChannelThenSlice, "sca": SliceThenChannel, "pam": ProgressiveAttention}
each_series = pytest.mark.parametrize("kind", SERIES)


def series(kind: str, depth: int = 6, **options: Any) -> Any:
    torch.manual_seed(1)
    return SERIES[kind](8, depth, 2, 2, **options).double()


def volume(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_slice_is_a_key_slice_where_all_weigh_the_same(dtype: torch.dtype) -> None:
    for depth in range(1, 257):
        for weight in (0.1, 0.5, 0.7310585786300049):
            assert key_slices(torch.full((1, 1, depth), weight, dtype=dtype)).all(), depth


def test_each_channel_has_its_own_key_slices_and_at_least_one() -> None:
    weights = torch.rand(4, 16, 9, generator=torch.Generator().manual_seed(0))
    keys = key_slices(weights)
    assert keys.shape == weights.shape
    assert keys.dtype == torch.bool
    counts = keys.sum(-1)
    assert counts.min() >= 1
    assert counts.max() < 9
    assert not torch.equal(keys[0], keys[1])
    assert keys.gather(-1, weights.argmax(-1, keepdim=True)).all(), "the slice of the largest weight"


def test_key_slices_carry_no_gradient_but_what_is_read_of_them_does_unless_detached() -> None:
    x = volume(2, 8, 6, 4, 5)
    gradients = {}
    for detached in (False, True):
        block = series("pam", detach_descriptor=detached)
        # what flows through the channel gate alone: the map and the slice weights enter the product detached
        gates = block.gates_of(x.requires_grad_())
        assert gates.keys is not None
        assert not gates.keys.requires_grad
        inputs = [x, *block.slices.parameters()]
        gradients[detached] = torch.autograd.grad(gates.channels.sum(), inputs, allow_unused=True)
        block(x).sum().backward()
        assert all(p.grad is not None and p.grad.abs().max() > 0 for p in block.slices.parameters())
    assert all(gradient is not None and gradient.abs().max() > 0 for gradient in gradients[False])
    assert all(gradient is None for gradient in gradients[True])


@pytest.mark.parametrize("pooling", ["max", "avg_and_max"])
def test_quirks_pool_the_average_under_the_name_of_the_maximum(pooling: str) -> None:
    x = volume(2, 8, 6, 4, 5)

    def slices(pooling: str, quirks: bool) -> torch.Tensor:
        torch.manual_seed(1)
        return SliceAttention(8, 6, 2, pooling, pooling_reference_quirks=quirks).double().gates_of(x).slices.logit()

    average = slices("avg", False)
    torch.testing.assert_close(slices("avg", True), average)
    times = 1 if pooling == "max" else 2
    torch.testing.assert_close(slices(pooling, True), times * average)
    assert (slices(pooling, False) - times * average).abs().max() > 0.01

    def channels(pooling: str, quirks: bool) -> torch.Tensor:
        block = series("pam", channel_pooling=pooling, pooling_reference_quirks=quirks)
        return block.gates_of(x).channels.logit()

    average = channels("avg", False)
    torch.testing.assert_close(channels("avg", True), average)
    torch.testing.assert_close(channels(pooling, True), times * average)
    assert (channels(pooling, False) - times * average).abs().max() > 0.01


@each_series
def test_the_own_depth_is_not_interpolated(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    block, x = series(kind), volume(2, 8, 6, 4, 5)
    expected = block(x)

    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError("interpolated")

    monkeypatch.setattr(functional, "interpolate", refuse)
    assert torch.equal(block(x), expected)
    with pytest.raises(AssertionError, match="interpolated"):
        block(volume(2, 8, 5, 4, 5))


@each_series
def test_any_depth_is_taken(kind: str) -> None:
    block = series(kind, channel_pooling="avg_and_max", slice_pooling="avg_and_max")
    for depth in (1, 2, 5, 13):
        output = block(volume(2, 8, depth, 3, 4))
        assert output.shape == (2, 8, depth, 3, 4)
        assert torch.isfinite(output).all()


@each_series
@pytest.mark.parametrize("pooling", ["avg", "max", "avg_and_max"])
def test_one_slice_leaves_channel_attention_alone(kind: str, pooling: str) -> None:
    block = series(kind, depth=1, channel_pooling=pooling, slice_pooling=pooling)
    assert all(name.startswith("channels.") for name, _ in block.named_parameters()), "no weights for slices"
    alone = SqueezeExcite(8, 2, pooling).double()
    alone.load_state_dict(block.channels.state_dict())
    image = volume(2, 8, 4, 5)
    torch.testing.assert_close(block(image), alone(image), rtol=1e-14, atol=0)
    for depth in (1, 3):  # built for one slice, it treats all slices alike
        torch.testing.assert_close(block(volume(2, 8, depth, 4, 5)), alone(volume(2, 8, depth, 4, 5)))
    deep = series(kind, depth=6, channel_pooling=pooling, slice_pooling=pooling)
    alone.load_state_dict(deep.channels.state_dict())
    torch.testing.assert_close(deep(image), alone(image), rtol=1e-14, atol=0)


def test_slice_attention_of_an_image_is_the_image() -> None:
    image = volume(2, 8, 4, 5)
    assert torch.equal(SliceAttention(8, 1).double()(image), image)
    assert torch.equal(SliceAttention(8, 6).double()(image.unsqueeze(2)), image.unsqueeze(2))
    assert list(SliceAttention(8, 1).parameters()) == []


@pytest.mark.parametrize("kind", ["slice", *SERIES])
def test_flipping_the_weights_along_the_slices_with_the_map_flips_the_output(kind: str) -> None:
    torch.manual_seed(1)
    options = {"pooling": "avg_and_max"} if kind == "slice" else {"slice_pooling": "avg_and_max"}
    make = SliceAttention if kind == "slice" else SERIES[kind]
    block = make(8, 6, **options).double()
    flipped = copy.deepcopy(block)
    slices = flipped if kind == "slice" else flipped.slices
    with torch.no_grad():
        slices.mlp.reduce_weight.copy_(slices.mlp.reduce_weight.flip(-1))
        slices.mlp.expand_weight.copy_(slices.mlp.expand_weight.flip(1))
        slices.mlp.expand_bias.copy_(slices.mlp.expand_bias.flip(1))
    x = volume(2, 8, 6, 4, 5)
    torch.testing.assert_close(flipped(x.flip(2)), block(x).flip(2), rtol=1e-13, atol=1e-14)
    assert not torch.allclose(block(x.flip(2)), block(x).flip(2)), "the weights belong to places along the slices"
    for axis in (3, 4):
        torch.testing.assert_close(block(x.flip(axis)), block(x).flip(axis), rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("depth", [12, 18])
def test_weights_for_more_slices_give_the_interpolated_logits(depth: int) -> None:
    torch.manual_seed(1)
    old, new = SliceAttention(8, 6, 2).double(), SliceAttention(8, depth, depth // 3).double()
    new.load_state_dict(resized_weights(old.state_dict(), depth))
    x = volume(2, 8, 1, 4, 5)
    before = old.gates_of(x.expand(-1, -1, 6, -1, -1)).slices.logit()
    after = new.gates_of(x.expand(-1, -1, depth, -1, -1)).slices.logit()
    expected = functional.interpolate(before, size=depth, mode="linear", align_corners=False)
    torch.testing.assert_close(after, expected, rtol=1e-12, atol=1e-12)


def test_weights_for_the_same_depth_are_the_same() -> None:
    state = SliceAttention(8, 6, 2).state_dict()
    resized = resized_weights(state, 6)
    assert set(resized) == set(state)
    assert all(torch.equal(resized[key], state[key]) for key in state)


def test_hidden_widths_are_at_least_one_unless_told() -> None:
    assert [SliceAttention(2, depth, 16).mlp.hidden for depth in (2, 15, 16, 33)] == [1, 1, 1, 2]
    published = [SliceAttention(2, depth, 16, clamp_hidden=False).mlp.hidden for depth in (2, 15, 16, 33)]
    assert published == [0, 0, 1, 2]
    assert [SqueezeExcite(channels, 8).mlp.hidden for channels in (2, 16, 320)] == [1, 2, 40]


@pytest.mark.parametrize("groups", [None, 3])
def test_hidden_units_start_alive(groups: int | None) -> None:
    mlp = GateMLP(32, 8, groups=groups)
    assert (mlp.reduce_bias == 1).all()
    for parameter, inputs in ((mlp.reduce_weight, 32), (mlp.expand_weight, 8), (mlp.expand_bias, 8)):
        assert 0.5 < parameter.abs().max() * inputs**0.5 <= 1
    published = GateMLP(32, 8, groups=groups, uniform_bias=True)
    assert published.reduce_bias.abs().max() <= 32**-0.5
    assert published.reduce_bias.unique().numel() > 1
    for depth in (2, 8, 64):  # a descriptor behind a nonlinearity: positive and nearly the same everywhere
        block = SliceAttention(64, depth, 8)
        block(0.4 + 0.05 * torch.rand(2, 64, depth, 3, 3)).square().sum().backward()
        assert (block.mlp.reduce_weight.grad.abs().amax((1, 2)) > 0).all()


def test_a_module_of_one_slice_and_a_wrong_word_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one slice"):
        SliceAttention(8, 0)
    with pytest.raises(ValueError, match="avg, max, avg_and_max; got 'mean'"):
        ProgressiveAttention(8, 4, channel_pooling="mean")
    with pytest.raises(ValueError, match="at least 1; got 0"):
        SqueezeExcite(8, 0)


def test_slice_gates_read_the_map_in_float32_under_autocast() -> None:
    block = ProgressiveAttention(8, 6, 2, 2, "avg_and_max", "avg_and_max")
    x = torch.randn(2, 8, 6, 16, 16)
    exact = block.gates_of(x)
    for dtype in (torch.float16, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype):
            rounded = x.to(dtype)
            gates = block.gates_of(rounded)
            large = block((3e4 + x.abs()).to(dtype))
            assert block(rounded).dtype == dtype
        assert gates.slices.dtype == gates.channels.dtype == torch.float32
        torch.testing.assert_close(gates.slices, block.gates_of(rounded.float()).slices, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(gates.slices, exact.slices, rtol=0.02, atol=0.02)
        assert torch.isfinite(large).all()
    double = copy.deepcopy(block).double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        gates = double.gates_of(x.double())
        assert gates.slices.dtype == gates.channels.dtype == double(x.double()).dtype == torch.float64
    assert torch.equal(gates.slices, double.gates_of(x.double()).slices)
