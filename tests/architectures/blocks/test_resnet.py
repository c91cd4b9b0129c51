"""ResNet-34 against timm's numbers, keys and timm itself; basic blocks of a plan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.residual_level import residual_level
from nnunet_ext.architectures.blocks.resnet import ResNet

EXACT = 1e-12


def resnet34(channels: int = 3) -> ResNet:
    return ResNet(channels, 2, 64, (64, 128, 256, 512), (3, 4, 6, 3), [(2, 2)] * 5)


def maps_of(network: ResNet, image: torch.Tensor) -> list[torch.Tensor]:
    """Stem, pooled, and the four stages."""
    fine = network.stem(image)
    found = [fine, network.maxpool(fine)]
    for stage in network.layers:
        found.append(stage(found[-1]))
    return found


@pytest.mark.parametrize("channels", [3, 1])
def test_maps_equal_timms_numbers(cfformer_golden: Any, channels: int) -> None:
    case = cfformer_golden.load("resnet34_timm")[f"in{channels}"]
    network = resnet34(channels).double().eval()
    network.load_state_dict(cfformer_golden.filled(network.state_dict()))
    with torch.no_grad():
        fine, pooled, *stages = maps_of(network, cfformer_golden.image(case["input"], case["shape"]))
    assert cfformer_golden.error(pooled, case["maxpool"]) < EXACT
    for number, (found, expected) in enumerate(zip([fine, *stages], case["features"], strict=True)):
        assert cfformer_golden.error(found, expected) < EXACT, f"feature {number}"


def test_equals_timm_itself_in_training_too() -> None:
    timm = pytest.importorskip("timm.models.resnet")
    torch.manual_seed(0)
    theirs = timm.ResNet(timm.BasicBlock, [3, 4, 6, 3], num_classes=0, zero_init_last=False).double().train()
    ours = resnet34().double().train()
    ours.load_state_dict(theirs.state_dict())
    image = torch.randn(2, 3, 64, 32, dtype=torch.float64)
    for mode in (True, False):
        expected = theirs.train(mode).forward_features(image)
        found = maps_of(ours.train(mode), image)[-1]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    found.sum().backward()
    assert torch.equal(ours.bn1.running_var, theirs.bn1.running_var)


def test_keys_are_timms() -> None:
    with torch.device("meta"):
        keys = set(resnet34().state_dict())
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    expected = {"conv1.weight", *(f"bn1.{name}" for name in norm)}
    for stage, blocks in enumerate((3, 4, 6, 3), start=1):
        for block in range(blocks):
            path = f"layer{stage}.{block}"
            expected |= {f"{path}.conv{i}.weight" for i in (1, 2)} | {f"{path}.bn{i}.{n}" for i in (1, 2) for n in norm}
            if stage > 1 and block == 0:
                expected |= {f"{path}.downsample.0.weight", *(f"{path}.downsample.1.{name}" for name in norm)}
    assert keys == expected


@pytest.mark.parametrize(("channels", "count"), [(1, 21_278_400), (3, 21_284_672), (4, 21_287_808), (7, 21_297_216)])
def test_parameter_counts(channels: int, count: int) -> None:
    with torch.device("meta"):
        network = resnet34(channels)
    assert sum(parameter.numel() for parameter in network.parameters()) == count
    if channels == 3:
        parts = [sum(p.numel() for p in stage.parameters()) for stage in network.layers]
        assert parts == [221_952, 1_116_416, 6_822_400, 13_114_368]


def test_strides_of_a_volume_may_differ_by_axis() -> None:
    network = ResNet(2, 3, 4, (4, 8, 8, 8), (1, 1, 1, 1), [(1, 2, 2), (2, 2, 2), (1, 2, 2), (2, 1, 1), (1, 1, 1)])
    shapes = [tuple(x.shape[2:]) for x in maps_of(network.eval(), torch.randn(1, 2, 8, 16, 24))]
    assert shapes == [(8, 8, 12), (4, 4, 6), (4, 4, 6), (4, 2, 3), (2, 2, 3), (2, 2, 3)]
    assert isinstance(network.layers[0][0].downsample, nn.Identity)
    assert isinstance(network.layers[3][0].downsample, nn.Identity), "neither stride nor width changes"


LAYERS = LayerPlan(
    nn.Conv3d, True, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True}
)


def test_levels_of_a_plan_project_where_stride_or_width_change() -> None:
    wider = residual_level(LAYERS, 2, 4, 8, (1, 3, 3), (1, 1, 1))
    strided = residual_level(LAYERS, 1, 8, 8, (3, 3, 3), (1, 2, 2))
    same = residual_level(LAYERS, 2, 8, 8, (3, 3, 3), (1, 1, 1))
    projections = [[type(block.projection) for block in level] for level in (wider, strided, same)]
    assert projections == [[nn.Sequential, nn.Identity], [nn.Sequential], [nn.Identity, nn.Identity]]
    x = torch.randn(1, 4, 3, 6, 6)
    assert wider(x).shape == (1, 8, 3, 6, 6)
    assert strided(wider(x)).shape == (1, 8, 3, 3, 3)
    assert wider[0].projection[0].bias is None


def test_a_block_of_a_plan_leaves_its_input_as_it_is_and_adds_it() -> None:
    torch.manual_seed(0)
    block = residual_level(LAYERS, 1, 8, 8, (3, 3, 3), (1, 1, 1))[0]
    x = torch.randn(2, 8, 3, 4, 5)
    before = x.clone()
    nn.init.zeros_(block.norm2.weight)
    assert torch.equal(block(x), nn.functional.leaky_relu(before, 0.01))
    assert torch.equal(x, before)
