"""The exchange of channels against scalar loops, and what its equations promise."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange

EXACT = 1e-12


def filled(golden: Any, u_channels: int = 4, v_channels: int = 8) -> ChannelExchange:
    block = ChannelExchange(u_channels, v_channels).double()
    block.load_state_dict(golden.filled(block.state_dict(), "cfca."))
    return block


def maps(golden: Any, *size: int, u_channels: int = 4, v_channels: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    return golden.image("input:u", (2, u_channels, *size)), golden.image("input:v", (2, v_channels, *size))


@pytest.mark.parametrize("dimension", ["2d", "3d"])
def test_equals_scalar_loops(cfformer_golden: Any, dimension: str) -> None:
    case = cfformer_golden.load("cfca_xff_numpy")[dimension]
    block = filled(cfformer_golden)
    u = cfformer_golden.image(case["u_input"], case["u_shape"])
    v = cfformer_golden.image(case["v_input"], case["v_shape"])
    u_weights, v_weights = block.attention(u.flatten(2), v.flatten(2))
    for found, name in ((u_weights, "u_attn"), (v_weights, "v_attn")):
        torch.testing.assert_close(found, torch.tensor(case["cfca"][name], dtype=torch.float64), rtol=EXACT, atol=EXACT)
    for found, name in zip(block(u, v), ("U_fused", "V_fused"), strict=True):
        assert cfformer_golden.error(found, case["cfca"][name]) < EXACT, name


def test_keys_and_counts_are_those_of_four_linear_maps() -> None:
    block = ChannelExchange(64, 128)
    assert sum(parameter.numel() for parameter in block.parameters()) == 4 * 64 * 128 + 2 * 64 + 2 * 128 == 33_152
    names = ("u_expand", "u_compress", "v_compress", "v_expand")
    assert set(block.state_dict()) == {f"{name}.{kind}" for name in names for kind in ("weight", "bias")}


@pytest.mark.parametrize("size", [(5, 6), (3, 4, 5)])
def test_each_channel_gets_a_mean_of_the_others_with_weights_near_equal(cfformer_golden: Any, size: tuple) -> None:
    block = filled(cfformer_golden)
    u, v = maps(cfformer_golden, *size)
    u_weights, v_weights = block.attention(u.flatten(2), v.flatten(2))
    assert ((u_weights > 0) & (u_weights < 1)).all()
    assert ((v_weights > 0) & (v_weights < 1)).all()
    correspondence = u_weights.unsqueeze(2) * v_weights.unsqueeze(1)
    u_fused, v_fused = block(u, v)
    for fused, own, other, weights in (
        (u_fused, u, v, correspondence.softmax(2)),
        (v_fused, v, u, correspondence.transpose(1, 2).softmax(2)),
    ):
        count = other.shape[1]
        assert ((weights >= 1 / (1 + (count - 1) * math.e)) & (weights <= math.e / (math.e + count - 1))).all()
        mean = torch.einsum("bij,bj...->bi...", weights, other)
        torch.testing.assert_close(fused - own, mean, rtol=1e-10, atol=1e-12)
        assert (mean <= other.amax(1, keepdim=True)).all()
        assert (mean >= other.amin(1, keepdim=True)).all()


def test_the_weights_of_a_channel_sum_to_one(cfformer_golden: Any) -> None:
    block = filled(cfformer_golden)
    u, v = maps(cfformer_golden, 5, 6)
    pattern = cfformer_golden.image("input:pattern", (2, 1, 5, 6))
    torch.testing.assert_close(block(u, pattern.expand_as(v))[0], u + pattern)
    torch.testing.assert_close(block(pattern.expand_as(u), v)[1], v + pattern)


def test_places_in_space_are_interchangeable(cfformer_golden: Any) -> None:
    block = filled(cfformer_golden)
    u, v = maps(cfformer_golden, 5, 6)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(0))

    def shuffled(x: torch.Tensor) -> torch.Tensor:
        return x.flatten(2)[:, :, order].view_as(x)

    for found, expected in zip(block(shuffled(u), shuffled(v)), block(u, v), strict=True):
        torch.testing.assert_close(found, shuffled(expected), rtol=1e-12, atol=1e-12)


def test_a_third_axis_of_one_changes_nothing(cfformer_golden: Any) -> None:
    block = filled(cfformer_golden)
    u, v = maps(cfformer_golden, 5, 6)
    for found, expected in zip(block(u.unsqueeze(2), v.unsqueeze(2)), block(u, v), strict=True):
        torch.testing.assert_close(found.squeeze(2), expected, rtol=EXACT, atol=EXACT)


def test_samples_do_not_mix_and_both_maps_reach_both(cfformer_golden: Any) -> None:
    block = filled(cfformer_golden)
    u, v = (x.requires_grad_() for x in maps(cfformer_golden, 3, 4))
    for fused in block(u, v):
        gradients = torch.autograd.grad(fused[0].square().sum(), (u, v), retain_graph=True)
        assert all(gradient[0].abs().min() > 0 for gradient in gradients)
        assert all(gradient[1].abs().max() == 0 for gradient in gradients)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_keeps_the_attention_in_float32(cfformer_golden: Any, dtype: torch.dtype) -> None:
    block = filled(cfformer_golden).float()
    u, v = (x.float() for x in maps(cfformer_golden, 40, 40))
    seen: list[torch.dtype] = []
    for layer in block.children():
        layer.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    exact = block(u, v)
    seen.clear()
    with torch.autocast("cpu", dtype=dtype):
        # maps as convolutions leave them; 60,000 is near the end of float16, a sum over space beyond it
        rounded = block(u.to(dtype), v.to(dtype))
        large = block((u.abs() + 3e4).to(dtype), (v.abs() + 3e4).to(dtype))
    assert seen == [torch.float32] * 8
    for found, expected in zip(rounded, exact, strict=True):
        assert found.dtype == dtype
        torch.testing.assert_close(found.float(), expected, rtol=0.02, atol=0.02)
    assert all(torch.isfinite(x).all() for x in large)


def test_every_parameter_learns(cfformer_golden: Any) -> None:
    block = filled(cfformer_golden)
    u_fused, v_fused = block(*maps(cfformer_golden, 5, 6))
    (u_fused.square().sum() + v_fused.square().sum()).backward()
    assert [name for name, parameter in block.named_parameters() if parameter.grad.abs().max() == 0] == []
