"""nnU-Net's decoder without its encoder, against that of dynamic-network-architectures with the same weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet

from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.unet_decoder import UNetDecoder

# name -> changes of the plan, image size
PLANS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "2d": ({"dimension": 2, "n_stages": 4, "n_conv_per_stage_decoder": [1, 2, 3]}, (16, 24)),
    "3d": ({"dimension": 3, "n_stages": 3, "conv_bias": False}, (8, 4, 12)),
    "anisotropic": (
        {
            "dimension": 3,
            "n_stages": 3,
            "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        },
        (6, 8, 12),
    ),
}
LAYERS = ("conv_op", "conv_bias", "norm_op", "norm_op_kwargs", "dropout_op", "dropout_op_kwargs", "nonlin")


def own_decoder(plan: dict[str, Any], deep_supervision: bool, **changes: Any) -> UNetDecoder:
    layers = LayerPlan(**{name: plan[name] for name in (*LAYERS, "nonlin_kwargs")})
    arguments = {
        "features": plan["features_per_stage"],
        "kernels": plan["kernel_sizes"],
        "strides": plan["strides"],
        "convs": plan["n_conv_per_stage_decoder"],
        "num_classes": plan["num_classes"],
        "deep_supervision": deep_supervision,
    }
    return UNetDecoder(layers, **{**arguments, **changes})


@pytest.mark.parametrize("deep_supervision", [True, False])
@pytest.mark.parametrize("name", PLANS)
def test_equals_nnunets_decoder_with_the_same_weights(name: str, deep_supervision: bool, plan_arguments: Any) -> None:
    changes, size = PLANS[name]
    plan = plan_arguments(**changes)
    torch.manual_seed(0)
    unet = PlainConvUNet(**plan, deep_supervision=deep_supervision).double().eval()
    unet.apply(PlainConvUNet.initialize)
    decoder = own_decoder(plan, deep_supervision).double().eval()
    weights = {key: value for key, value in unet.decoder.state_dict().items() if not key.startswith("encoder.")}
    # Each convolution stands there twice, under its own name and under that of a sequence.
    assert set(decoder.state_dict()) == set(weights)
    decoder.load_state_dict(weights)
    skips = unet.encoder(torch.randn(2, plan["input_channels"], *size, dtype=torch.float64))
    expected, found = unet.decoder(skips), decoder(skips)
    if not deep_supervision:
        expected, found = [expected], [found]
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert torch.equal(a, b)


def test_a_level_of_zero_channels_has_no_skip_and_keeps_its_width(plan_arguments: Any) -> None:
    plan = plan_arguments(dimension=2)
    decoder = own_decoder(plan, True, features=[0, 16, 32], widths=[8, 16])
    skips = [None, torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)]
    fine, coarse = decoder(skips)
    assert fine.shape == (1, 3, 16, 16)
    assert coarse.shape == (1, 3, 8, 8)
    fine.sum().backward()
    assert decoder.stages[-1].convs[0].conv.weight.shape[:2] == (8, 8)
    with pytest.raises(RuntimeError, match="channels"):
        decoder([torch.randn(1, 8, 16, 16), *skips[1:]])


def test_skips_of_other_widths_than_the_levels_fit(plan_arguments: Any) -> None:
    plan = plan_arguments(dimension=3)
    decoder = own_decoder(plan, False, features=[4, 20, 36], widths=[8, 16])
    skips = [torch.randn(1, 4, 4, 8, 4), torch.randn(1, 20, 2, 4, 2), torch.randn(1, 36, 1, 2, 1)]
    assert decoder(skips).shape == (1, 3, 4, 8, 4)
    assert [up.out_channels for up in decoder.transpconvs] == [16, 8]


def test_lists_of_other_lengths_are_refused(plan_arguments: Any) -> None:
    plan = plan_arguments(dimension=2)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        own_decoder(plan, True, convs=[2])
    decoder = own_decoder(plan, True)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        decoder([torch.randn(1, 16, 8, 8), torch.randn(1, 32, 4, 4)])


@pytest.mark.parametrize("name", PLANS)
def test_upsample_last_convolves_and_narrows_before_it_up_samples(name: str, plan_arguments: Any) -> None:
    """The order of CFFormer's authors, written out here level by level."""
    changes, size = PLANS[name]
    plan = plan_arguments(**changes)
    torch.manual_seed(0)
    decoder = own_decoder(plan, True, upsample_last=True).double()
    features, strides = plan["features_per_stage"], plan["strides"]
    skips, edges = [], list(size)
    for width, stride in zip(features, strides, strict=True):
        edges = [edge // step for edge, step in zip(edges, stride, strict=True)]
        skips.append(torch.randn(2, width, *edges, dtype=torch.float64))
    *above, x = skips
    expected = []
    x = decoder.stages[0](x)
    for number, skip in enumerate(reversed(above)):
        x = decoder.transpconvs[number](x)
        assert x.shape == skip.shape, "as wide as the skip that it meets"
        x = decoder.stages[number + 1](torch.cat((skip, x), dim=1))
        expected.insert(0, decoder.seg_layers[number](x))
    for found, wanted in zip(decoder(skips), expected, strict=True):
        assert torch.equal(found, wanted)
    for number, stage in enumerate(decoder.stages):
        *first, last = [block.conv.out_channels for block in stage.convs]
        entering = stage.convs[0].conv.in_channels
        assert first == [entering] * len(first), "all but the last convolution keep what enters"
        assert last == features[max(0, len(features) - 2 - number)]
    torch.stack([output.square().mean() for output in decoder(skips)]).sum().backward()
    assert [key for key, parameter in decoder.named_parameters() if parameter.grad is None] == []


def test_a_single_head_is_that_of_the_finest_level(plan_arguments: Any) -> None:
    plan = plan_arguments(dimension=2)
    decoder = own_decoder(plan, False, single_head=True)
    skips = [torch.randn(1, width, 16 // 2**level, 16) for level, width in enumerate(plan["features_per_stage"])]
    skips = [skip[..., : 16 // 2**level] for level, skip in enumerate(skips)]
    assert [head.in_channels for head in decoder.seg_layers] == [plan["features_per_stage"][0]]
    assert decoder(skips).shape == (1, 3, 16, 16)
