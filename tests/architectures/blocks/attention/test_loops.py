"""Vectorised gates against twins that loop over samples, channels and slices, written from the formulas alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.channel_then_slice import ChannelThenSlice
from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP
from nnunet_ext.architectures.blocks.attention.key_slices import key_slices
from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.attention.project_excite import ProjectExcite
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.slice_then_channel import SliceThenChannel
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.layers import LayerPlan

POOLINGS = ("avg", "max", "avg_and_max")
LAYERS = LayerPlan(nn.Conv3d, False, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU)


def perceptron(mlp: GateMLP, v: torch.Tensor, group: int | None = None) -> torch.Tensor:
    """One descriptor (features) through one perceptron."""
    w1, b1, w2, b2 = mlp.parameters() if group is None else (p[group] for p in mlp.parameters())
    return w2 @ torch.relu(w1 @ v + b1) + b2


def by_pooling(pooling: str, mean: torch.Tensor, maximum: torch.Tensor, mlp: Any) -> torch.Tensor:
    return {"avg": lambda: mlp(mean), "max": lambda: mlp(maximum), "avg_and_max": lambda: mlp(mean) + mlp(maximum)}[
        pooling
    ]()


def loop_slices(block: SliceAttention, x: torch.Tensor) -> torch.Tensor:
    """Slice weights of one sample (C, D, H, W)."""
    channels, depth = x.shape[:2]
    if depth == 1 or block.mlp is None:
        return torch.ones(channels, depth, dtype=x.dtype)
    weights = []
    for c in range(channels):
        mean = torch.stack([x[c, d].mean() for d in range(depth)])
        maximum = torch.stack([x[c, d].max() for d in range(depth)])
        if block.pooling_reference_quirks:
            maximum = mean
        logits = by_pooling(block.pooling, mean, maximum, lambda v, c=c: perceptron(block.mlp, v, c))
        weights.append(logits.sigmoid())
    return torch.stack(weights)


def loop_channels(block: SqueezeExcite, x: torch.Tensor) -> torch.Tensor:
    """Channel weights of one sample (C, ...)."""
    mean, maximum = torch.stack([c.mean() for c in x]), torch.stack([c.max() for c in x])
    return by_pooling(block.pooling, mean, maximum, lambda v: perceptron(block.mlp, v)).sigmoid()


def over_slices(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.stack(
        [torch.stack([s * w for s, w in zip(*pair, strict=True)]) for pair in zip(x, weights, strict=True)]
    )


def over_channels(x: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    return torch.stack([c * w for c, w in zip(x, weights, strict=True)])


def loop_keys(weights: torch.Tensor) -> list[list[int]]:
    """Key slices of each channel, from weights (C, D)."""
    chosen = []
    for channel in weights:
        shares = channel.exp() / channel.exp().sum()
        keys = [d for d in range(len(shares)) if shares[d] >= shares.mean()]
        chosen.append(keys or list(range(len(shares))))
    return chosen


def loop_pam(block: ProgressiveAttention, x: torch.Tensor) -> torch.Tensor:
    weights = loop_slices(block.slices, x)
    x1 = over_slices(x, weights)
    means, maxima = [], []
    for c, keys in enumerate(loop_keys(weights)):
        means.append(torch.stack([x1[c, d].mean() for d in keys]).mean())
        maxima.append(torch.stack([x1[c, d].max() for d in keys]).max())
    mean = torch.stack(means)
    maximum = mean if block.pooling_reference_quirks else torch.stack(maxima)
    if block.detach_descriptor:
        mean, maximum = mean.detach(), maximum.detach()
    channels = block.channels
    gate = by_pooling(channels.pooling, mean, maximum, lambda v: perceptron(channels.mlp, v)).sigmoid()
    return over_channels(x1, gate)


def loop_csa(block: ChannelThenSlice, x: torch.Tensor) -> torch.Tensor:
    x1 = over_channels(x, loop_channels(block.channels, x))
    return over_slices(x1, loop_slices(block.slices, x1))


def loop_sca(block: SliceThenChannel, x: torch.Tensor) -> torch.Tensor:
    x1 = over_slices(x, loop_slices(block.slices, x))
    return over_channels(x1, loop_channels(block.channels, x1))


LOOPS = {
    "se": (lambda p, depth: SqueezeExcite(6, 2, p), lambda b, x: over_channels(x, loop_channels(b, x))),
    "slice": (lambda p, depth: SliceAttention(6, depth, 2, p), lambda b, x: over_slices(x, loop_slices(b, x))),
    "csa": (lambda p, depth, **o: ChannelThenSlice(6, depth, 2, 2, p, p, **o), loop_csa),
    "sca": (lambda p, depth, **o: SliceThenChannel(6, depth, 2, 2, p, p, **o), loop_sca),
    "pam": (lambda p, depth, **o: ProgressiveAttention(6, depth, 2, 2, p, p, **o), loop_pam),
    "pam_detached": (
        lambda p, depth, **o: ProgressiveAttention(6, depth, 2, 2, p, p, detach_descriptor=True, **o),
        loop_pam,
    ),
}
SERIES = ("csa", "sca", "pam", "pam_detached")


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize(("kind", "quirks"), [(kind, False) for kind in LOOPS] + [(kind, True) for kind in SERIES])
@pytest.mark.parametrize(
    ("size", "batch"), [((5, 3, 7), 3), ((1, 5, 3), 2), ((8, 4, 1), 2)], ids=["odd", "one_slice", "thin"]
)
def test_equals_loops_with_gradients(kind: str, pooling: str, quirks: bool, size: tuple, batch: int) -> None:
    torch.manual_seed(3)
    make, loop = LOOPS[kind]
    block = (make(pooling, size[0], pooling_reference_quirks=True) if quirks else make(pooling, size[0])).double()
    twin = copy.deepcopy(block)
    x = torch.randn(batch, 6, *size, dtype=torch.float64, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    found, expected = block(x), torch.stack([loop(twin, sample) for sample in y])
    close(found, expected)
    probe = torch.randn(found.shape, dtype=torch.float64)
    (found * probe).sum().backward()
    (expected * probe).sum().backward()
    close(x.grad, y.grad)
    for own, other in zip(block.parameters(), twin.parameters(), strict=True):
        assert (own.grad is None) == (other.grad is None)
        if own.grad is not None:
            close(own.grad, other.grad)


@pytest.mark.parametrize("depth", [1, 4, 10, 11])
def test_equal_slices_are_all_key_slices_as_in_loops(depth: int) -> None:
    block = ProgressiveAttention(6, depth, 2, 2, "avg_and_max", "avg_and_max").double()
    if depth > 1:
        with torch.no_grad():  # the same weight for every slice, whatever the image
            block.slices.mlp.expand_weight.zero_()
            block.slices.mlp.expand_bias.fill_(0.3)
    x = torch.randn(2, 6, 1, 3, 5, dtype=torch.float64).expand(-1, -1, depth, -1, -1)
    keys = block.gates_of(x).keys
    assert keys is None if depth == 1 else keys.all()
    close(block(x), torch.stack([loop_pam(block, sample) for sample in x]))


def test_key_slices_equal_loops() -> None:
    weights = torch.rand(3, 5, 12, dtype=torch.float64)
    found = key_slices(weights)
    expected = [[[d in keys for d in range(12)] for keys in loop_keys(sample)] for sample in weights]
    assert found.tolist() == expected


@pytest.mark.parametrize("size", [(5, 3), (3, 5, 4), (1, 3, 5)])
@pytest.mark.parametrize("published", [False, True])
@torch.no_grad()
def test_project_excite_equals_loops(size: tuple, published: bool) -> None:
    block = ProjectExcite(6, 2, average_profiles=published, prelu=published).double()
    x = torch.randn(2, 6, *size, dtype=torch.float64)
    expected = torch.empty_like(x)
    w1, b1, w2, b2 = block.mlp.parameters()
    for sample, out in zip(x, expected, strict=True):
        for index in torch.cartesian_prod(*(torch.arange(edge) for edge in size)).tolist():
            profiles = [sample.select(1 + axis, place).flatten(1).mean(1) for axis, place in enumerate(index)]
            total = sum(profiles) / (len(size) if published else 1)
            hidden = w1 @ total + b1
            hidden = torch.where(hidden > 0, hidden, 0.25 * hidden) if published else hidden.relu()
            where = (slice(None), *index)
            out[where] = sample[where] * (w2 @ hidden + b2).sigmoid()
    close(block(x), expected)


@pytest.mark.parametrize(("radix", "groups"), [(1, 1), (2, 1), (2, 3), (3, 2)])
def test_split_attention_equals_loops(radix: int, groups: int) -> None:
    channels, share = 12, 12 // groups
    block = SplitAttention(LAYERS, channels, radix=radix, groups=groups).double()
    x = torch.randn(2, channels, 3, 5, 4, dtype=torch.float64)
    candidates = block.activation(block.norm(block.conv(x))).view(2, radix, groups, share, 3, 5, 4)
    found = block(x)
    for b in range(2):
        for k in range(groups):
            mean = sum(candidates[b, r, k].flatten(1).mean(1) for r in range(radix))
            logits = perceptron(block.mlp, mean, k).view(radix, share)
            for c in range(share):
                a = logits[:, c].sigmoid() if radix == 1 else logits[:, c].softmax(0)
                close(found[b, k * share + c], sum(a[r] * candidates[b, r, k, c] for r in range(radix)))
