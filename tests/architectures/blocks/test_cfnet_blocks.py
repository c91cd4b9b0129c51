"""The four blocks of CFNet: golden numbers of the published forms, and what the self-configuring forms promise."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.bottleneck_up import BottleneckUp
from nnunet_ext.architectures.blocks.channel_context import MAX_TEMPERATURE, ChannelContext
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.modality_fusion import ModalityFusion, heads_for
from nnunet_ext.architectures.blocks.multi_scale_context import DILATIONS, MultiScaleContext
from nnunet_ext.architectures.cfnet_weights import published_names

PUBLISHED = LayerPlan(nn.Conv2d, conv_bias=True, norm_op=nn.BatchNorm2d, nonlin=nn.ReLU)
LIFTED = replace(PUBLISHED, conv_op=nn.Conv3d, norm_op=nn.BatchNorm3d)
OWN = LayerPlan(
    nn.Conv3d, True, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}
)

# golden case -> block in its published form, prefix of its keys in the network, prefix of the published ones
UNITS: dict[str, tuple[Callable[[LayerPlan], nn.Module], str, str]] = {
    "fusion_c16_h2": (lambda layers: ModalityFusion(layers, 16, 16, 2, token_sum=True), "fusions.0.", "modules.0."),
    "fusion_c32_h4": (lambda layers: ModalityFusion(layers, 32, 32, 4, token_sum=True), "fusions.0.", "modules.0."),
    "comm_8_16": (
        lambda layers: GatedCommunication(layers, 8, 16, flat(layers, 3), rectified_gate=True),
        "communications.0.",
        "multi_modal_process1.",
    ),
    "up_32_12": (
        lambda layers: BottleneckUp(layers, 32, 12, flat(layers, 2), overlapping=True),
        "ups.0.",
        "decoder3.",
    ),
}


def flat(layers: LayerPlan, size: int) -> tuple[int, ...]:
    """``size`` in the plane, 1 along a depth axis."""
    return (1,) * (layers.dimension - 2) + (size, size)


def published_unit(golden: Any, name: str) -> nn.Module:
    make, own_prefix, published_prefix = UNITS[name]
    block = make(PUBLISHED).double()
    names = published_names(own_prefix + key for key in block.state_dict())
    keys = {key: names[own_prefix + key].removeprefix(published_prefix) for key in block.state_dict()}
    expected = golden.numbers["unit_cases"][name]["keys"]
    assert {published: list(block.state_dict()[key].shape) for key, published in keys.items()} == expected
    weights = {key: golden.fill(f"{name}.{published}", expected[published]) for key, published in keys.items()}
    block.load_state_dict({key: torch.as_tensor(values) for key, values in weights.items()})
    return block


def unit_inputs(golden: Any, name: str) -> list[torch.Tensor]:
    shapes = golden.numbers["unit_cases"][name]["input_shapes"]
    return [golden.image(f"unit:{name}:input{i}", shape) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("name", UNITS)
def test_published_form_gives_the_golden_output_and_input_gradients(
    name: str, mode: str, golden: Any, relative_error: Any
) -> None:
    block = published_unit(golden, name).train(mode == "train")
    inputs = [x.requires_grad_() for x in unit_inputs(golden, name)]
    output = block(*inputs)
    assert relative_error(output, golden.outputs[f"unit_{name}_{mode}"]) < 1e-9
    output.square().mean().backward()
    # batch norm in training mode makes the fusion's gradients differences of nearly equal numbers
    tolerance = 1e-6 if mode == "train" and name.startswith("fusion") else 1e-9
    expected = golden.numbers["unit_cases"][name][f"{mode}_input_grad_abs_sum"]
    assert [x.grad.abs().sum().item() for x in inputs] == pytest.approx(expected, rel=tolerance)


def lifted_state_dict(block: nn.Module) -> dict[str, torch.Tensor]:
    """2D kernels k x k as 1 x k x k."""
    return {key: x.unsqueeze(2) if x.ndim == 4 else x for key, x in block.state_dict().items()}


@pytest.mark.parametrize("name", UNITS)
def test_in_3d_at_depth_one_equals_2d(name: str, golden: Any, relative_error: Any) -> None:
    block = published_unit(golden, name).eval()
    lifted = UNITS[name][0](LIFTED).double().eval()
    lifted.load_state_dict(lifted_state_dict(block))
    inputs = unit_inputs(golden, name)
    assert relative_error(lifted(*(x.unsqueeze(2) for x in inputs)).squeeze(2), block(*inputs)) < 1e-12


def test_multi_scale_context_in_3d_at_depth_one_equals_2d(relative_error: Any) -> None:
    torch.manual_seed(0)
    block = MultiScaleContext(PUBLISHED, 32, 3).double().eval()
    lifted = MultiScaleContext(LIFTED, 32, (1, 3, 3)).double().eval()
    lifted.load_state_dict(lifted_state_dict(block))
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    assert relative_error(lifted(x.unsqueeze(2)).squeeze(2), block(x)) < 1e-12


@pytest.mark.parametrize("token_sum", [True, False])
def test_fusion_does_not_see_how_tokens_lie_in_space(token_sum: bool, relative_error: Any) -> None:
    torch.manual_seed(0)
    block = ModalityFusion(PUBLISHED, 16, 16, 2, token_sum=token_sum).double().eval()
    lifted = ModalityFusion(LIFTED, 16, 16, 2, token_sum=token_sum).double().eval()
    lifted.load_state_dict(lifted_state_dict(block))
    one, two = torch.randn(2, 2, 16, 30, dtype=torch.float64)
    plane = block(one.unflatten(2, (5, 6)), two.unflatten(2, (5, 6))).flatten(2)
    volume = lifted(one.unflatten(2, (5, 3, 2)), two.unflatten(2, (5, 3, 2))).flatten(2)
    assert relative_error(volume, plane) < 1e-12


@pytest.mark.parametrize(("width", "out", "heads"), [(32, 64, 1), (64, 128, 2), (160, 320, 5), (8, 16, 1)])
def test_fusion_has_the_parameters_of_its_formula(width: int, out: int, heads: int) -> None:
    with torch.device("meta"):
        block = ModalityFusion(OWN, width, out, heads)
    w, o, h = width, out, heads
    expected = 2 * (w * w + w) + 4 * w * w + (w * w + w) + 2 * w + 2 * h + 2 * w * o + (2 * w * o + o) + 4 * o
    assert sum(p.numel() for p in block.parameters()) == expected


def test_heads_are_the_largest_divisor_that_keeps_32_channels_each() -> None:
    assert {width: heads_for(width) for width in (8, 16, 32, 48, 64, 100, 128, 160, 256)} == {
        8: 1, 16: 1, 32: 1, 48: 1, 64: 2, 100: 2, 128: 4, 160: 5, 256: 8,
    }  # fmt: skip


def test_fusion_refuses_heads_that_do_not_divide() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide 16 channels"):
        ModalityFusion(OWN, 16, 16, 3)


def test_context_is_the_softmax_over_rows_of_scaled_cosines() -> None:
    """Against loops over every head, row, column and token."""
    torch.manual_seed(0)
    context = ChannelContext(2, 3).double()
    with torch.no_grad():
        context.temperature.copy_(torch.tensor([1.5, 150.0]).reshape(2, 1, 1))
    keys, values = torch.randn(2, 1, 2, 7, 3, dtype=torch.float64)
    actual = context(keys, values)[0]
    for head, temperature in enumerate((1.5, MAX_TEMPERATURE)):
        for column in range(3):
            v = values[0, head, :, column].tolist()
            logits = []
            for row in range(3):
                k = keys[0, head, :, row].tolist()
                product = sum(a * b for a, b in zip(k, v, strict=True))
                lengths = [math.sqrt(sum(a * a for a in vector) + 1e-6) for vector in (k, v)]
                logits.append(temperature * product / (lengths[0] * lengths[1]))
            weights = [math.exp(logit) for logit in logits]
            expected = [weight / sum(weights) for weight in weights]
            assert actual[head, :, column].tolist() == pytest.approx(expected, rel=1e-12)


def test_context_starts_at_the_square_root_of_the_head_size() -> None:
    assert ChannelContext(2, 16).temperature.flatten().tolist() == [4.0, 4.0]


@pytest.mark.parametrize("repeats", [2, 27])
def test_context_does_not_change_with_the_number_of_tokens(repeats: int) -> None:
    torch.manual_seed(0)
    context = ChannelContext(2, 8)
    keys, values = torch.randn(2, 1, 2, 50, 8)
    once = context(keys, values)
    tiled = context(keys.repeat(1, 1, repeats, 1), values.repeat(1, 1, repeats, 1))
    torch.testing.assert_close(tiled, once, rtol=1e-5, atol=0)


def test_published_context_does_change_with_the_number_of_tokens() -> None:
    """The reason for the other form; also shows that the tests around this one can fail."""
    torch.manual_seed(0)
    context = ChannelContext(2, 8, token_sum=True)
    keys, values = torch.randn(2, 1, 2, 50, 8)
    tiled = context(keys.repeat(1, 1, 27, 1), values.repeat(1, 1, 27, 1))
    assert (tiled - context(keys, values)).abs().max() > 0.1


def test_context_columns_are_positive_and_sum_to_one() -> None:
    torch.manual_seed(0)
    context = ChannelContext(2, 8)(*(1e3 * torch.randn(2, 3, 2, 40, 8)))
    assert (context > 0).all()
    torch.testing.assert_close(context.sum(-2), torch.ones(3, 2, 8))


def test_fusion_reads_a_stream_the_same_whatever_the_scale_of_its_features() -> None:
    torch.manual_seed(0)
    block = ModalityFusion(OWN, 16, 16, 2)
    queries = torch.randn(1, 60, 16).relu()
    torch.testing.assert_close(block._context(0, 10 * queries), block._context(0, queries), rtol=1e-4, atol=1e-6)


def test_context_of_half_precision_tokens_of_a_whole_patch_does_not_overflow() -> None:
    """The sum over 64^3 equal tokens passes the largest float16, 65,504."""
    keys = torch.ones(1, 1, 64**3, 4, dtype=torch.float16)
    for token_sum in (False, True):
        logits = ChannelContext(1, 4, token_sum=token_sum).logits(keys, keys)
        assert logits.dtype == torch.float32
        expected = 64**3 / 2 if token_sum else 2.0
        torch.testing.assert_close(logits, torch.full((1, 1, 4, 4), expected))


@pytest.mark.parametrize("token_sum", [False, True])
def test_context_is_computed_in_float32_under_autocast_and_float64_stays(token_sum: bool) -> None:
    torch.manual_seed(0)
    context = ChannelContext(1, 8, token_sum=token_sum)
    keys, values = torch.randn(2, 1, 1, 100, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = context(keys, values)
    assert torch.equal(inside, context(keys, values)), "autocast changed the products"
    assert context.double()(keys.double(), values.double()).dtype == torch.float64


def test_gate_can_close_and_the_published_one_cannot() -> None:
    for rectified, least in ((False, 0.0), (True, 0.5)):
        block = GatedCommunication(OWN, 8, 16, 3, rectified_gate=rectified).eval()
        with torch.no_grad():
            block.gate[1].bias.fill_(-20.0)
        kept = []
        block.output[0].register_forward_pre_hook(lambda module, inputs, kept=kept: kept.append(inputs[0]))
        skip = torch.randn(1, 8, 4, 4, 4)
        passed = block.skip(skip)
        block(skip, torch.randn(1, 16, 2, 2, 2))
        torch.testing.assert_close(kept[0], least * passed, rtol=1e-6, atol=1e-6)


def test_communication_resizes_the_deep_map_to_any_skip_size() -> None:
    block = GatedCommunication(OWN, 8, 16, (1, 3, 3))
    assert block(torch.randn(1, 8, 3, 8, 6), torch.randn(1, 16, 3, 4, 2)).shape == (1, 8, 3, 8, 6)


@pytest.mark.parametrize("overlapping", [False, True])
def test_up_multiplies_every_axis_by_its_stride(overlapping: bool) -> None:
    block = BottleneckUp(OWN, 16, 12, (1, 2, 3), overlapping=overlapping)
    assert block(torch.randn(1, 16, 3, 4, 2)).shape == (1, 12, 3, 8, 6)
    assert block[0].out_channels == 8, "a quarter of 16 is fewer than the least, 8"


@pytest.mark.parametrize("joint", [False, True])
def test_branch_weights_sum_to_one_per_channel_or_over_all(joint: bool) -> None:
    torch.manual_seed(0)
    block = MultiScaleContext(OWN, 32, 3, joint_softmax=joint)
    weights = block.weights(100 * torch.randn(2, 8))
    assert weights.shape == (2, len(DILATIONS), 8)
    torch.testing.assert_close(weights.sum((1, 2) if joint else 1), torch.ones(2) if joint else torch.ones(2, 8))


def test_branches_see_as_far_as_their_dilation_and_not_along_axes_of_kernel_one() -> None:
    block = MultiScaleContext(replace(OWN, norm_op=None), 32, (1, 3, 3))
    x = torch.zeros(1, 8, 3, 21, 21, requires_grad=True)
    for dilation, branch in zip(DILATIONS, block.branches, strict=True):
        (gradient,) = torch.autograd.grad(branch(x)[0, :, 1, 10, 10].sum(), x)
        seen = gradient.abs().sum((0, 1)) > 0
        assert seen.any((1, 2)).tolist() == [False, True, False]
        reach = (seen[1].any(0).nonzero() - 10).abs().max().item()
        assert reach == 2 + dilation


@pytest.mark.parametrize("size", [(1, 1, 2), (2, 1, 3), (4, 4, 4)])
def test_multi_scale_context_takes_maps_smaller_than_its_kernels(size: tuple[int, ...]) -> None:
    x = torch.randn(1, 32, *size)
    assert MultiScaleContext(OWN, 32, 3)(x).shape == x.shape


def test_dropout_is_the_plans() -> None:
    assert isinstance(MultiScaleContext(OWN, 32, 3).dropout, nn.Identity)
    with_dropout = replace(OWN, dropout_op=nn.Dropout3d, dropout_op_kwargs={"p": 0.3})
    assert MultiScaleContext(with_dropout, 32, 3).dropout.p == 0.3
