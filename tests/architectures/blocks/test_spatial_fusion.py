"""Crossed convolutions against scalar loops, and their forms."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.spatial_fusion import SpatialFusion

EXACT = 1e-12
BARE = {
    2: LayerPlan(nn.Conv2d, True, nn.BatchNorm2d, nonlin=nn.ReLU),
    3: LayerPlan(nn.Conv3d, True, nn.BatchNorm3d, nonlin=nn.ReLU),
}


def published(dimension: int, u_channels: int, v_channels: int, channels: int, **options: Any) -> SpatialFusion:
    return SpatialFusion(BARE[dimension], u_channels, v_channels, channels, [3] * dimension, [5] * dimension, **options)


@pytest.mark.parametrize("dimension", [2, 3])
def test_equals_scalar_loops(cfformer_golden: Any, dimension: int) -> None:
    case = cfformer_golden.load("cfca_xff_numpy")[f"{dimension}d"]
    u = cfformer_golden.image(case["u_input"], case["u_shape"])
    v = cfformer_golden.image(case["v_input"], case["v_shape"])
    block = published(dimension, 4, 8, case["xff"]["ck"]).double()
    block.load_state_dict(cfformer_golden.filled(block.state_dict(), case["xff"]["prefix"]))
    joined: list[torch.Tensor] = []
    block.out.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    assert cfformer_golden.error(block(u, v), case["xff"]["on_raw_inputs"]) < EXACT
    assert cfformer_golden.error(joined[0][:, :8], case["xff"]["v_skip"]) < EXACT
    assert cfformer_golden.error(joined[0][:, 8:], case["xff"]["u_skip"]) < EXACT
    exchange = ChannelExchange(4, 8).double()
    exchange.load_state_dict(cfformer_golden.filled(exchange.state_dict(), case["cfca"]["prefix"]))
    assert cfformer_golden.error(block(*exchange(u, v)), case["xff"]["on_cfca_outputs"]) < EXACT


@pytest.mark.parametrize(("dimension", "crossed", "last"), [(2, 25 + 9, 9), (3, 125 + 27, 27)])
@pytest.mark.parametrize("channels", [64, 32])
def test_the_published_form_is_three_convolutions_with_bias(
    dimension: int, crossed: int, last: int, channels: int
) -> None:
    with torch.device("meta"):
        block = published(dimension, 64, 128, channels)
    assert set(block.state_dict()) == {f"{n}.{k}" for n in ("u_to_v", "v_to_u", "out") for k in ("weight", "bias")}
    expected = crossed * 64 * 128 + last * 192 * channels + 192 + channels
    assert sum(parameter.numel() for parameter in block.parameters()) == expected
    if (dimension, channels) == (2, 64):
        assert expected == 389_376


def test_norm_and_nonlinearity_follow_the_last_convolution_alone() -> None:
    layers = LayerPlan(
        nn.Conv2d, False, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}
    )
    block = SpatialFusion(layers, 4, 8, 6, [3, 3], [5, 5], norm_act=True)
    u, v = torch.randn(2, 4, 7, 5), torch.randn(2, 8, 7, 5)
    crossed = torch.cat((block.u_to_v(u) + v, block.v_to_u(v) + u), 1)
    expected = nn.functional.leaky_relu(nn.functional.instance_norm(block.out(crossed)), 0.01)
    torch.testing.assert_close(block(u, v), expected)
    assert block.out.bias is None, "the plan's"
    assert block.u_to_v.bias is not None
    assert block.v_to_u.bias is not None


def test_plain_fusion_is_one_convolution_of_both() -> None:
    block = published(2, 4, 8, 6, crossed=False)
    u, v = torch.randn(1, 4, 6, 5), torch.randn(1, 8, 6, 5)
    assert set(block.state_dict()) == {"out.weight", "out.bias"}
    assert torch.equal(block(u, v), block.out(torch.cat((v, u), 1)))


def test_flat_kernels_see_one_slice_and_keep_the_size() -> None:
    block = SpatialFusion(BARE[3], 2, 3, 4, [1, 3, 3], [1, 5, 5])
    u, v = torch.randn(1, 2, 3, 6, 5, requires_grad=True), torch.randn(1, 3, 3, 6, 5, requires_grad=True)
    output = block(u, v)
    assert output.shape == (1, 4, 3, 6, 5)
    for gradient in torch.autograd.grad(output[:, :, 1].square().sum(), (u, v)):
        assert gradient[:, :, 1].abs().max() > 0
        assert gradient[:, :, [0, 2]].abs().max() == 0


def test_inputs_are_left_as_they_are() -> None:
    block = published(2, 4, 8, 6)
    u, v = torch.randn(1, 4, 6, 5), torch.randn(1, 8, 6, 5)
    before = u.clone(), v.clone()
    block(u, v)
    assert torch.equal(u, before[0])
    assert torch.equal(v, before[1])
