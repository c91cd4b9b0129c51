"""The self-configuring U-Net and V-Net with attention, for every attention of the table."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from torch import nn

from nnunet_ext.architectures.attention_unet import AttentionUNet
from nnunet_ext.architectures.attention_vnet import AttentionVNet
from nnunet_ext.architectures.blocks.attention import ATTENTION, Placement
from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.planning import gpu
from nnunet_ext.planning.memory import measure_sample

BEHIND_STAGES = [name for name, row in ATTENTION.items() if row.placement in (Placement.STAGE, Placement.DEEPEST)]
EVERY = [(AttentionUNet, name) for name in ("none", *ATTENTION)]
EVERY += [(AttentionVNet, name) for name in ("none", *BEHIND_STAGES, "gate")]
each = pytest.mark.parametrize(("network", "name"), EVERY, ids=lambda value: getattr(value, "__name__", value))
both = pytest.mark.parametrize("network", [AttentionUNet, AttentionVNet])
PATCHES = {2: (16, 24), 3: (6, 16, 8)}


@pytest.fixture
def plan_for(plan_arguments: Any) -> Any:
    """``plan_for(dimension)``: three stages with deep supervision, in 3D anisotropic."""

    def make(dimension: int, **changes: Any) -> dict[str, Any]:
        arguments = {"features": [8, 12, 16], "deep_supervision": True}
        if dimension == 3:
            arguments["strides"] = [[1, 1, 1], [1, 2, 2], [2, 2, 2]]
            arguments["kernel_sizes"] = [[1, 3, 3], [1, 3, 3], [3, 3, 3]]
            arguments["patch_size"] = PATCHES[3]
        return plan_arguments(dimension, **{**arguments, **changes})

    return make


def image_of(dimension: int, batch: int = 2, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch, 2, *PATCHES[dimension], dtype=dtype, generator=torch.Generator().manual_seed(1))


def loss_of(outputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([x.square().mean() for x in (outputs if isinstance(outputs, list) else [outputs])]).sum()


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("dimension", [2, 3])
@each
def test_every_attention_trains_and_mixes_no_samples(network: Any, name: str, dimension: int, plan_for: Any) -> None:
    torch.manual_seed(0)
    built = network(attention=name, **plan_for(dimension)).double()
    image = image_of(dimension)
    outputs = built(image)
    sizes = [tuple(image.shape[2:]), tuple(s // (1 if a == 0 and dimension == 3 else 2) for a, s in
             enumerate(image.shape[2:]))]  # fmt: skip
    assert [tuple(x.shape) for x in outputs] == [(2, 3, *size) for size in sizes]
    loss_of(outputs).backward()
    for key, parameter in built.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
    built.eval()
    with torch.no_grad():
        together, alone = built(image), [built(sample.unsqueeze(0)) for sample in image]
        built.decoder.deep_supervision = False
        assert torch.equal(built(image), together[0]), "evaluation and the flag change no numbers"
    for level, parts in enumerate(zip(*alone, strict=True)):
        torch.testing.assert_close(together[level], torch.cat(parts), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(together[level], outputs[level].detach(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["pam", "cbam", "split", "se_residual", "gate"])
@both
def test_recomputation_changes_neither_results_nor_gradients(network: Any, name: str, plan_for: Any) -> None:
    if network is AttentionVNet and name in ("split", "se_residual"):
        pytest.skip("stands behind no stage")
    torch.manual_seed(0)
    again = network(attention=name, gate=True, **plan_for(3)).double()
    once = network(attention=name, gate=True, recompute=False, **plan_for(3)).double()
    once.load_state_dict(again.state_dict())
    for built in (again, once):
        loss_of(built(image_of(3))).backward()
    for (key, a), (_, b) in zip(again.named_parameters(), once.named_parameters(), strict=True):
        assert torch.equal(a.grad, b.grad), key


@each
def test_training_keeps_at_most_a_fifth_more_than_nnunets_network(network: Any, name: str, plan_arguments: Any) -> None:
    """On nnU-Net's default topology for BraTS, optimizer included."""
    plan = plan_arguments(3, 6, [32, 64, 128, 256, 320, 320], deep_supervision=True)

    def bytes_of(build: Any) -> int:
        with torch.device("meta"):
            case = measure_sample(build(), (2, 128, 128, 128), dtype=torch.float16, multiply_adds=False)
        return gpu.training_bytes(case, batch_size=2)

    own = bytes_of(lambda: network(attention=name, patch_size=(128, 128, 128), **plan))
    assert own <= 1.2 * bytes_of(lambda: PlainConvUNet(**plan))


def test_parameters_are_those_of_the_design(plan_arguments: Any) -> None:
    plan = plan_arguments(3, 6, [32, 64, 128, 256, 320, 320])

    def count(**options: Any) -> int:
        with torch.device("meta"):
            return parameters_of(AttentionUNet(**options, **plan))

    with torch.device("meta"):
        plain = parameters_of(PlainConvUNet(**plan))
    patch = {"patch_size": (128, 128, 128)}
    assert count(attention="none") == plain
    assert count(attention="se") - plain == 122480
    assert count(attention="se", channel_reduction=4) - plain == 243040
    for reduction, slices in ((4, 1055040), (8, 548544), (16, 300736)):
        assert count(attention="slice", slice_reduction=reduction, **patch) - plain == slices
        assert count(attention="pam", slice_reduction=reduction, **patch) - plain == slices + 122480
    assert count(attention="pam", **patch) == count(attention="pam", patch_size=(128, 64, 96))
    anisotropic = {"strides": [[1, 1, 1]] + [[1, 2, 2]] * 2 + [[2, 2, 2]] + [[2, 2, 2]] + [[1, 2, 2]]}
    plan |= anisotropic
    assert count(attention="slice", slice_reduction=8, patch_size=(20, 256, 256)) - count(attention="none") == 76928


@both
def test_slices_of_every_stage_follow_the_patch(network: Any, plan_for: Any) -> None:
    def depths(built: nn.Module) -> list[int]:
        return [module.depth for module in built.modules() if isinstance(module, SliceAttention)]

    deepest = [] if network is AttentionVNet else [3]
    assert depths(network(**plan_for(3))) == [6, 6, *deepest, 6, 6]
    nominal = network(**plan_for(3, patch_size=None)).double()
    assert depths(nominal) == [64, 64, *([32] if deepest else []), 64, 64]
    assert nominal(image_of(3))[0].shape == (2, 3, *PATCHES[3])
    other_depth = network(**plan_for(3)).double()(image_of(3).repeat(1, 1, 2, 1, 1))
    assert all(torch.isfinite(output).all() for output in other_depth)


@both
def test_in_2d_slice_attention_is_the_identity_and_has_no_weights(network: Any, plan_for: Any) -> None:
    plan = plan_for(2, patch_size=PATCHES[2])
    torch.manual_seed(0)
    sliced = network(attention="slice", **plan).double()
    plain = network(attention="none", **plan).double()
    assert parameters_of(sliced) == parameters_of(plain)
    plain.load_state_dict(dict(zip(plain.state_dict(), sliced.state_dict().values(), strict=True)))
    with torch.no_grad():
        for a, b in zip(sliced(image_of(2)), plain(image_of(2)), strict=True):
            assert torch.equal(a, b)
    channels_only = network(attention="pam", **plan)
    assert parameters_of(channels_only) == parameters_of(network(attention="se", **_as_pam(network, plan)))


def _as_pam(network: Any, plan: dict[str, Any]) -> dict[str, Any]:
    return {**plan, "channel_reduction": 4} if network is AttentionVNet else plan


@pytest.mark.parametrize("name", ["se", "csa", "sca", "pam"])
@both
def test_channel_weights_depend_on_the_image_at_every_place(network: Any, name: str, plan_for: Any) -> None:
    """Directly behind an instance norm the mean of a channel would be a constant."""
    torch.manual_seed(0)
    built = network(attention=name, recompute=False, **plan_for(3)).double()
    found: dict[str, list[torch.Tensor]] = {}
    for place, module in built.named_modules():
        if isinstance(module, DescriptorGate) and not place.endswith((".slices", ".channels")):
            module.register_forward_hook(
                lambda module, inputs, output, place=place: found.setdefault(place, []).append(
                    inputs[0].mean((2, 3, 4))
                )
            )
    with torch.no_grad():
        built(image_of(3, batch=1))
        built(3 + image_of(3, batch=1).flip(2) ** 3)
    assert len(found) == 5
    for place, (one, other) in found.items():
        assert (one - other).abs().max() > 1e-3, place


def test_spatial_transformer_starts_as_the_plain_network_and_undoes_what_it_does(plan_for: Any) -> None:
    torch.manual_seed(0)
    moved = AttentionUNet(attention="stn", **plan_for(2)).double()
    plain = AttentionUNet(attention="none", **plan_for(2)).double()
    plain.load_state_dict({k: v for k, v in moved.state_dict().items() if not k.startswith("transformer.")})
    with torch.no_grad():
        for a, b in zip(moved(image_of(2)), plain(image_of(2)), strict=True):
            torch.testing.assert_close(a, b)
        # the largest shift along the last axis, an eighth of it: whole voxels at every resolution of this image
        size = 32
        image = torch.randn(2, 2, size, size, dtype=torch.float64)
        moved.transformer.mlp.expand_bias.copy_(torch.tensor([0.0, 0, 1e4, 0, 0, 0]))
        seen = torch.cat((image[..., size // 8 :], torch.zeros_like(image[..., : size // 8])), dim=-1)
        for a, b in zip(moved(image), plain(seen), strict=True):
            steps = a.shape[-1] // 8
            torch.testing.assert_close(a[..., steps:], b[..., : a.shape[-1] - steps])
            torch.testing.assert_close(a[..., :steps], b[..., :1].expand_as(a[..., :steps]))  # the border is carried on


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_largest_transform_can_be_undone_and_leaves_no_voxel_without_logits(sign: int, plan_for: Any) -> None:
    for dimension in (2, 3):
        torch.manual_seed(0)
        moved = AttentionUNet(attention="stn", **plan_for(dimension, deep_supervision=False)).double()
        image = image_of(dimension)
        with torch.no_grad():
            moved.transformer.mlp.expand_bias.fill_(sign * 1e4)
            transform = moved.transformer.transform(image)
            assert float(torch.linalg.cond(transform[..., :-1]).max()) < 10
            logits = moved(image)
        assert bool(torch.isfinite(logits).all())
        assert float((logits == 0).double().mean()) < 0.01


@both
def test_gates_follow_the_strides_of_the_plan(network: Any, plan_for: Any) -> None:
    built = network(attention="none", gate=True, **plan_for(3))
    assert [tuple(gate.theta.stride) for gate in built.decoder.gates] == [(2, 2, 2), (1, 2, 2)]
    assert parameters_of(built) == parameters_of(network(attention="gate", **plan_for(3)))


@both
def test_bottleneck_of_a_v_net_has_channel_attention_alone(network: Any, plan_for: Any) -> None:
    built = network(attention="csa", **plan_for(3))
    if network is AttentionVNet:
        assert type(built.bottleneck_attention) is SqueezeExcite
        assert built.bottleneck_attention.mlp.hidden == 16 // 4
    else:
        assert isinstance(built.encoder[-1].attention, DescriptorGate)


@both
def test_residual_plans_build_and_train(network: Any, plan_for: Any) -> None:
    torch.manual_seed(0)
    plan = plan_for(3, n_conv_per_stage=None, n_blocks_per_stage=[1, 2, 3], n_conv_per_stage_decoder=[1, 1])
    built = network(gate=True, **plan)
    loss_of(built(image_of(3, dtype=torch.float32))).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in built.parameters())


def test_split_attention_in_residual_plans_has_as_many_convolutions_as_blocks_two_at_least(plan_for: Any) -> None:
    residual = plan_for(3, n_conv_per_stage=None, n_blocks_per_stage=[1, 2, 4], n_conv_per_stage_decoder=[1, 1])
    plain = plan_for(3, n_conv_per_stage=[2, 2, 4], n_conv_per_stage_decoder=[1, 1])
    keys = [list(AttentionUNet(attention="split", **plan).state_dict()) for plan in (residual, plain)]
    assert keys[0] == keys[1]


@pytest.mark.parametrize("n_stages", range(2, 9))
@both
def test_two_to_eight_stages(network: Any, n_stages: int, plan_arguments: Any) -> None:
    with torch.device("meta"):
        plan = plan_arguments(3, n_stages, [8] * n_stages, deep_supervision=True, input_channels=1)
        outputs = network(gate=True, **plan)(torch.empty(1, 1, 256, 128, 256))
    assert [tuple(x.shape[2:]) for x in outputs] == [
        (256 >> level, 128 >> level, 256 >> level) for level in range(n_stages - 1)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_op": None, "norm_op_kwargs": None},
        {"norm_op": nn.Identity, "norm_op_kwargs": {}},
        {"norm_op": nn.BatchNorm3d, "norm_op_kwargs": {}},
        {"dropout_op": nn.Dropout3d, "dropout_op_kwargs": {"p": 0.1}},
    ],
    ids=["no norm", "identity as norm", "batch norm", "dropout"],
)
@both
def test_other_layers_of_a_plan_train(network: Any, changes: dict, plan_for: Any) -> None:
    torch.manual_seed(0)
    built = network(gate=True, **plan_for(3, **changes))
    loss_of(built(image_of(3, dtype=torch.float32))).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in built.parameters())
    if changes.get("norm_op") is nn.BatchNorm3d:
        counts = {int(m.num_batches_tracked) for m in built.modules() if isinstance(m, nn.BatchNorm3d)}
        assert counts == {1}, "nothing that counts its runs is run again"


@pytest.mark.parametrize("name", [name for name in ("none", *ATTENTION) if name != "gate"])
@pytest.mark.parametrize(
    "changes",
    [{"nonlin": nn.RReLU, "nonlin_kwargs": {}}, {"norm_op": nn.Identity, "norm_op_kwargs": {}}],
    ids=["random nonlinearity", "identity as norm"],
)
@both
def test_recomputation_draws_the_same_numbers_and_changes_no_input(
    network: Any, changes: dict, name: str, plan_for: Any
) -> None:
    if network is AttentionVNet and name in ("split", "se_residual", "stn"):
        pytest.skip("stands behind no stage")
    found = []
    for recompute in (True, False):
        torch.manual_seed(0)
        built = network(attention=name, gate=True, recompute=recompute, **plan_for(2, **changes)).double()
        torch.manual_seed(7)
        loss = loss_of(built(image_of(2)))
        found.append([loss.detach(), *torch.autograd.grad(loss, list(built.parameters()))])
    for gradient, other in zip(*found, strict=True):
        torch.testing.assert_close(gradient, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in ("none", *ATTENTION) if name != "gate"])
def test_outputs_and_gradients_are_finite_under_autocast(name: str, plan_for: Any) -> None:
    torch.manual_seed(0)
    built = AttentionUNet(attention=name, gate=True, **plan_for(3))
    for image in (1e3 * image_of(3, dtype=torch.float32), torch.zeros(2, 2, *PATCHES[3])):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = built(image)
        loss_of([output.float() for output in outputs]).backward()
        assert all(torch.isfinite(output).all() for output in outputs)
        assert all(torch.isfinite(parameter.grad).all() for parameter in built.parameters())


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (AttentionVNet, "pam"),
        *(
            pytest.param(network, name, marks=pytest.mark.slow)
            for network, name in EVERY
            if (network, name) != (AttentionVNet, "pam")
        ),
    ],
)
def test_compiles_in_one_graph(network: Any, name: str, plan_for: Any) -> None:
    torch.manual_seed(0)
    built = network(attention=name, gate=True, **plan_for(3))
    torch._dynamo.reset()  # it gives up on a method that it compiled for too many networks
    compiled = torch.compile(copy.deepcopy(built), backend="eager", fullgraph=True)
    image = image_of(3, dtype=torch.float32)
    expected, actual = built(image), compiled(image)
    loss_of(expected).backward()
    loss_of(actual).backward()
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    for (key, a), (_, b) in zip(compiled._orig_mod.named_parameters(), built.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=lambda text, key=key: f"{key}: {text}")


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (AttentionUNet, {"attention": "pim"}, "no attention 'pim'; choose one of se, slice"),
        (AttentionUNet, {"attention": "se", "slice_reduction": 4}, "the attention 'se' has no slice_reduction"),
        (AttentionUNet, {"attention": "slice", "channel_pooling": "max"}, "'slice' has no channel_pooling"),
        (AttentionUNet, {"attention": "none", "channel_reduction": 4}, "'none' has no channel_reduction"),
        (AttentionUNet, {"channel_pooling": "median"}, "one of avg, max, avg_and_max; got 'median'"),
        (AttentionUNet, {"patch_size": [16, 16]}, "patch_size needs 3 entries"),
        (AttentionVNet, {"attention": "split"}, "'split' stands behind no stage.*use AttentionUNet"),
        (AttentionVNet, {"attention": "stn"}, "'stn' stands behind no stage"),
        (AttentionUNet, {"n_blocks_per_stage": [1, 1, 1]}, "either n_conv_per_stage or n_blocks_per_stage"),
        (AttentionVNet, {"n_conv_per_stage": None}, "either n_conv_per_stage or n_blocks_per_stage"),
    ],
)
def test_arguments_that_make_no_network_are_refused_in_words(
    network: Any, changes: dict[str, Any], message: str, plan_for: Any
) -> None:
    with pytest.raises(ValueError, match=message):
        network(**plan_for(3, **changes))


def test_position_attention_stays_within_slices_where_a_volume_has_too_many_positions(plan_for: Any) -> None:
    few = AttentionUNet(attention="position", **plan_for(3))
    many = AttentionUNet(attention="position", **plan_for(3, patch_size=(64, 128, 128)))
    assert [net.encoder[-1].attention.extent for net in (few, many)] == ["volume", "slice"]


def test_plans_hold_the_patch() -> None:
    for network in (AttentionUNet, AttentionVNet):
        assert network.plan_options(patch_size=(6, 16, 8), strides=[], spacing=[]) == {"patch_size": [6, 16, 8]}
