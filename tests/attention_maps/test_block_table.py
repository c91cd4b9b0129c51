"""What the table shows of a block is what the block multiplies with: each row against a computation of its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.attention_unet import AttentionUNet
from nnunet_ext.architectures.attention_vnet import AttentionVNet
from nnunet_ext.architectures.blocks.attention import ATTENTION, attention_block
from nnunet_ext.architectures.blocks.attention.class_activation import ClassActivation
from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.modality_fusion import ModalityFusion
from nnunet_ext.architectures.blocks.multi_scale_context import MultiScaleContext
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.attention_maps.block_table import BLOCKS, Kind, row_of
from nnunet_ext.attention_maps.recorder import Recorded, places_of, recording

NETWORKS = {network.__name__: network for network in (AttentionUNet, AttentionVNet, CFFormer, CFNet)}
C, D, H, W = 6, 5, 4, 3
#: attention without maps: that of positions has a number for every pair of voxels, and a transform has no weights
SHOWS_NOTHING = ("position", "stn")


@pytest.fixture(params=[2, 3])
def layers(request: Any) -> LayerPlan:
    names = {2: "2d", 3: "3d"}
    return LayerPlan(
        conv_op=getattr(nn, f"Conv{names[request.param]}"),
        conv_bias=True,
        norm_op=getattr(nn, f"InstanceNorm{names[request.param]}"),
        norm_op_kwargs={"affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={},
    )


@pytest.fixture
def x(layers: LayerPlan) -> torch.Tensor:
    torch.manual_seed(5)
    return torch.randn(1, C, *(D, H, W)[: layers.dimension])


def run(block: nn.Module, *inputs: torch.Tensor) -> tuple[Any, dict[str, Recorded]]:
    """What a block returns, and what it shows, by name."""
    torch.manual_seed(6)
    for parameter in block.parameters():  # no zeros and ones, with which a wrong weight might pass
        nn.init.uniform_(parameter, -1, 1)
    block.eval()
    with torch.no_grad(), recording(places_of(block)) as recorder:
        returned = block(*inputs)
    return returned, {recorded.name: recorded for recorded in recorder.take()}


def seen_by(block: nn.Module, part: str, *inputs: torch.Tensor) -> torch.Tensor:
    """The input of a part of a block while the block runs."""
    seen: list[torch.Tensor] = []
    handle = block.get_submodule(part).register_forward_pre_hook(lambda _, arguments: seen.append(arguments[0].clone()))
    with torch.no_grad():
        block(*inputs)
    handle.remove()
    return seen[0]


def place(layers: LayerPlan, **more: Any) -> dict[str, Any]:
    return {"layers": layers, "channels": C, "depth": D, "classes": 3, "out_channels": C, **more}


def test_channel_weights_are_the_ratio_of_output_and_input(layers, x) -> None:
    returned, shown = run(attention_block("se", place(layers)), x)
    assert list(shown) == ["channels"]
    assert shown["channels"].kind is Kind.CHANNELS
    expected = shown["channels"].values.reshape(1, C, *(1,) * layers.dimension)
    torch.testing.assert_close(returned / x, expected.expand_as(x))


@pytest.mark.parametrize("name", ["slice", "csa", "sca", "pam"])
def test_slice_weights_are_what_the_channel_weights_leave_of_that_ratio(name) -> None:
    torch.manual_seed(5)
    x = torch.randn(1, C, D, H, W)
    returned, shown = run(attention_block(name, {"channels": C, "depth": D}), x)
    ratio = (returned / x).mean((3, 4))[0]  # (C, D), equal over a slice
    if name != "slice":
        ratio = ratio / shown["channels"].values[0].unsqueeze(1)
    torch.testing.assert_close(shown["slices"].values, ratio.mean(0))
    assert shown["slices"].spatial == (D, H, W)
    if name == "pam":
        # key slices: weight at least the mean, by the softmax over slices
        shares = ratio.softmax(-1)
        keys = shares >= shares.mean(-1, keepdim=True)
        torch.testing.assert_close(shown["keys"].values, keys.float().mean(0))
        assert 0 < shown["keys"].values.mean() < 1


@pytest.mark.parametrize("name", ["cbam", "cam", "pe"])
def test_voxel_weights_are_the_ratio_of_output_and_input(name, layers, x) -> None:
    block = attention_block(name, place(layers))
    returned, shown = run(block, x)
    before = x
    if name == "cbam":
        before = x * shown.pop("channels").values.reshape(1, C, *(1,) * layers.dimension)
    torch.testing.assert_close(shown["voxels"].values, (returned / before)[0].mean(0), rtol=1e-4, atol=1e-5)
    assert shown["voxels"].values.std() > 1e-3
    if isinstance(block, ClassActivation):
        for number in range(3):
            expected = (block.weight[number].detach().reshape(-1, *(1,) * layers.dimension) * x[0]).sum(0)
            torch.testing.assert_close(shown[f"class_{number}"].values, expected)


def test_project_excite_without_hidden_units_shows_channel_weights(x, layers) -> None:
    block = attention_block("pe", place(layers), reduction=2 * C, clamp_hidden=False)
    returned, shown = run(block, x)
    torch.testing.assert_close((returned / x).flatten(2).mean(-1), shown["channels"].values)


def test_a_gate_is_what_the_last_convolution_sees_over_the_skip(layers, x) -> None:
    stride = (2,) * layers.dimension
    gate = attention_block("gate", place(layers, gate_channels=4, stride=stride))
    coarse = torch.randn(1, 4, *(-(-size // 2) for size in x.shape[2:]))
    _, shown = run(gate, x, coarse)
    ratio = seen_by(gate, "out", x, coarse) / x
    torch.testing.assert_close(ratio[0, 0], shown["gate"].values)
    torch.testing.assert_close(ratio[0, 3], shown["gate"].values)


def test_a_matrix_of_channels_gives_what_is_added_to_the_map(layers, x) -> None:
    returned, shown = run(attention_block("channel", {}), x)
    added = shown["matrix"].values[0] @ x[0].flatten(1)
    torch.testing.assert_close((returned - x)[0].flatten(1), added, rtol=1e-4, atol=1e-4)


def test_candidates_of_split_attention_sum_to_its_output(layers, x) -> None:
    block = attention_block("split", place(layers))
    returned, shown = run(block, x)
    with torch.no_grad():
        candidates = block.activation(block.norm(block.conv(x))).unflatten(1, (2, C))[0]
    weights = shown["channels"].values
    assert weights.shape == (2, C)
    expected = sum(candidates[r] * weights[r].reshape(-1, *(1,) * layers.dimension) for r in range(2))
    torch.testing.assert_close(returned[0], expected)
    assert shown["channels"].spatial == tuple(x.shape[2:])


def test_both_matrices_of_the_exchange_give_what_is_added_to_the_maps(x) -> None:
    v = torch.randn(1, 4, *x.shape[2:])
    (u_fused, v_fused), shown = run(ChannelExchange(C, 4), x, v)
    flat_u, flat_v = x[0].flatten(1), v[0].flatten(1)
    torch.testing.assert_close((u_fused - x)[0].flatten(1), shown["to_convolutional"].values[0] @ flat_v)
    torch.testing.assert_close((v_fused - v)[0].flatten(1), shown["to_transformer"].values[0] @ flat_u)
    assert shown["to_convolutional"].values.shape == (1, C, 4)
    assert (shown["to_transformer"].values.sum(-1) - 1).abs().max() < 1e-5, "every row sums to 1"


def test_contexts_and_messages_of_the_fusion_are_those_that_it_adds(layers, x) -> None:
    other = torch.randn_like(x)
    block = ModalityFusion(layers, C, 8, heads=2)
    _, shown = run(block, x, other)
    tokens = x[0].flatten(1).T
    message = seen_by(block, "project", x, other)[0] - tokens
    strength = message.square().mean(-1).sqrt().reshape(x.shape[2:])
    torch.testing.assert_close(shown["message_1"].values, strength, rtol=1e-4, atol=1e-5)
    # encoder one reads the context of encoder two, head by head
    queries = block.queries[0](tokens).relu().detach().unflatten(1, (2, C // 2))
    read = torch.einsum("nhc,hcd->nhd", queries, shown["context_2"].values).flatten(1)
    torch.testing.assert_close(read, message, rtol=1e-4, atol=1e-5)
    assert (shown["context_1"].values.sum(1) - 1).abs().max() < 1e-5, "every column sums to 1"


def test_branches_of_the_context_module_are_added_with_the_weights_shown(layers, x) -> None:
    block = MultiScaleContext(layers, C, 3)
    _, shown = run(block, x)
    with torch.no_grad():
        branches = [branch(block.reduce(x))[0] for branch in block.branches]
    weights = shown["channels"].values
    mixed = sum(
        branch * weight.reshape(-1, *(1,) * layers.dimension) for branch, weight in zip(branches, weights, strict=True)
    )
    torch.testing.assert_close(seen_by(block, "activation", x)[0], mixed)


@pytest.mark.parametrize("rectified", [False, True])
def test_the_gate_of_the_communication_is_what_its_output_sees_over_the_skip(layers, x, rectified) -> None:
    coarse = torch.randn(1, 4, *(-(-size // 2) for size in x.shape[2:]))
    block = GatedCommunication(layers, C, 4, 3, rectified_gate=rectified)
    _, shown = run(block, x, coarse)
    with torch.no_grad():
        skip = block.skip(x)
    ratio = seen_by(block, "output.0", x, coarse) / skip
    torch.testing.assert_close(shown["gate"].values, ratio[0].mean(0), rtol=1e-3, atol=1e-4)


@pytest.fixture
def make_network(small_plans) -> Callable[..., nn.Module]:
    """A small network of ours from plans."""
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    from nnunet_ext.planning.from_plans import from_configuration

    def make(name: str, dimension: int, **options: Any) -> nn.Module:
        plans = PlansManager(small_plans("Dataset501_Toy", n_stages=4))
        configuration = plans.get_configuration("2d" if dimension == 2 else "3d_fullres")
        return from_configuration(NETWORKS[name], configuration, 2, 3, False, **options)

    return make


def test_every_row_has_a_network(make_network) -> None:
    variants = [("CFNet", {}), ("CFFormer", {}), *[("AttentionUNet", {"attention": name}) for name in ATTENTION]]
    shown = {row_of(module) for name, options in variants for module in make_network(name, 2, **options).modules()}
    assert {row.block.__name__ for row in BLOCKS if row not in shown} == set()


def test_a_block_within_another_of_its_row_is_no_place_of_its_own(make_network) -> None:
    names = [place.name for place in places_of(make_network("AttentionUNet", 3, attention="pam"))]
    assert names
    assert not [name for name in names for other in names if name.startswith(f"{other}.")]


@pytest.mark.parametrize("name", [name for name in ATTENTION if name not in SHOWS_NOTHING])
def test_every_attention_of_the_unet_shows_something(make_network, name) -> None:
    network = make_network("AttentionUNet", 3, attention=name).eval()
    with torch.no_grad(), recording(places_of(network)) as recorder:
        network(torch.randn(1, 2, 16, 16, 16))
    found = recorder.take()
    assert found
    for recorded in found:
        assert recorded.place.row.explained(recorded.name)
        assert torch.isfinite(recorded.values).all()


@pytest.mark.parametrize("name", SHOWS_NOTHING)
def test_attention_without_weights_shows_nothing(make_network, name) -> None:
    assert places_of(make_network("AttentionUNet", 2, attention=name)) == {}


def test_every_row_is_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "attention.md").read_text(encoding="utf-8")
    assert [row.block.__name__ for row in BLOCKS if f"`{row.block.__name__}`" not in page] == []
