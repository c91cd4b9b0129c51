"""What each mechanism beside the PAM family promises."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.cbam import CBAM
from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention
from nnunet_ext.architectures.blocks.attention.class_activation import ClassActivation
from nnunet_ext.architectures.blocks.attention.dual_attention import DualAttention
from nnunet_ext.architectures.blocks.attention.position_attention import PositionAttention
from nnunet_ext.architectures.blocks.attention.project_excite import ProjectExcite
from nnunet_ext.architectures.blocks.attention.residual_squeeze_excite import ResidualSqueezeExcite
from nnunet_ext.architectures.blocks.attention.spatial_transformer import SpatialTransformer, inverted, transformed
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.layers import LayerPlan

LAYERS = {
    2: LayerPlan(nn.Conv2d, False, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.LeakyReLU),
    3: LayerPlan(nn.Conv3d, False, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU),
}
SIZES = {2: (6, 9), 3: (5, 6, 9)}
both_dimensions = pytest.mark.parametrize("dimension", [2, 3])


def image(dimension: int, channels: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(6)
    return torch.randn(2, channels, *SIZES[dimension], generator=generator, dtype=torch.float64)


@both_dimensions
def test_both_attentions_of_danet_start_as_the_identity(dimension: int) -> None:
    x = image(dimension)
    assert torch.equal(PositionAttention(LAYERS[dimension], 8).double()(x), x)
    assert torch.equal(ChannelSelfAttention().double()(x), x)


@pytest.mark.parametrize("extent", ["volume", "slice", "column"])
def test_position_attention_equals_loops_over_positions(extent: str) -> None:
    block = PositionAttention(LAYERS[3], 8, reduction=4, extent=extent).double()
    nn.init.constant_(block.gamma, 0.7)
    x = image(3)[:, :, :2, :3, :3]
    query, key, value = block.query(x), block.key(x), block.value(x)
    expected = torch.empty_like(x)
    places = [(d, h, w) for d in range(2) for h in range(3) for w in range(3)]
    with torch.no_grad():
        for b in range(2):
            for d, h, w in places:
                if extent == "volume":
                    others = places
                    logits = [query[b, :, d, h, w] @ key[(b, slice(None), *o)] for o in others]
                else:
                    others = [(d, i, j) for i in range(3) for j in range(3)]
                    over = [d] if extent == "slice" else [0, 1]
                    logits = [sum(query[b, :, e, h, w] @ key[b, :, e, i, j] for e in over) for _, i, j in others]
                shares = torch.stack(logits).softmax(0)
                mean = sum(share * value[(b, slice(None), *o)] for share, o in zip(shares, others, strict=True))
                expected[b, :, d, h, w] = x[b, :, d, h, w] + 0.7 * mean
    torch.testing.assert_close(block(x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("extent", ["slice", "column"])
def test_the_extents_of_position_attention_agree_in_2d_and_for_one_slice(extent: str) -> None:
    flat, deep = PositionAttention(LAYERS[2], 8).double(), PositionAttention(LAYERS[3], 8, extent=extent).double()
    nn.init.constant_(flat.gamma, 0.7)
    deep.load_state_dict({k: v.unsqueeze(-1) if v.ndim > 1 else v for k, v in flat.state_dict().items()})
    x = image(2)
    torch.testing.assert_close(deep(x.unsqueeze(2)).squeeze(2), flat(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="volume, slice, column; got 'row'"):
        PositionAttention(LAYERS[2], 8, extent="row")


@both_dimensions
@pytest.mark.parametrize("like", [False, True])
def test_unlike_channels_weigh_most_unless_told(dimension: int, like: bool) -> None:
    block = ChannelSelfAttention(like_channels=like).double()
    nn.init.constant_(block.gamma, 1.0)
    first = torch.randn(1, 1, *SIZES[dimension], dtype=torch.float64)
    x = torch.cat((first, first, -first), dim=1)
    added = block(x) - x
    torch.testing.assert_close(added[:, :1], first if like else -first, rtol=1e-6, atol=1e-6)


def test_dual_attention_is_the_sum_of_both_branches_and_sets_its_width() -> None:
    x = image(3, channels=16)
    block = DualAttention(LAYERS[3], 16, 6).double().eval()
    assert block(x).shape == (2, 6, *SIZES[3])
    branches = block.from_position(block.to_position(x)) + block.from_channel(block.to_channel(x))
    torch.testing.assert_close(block(x), block.out(branches))
    dropped = block.train()(x)
    assert not torch.equal(dropped, block(x)), "channels are dropped in training"


@both_dimensions
def test_cbam_convolution_learns_and_its_map_lies_between_0_and_1(dimension: int) -> None:
    block, x = CBAM(LAYERS[dimension], 8, reduction=4).double(), image(dimension)
    block(x).square().sum().backward()
    assert block.conv.weight.grad.abs().max() > 1e-6
    weights = block.attention_map(x)
    assert weights.shape == (2, 1, *SIZES[dimension])
    assert ((weights > 0) & (weights < 1)).all()
    one = (1,) * dimension
    assert block(torch.randn(2, 8, *one, dtype=torch.float64)).shape == (2, 8, *one), "a single voxel has no norm"


@both_dimensions
def test_cbam_flips_with_its_kernel(dimension: int) -> None:
    block, x = CBAM(LAYERS[dimension], 8).double(), image(dimension)
    expected = block(x).flip(-1)
    with torch.no_grad():
        block.conv.weight.copy_(block.conv.weight.flip(-1))
    torch.testing.assert_close(block(x.flip(-1)), expected, rtol=1e-12, atol=1e-12)


@both_dimensions
@pytest.mark.parametrize(("radix", "groups"), [(2, 1), (2, 2), (4, 2)])
def test_split_attention_weights_sum_to_one(dimension: int, radix: int, groups: int) -> None:
    block = SplitAttention(LAYERS[dimension], 8, radix=radix, groups=groups).double()
    weights = block.weights(torch.randn(2, radix, 8, *SIZES[dimension], dtype=torch.float64))
    assert weights.shape == (2, radix, 8)
    torch.testing.assert_close(weights.sum(1), torch.ones(2, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match="got 30 channels, radix 4"):
        SplitAttention(LAYERS[dimension], 30, radix=4)


@pytest.mark.parametrize(
    ("stride", "size", "coarser"),
    [((1, 2, 2), (5, 6, 8), (5, 3, 4)), ((2, 2, 2), (5, 7, 9), (2, 3, 4)), ((1, 2, 1), (4, 8, 6), (4, 4, 6)),
     ((2, 2, 2), (6, 6, 8), (2, 3, 3))],
)  # fmt: skip
def test_attention_gate_follows_the_stride_of_the_stage(stride: tuple, size: tuple, coarser: tuple) -> None:
    block = AttentionGate(LAYERS[3], 8, 12, stride)
    x, gate = torch.randn(2, 8, *size), torch.randn(2, 12, *coarser)
    weights = block.attention_map(x, gate)
    assert weights.shape == (2, 1, *size)
    assert ((weights > 0) & (weights < 1)).all()
    assert block(x, gate).shape == x.shape
    assert block.out.bias is None, "a norm would take it away"
    bare = AttentionGate(LayerPlan(nn.Conv3d), 8, 12, stride)
    assert bare.out.bias is not None


@both_dimensions
def test_project_excite_flips_with_the_map_and_sees_each_axis(dimension: int) -> None:
    block, x = ProjectExcite(8).double(), image(dimension)
    for axis in range(2, 2 + dimension):
        torch.testing.assert_close(block(x.flip(axis)), block(x).flip(axis), rtol=1e-13, atol=1e-14)
    assert ProjectExcite(8, 16, clamp_hidden=False).double()(x).shape == x.shape, (
        "no hidden units: one weight a channel"
    )


def test_class_maps_are_scores_of_each_voxel() -> None:
    block, x = ClassActivation(8, 3).double(), image(3)
    torch.testing.assert_close(block.class_maps(x).flatten(2).mean(-1), block.scores(x))
    weights = block.attention_map(x)
    combined = (block.scores(x).softmax(-1)[..., None, None, None] * block.class_maps(x)).sum(1, keepdim=True)
    torch.testing.assert_close(weights, combined.sigmoid())
    torch.testing.assert_close(block(x), x * weights)


@both_dimensions
def test_spatial_transformer_starts_as_the_identity_and_can_be_undone(dimension: int) -> None:
    block, x = SpatialTransformer(8, dimension).double(), image(dimension)
    torch.testing.assert_close(block(x), x, rtol=1e-12, atol=1e-12)
    nn.init.normal_(block.mlp.expand_bias)
    transform = block.transform(x)
    assert transform.shape == (2, dimension, dimension + 1)
    both = inverted(transform)
    last = torch.zeros(2, 1, dimension + 1, dtype=torch.float64)
    last[..., -1] = 1
    whole = torch.cat((transform, last), 1) @ torch.cat((both, last), 1)
    torch.testing.assert_close(whole, torch.eye(dimension + 1, dtype=torch.float64).expand(2, -1, -1))
    # a smooth blob in the middle comes back to where it was
    axes = [torch.linspace(-1, 1, 41, dtype=torch.float64)] * dimension
    grids = torch.meshgrid(*axes, indexing="ij")
    blob = torch.exp(-8 * sum(grid.square() for grid in grids)).expand(2, 1, *grids[0].shape)
    moved = transformed(blob, transform)
    returned = transformed(moved, both)
    assert (returned - blob).abs().max() < 0.15 * (moved - blob).abs().max() + 0.03


@both_dimensions
@pytest.mark.parametrize("stride", [1, 2])
def test_residual_block_adds_its_input_and_projects_it_where_it_must(dimension: int, stride: int) -> None:
    x = image(dimension)
    block = ResidualSqueezeExcite(LAYERS[dimension], 8, 8, stride=stride).double()
    assert isinstance(block.skip, nn.Identity) == (stride == 1)
    nn.init.zeros_(block.norm2.weight)
    torch.testing.assert_close(block(x), nn.functional.leaky_relu(block.skip(x), 0.01))
    wider = ResidualSqueezeExcite(LAYERS[dimension], 8, 12, stride=stride).double()
    assert wider(x).shape == (2, 12, *(-(-edge // stride) for edge in SIZES[dimension]))
