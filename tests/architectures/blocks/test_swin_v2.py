"""Swin V2 against timm's numbers, timm itself, attention written as loops, and what padding and masks promise."""

from __future__ import annotations

import copy
import itertools
import math
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nnunet_ext.architectures.blocks import window_attention
from nnunet_ext.architectures.blocks import windows as windows_module
from nnunet_ext.architectures.blocks.swin_v2 import PatchMerging, SwinV2
from nnunet_ext.architectures.blocks.swin_v2_block import SwinV2Block
from nnunet_ext.architectures.blocks.window_attention import FUSED_FROM, LARGEST_SCALE, WindowAttention
from nnunet_ext.architectures.blocks.windows import NEVER, Windows

HOLDS_TABLE = 1e-6  # the loops have the position table in float64, timm and this plugin in float32
EXACT = 1e-12
MERGES = [(2, 2)] * 3


@pytest.fixture
def force(monkeypatch: pytest.MonkeyPatch) -> Any:
    """``force(fused)``: all attention by the fused kernel, or written out."""
    original = WindowAttention.forward

    def choose(fused: bool) -> None:
        monkeypatch.setattr(
            WindowAttention,
            "forward",
            lambda self, x, windows, tables=None: original(self, x, windows, fused=fused, tables=tables),
        )

    return choose


def filled_block(golden: Any, channels: int = 8, heads: int = 2, dimension: int = 2, **options: Any) -> SwinV2Block:
    """Weights by the rule, float64, scales of attention below their clamp."""
    block = SwinV2Block(channels, heads, dimension, **{"shifted": True, **options}).double()
    golden.fill_trainable(block)
    return block


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("number", range(12))
def test_blocks_equal_attention_written_as_loops(cfformer_golden: Any, force: Any, number: int, fused: bool) -> None:
    case = cfformer_golden.load("swin_nd_numpy")["blocks"][number]
    windows = Windows.over(case["size"], case["window"], any(case["shift"]))
    assert [list(windows.window), list(windows.shift)] == [case["window_used"], case["shift_used"]]
    block = SwinV2Block(
        case["dim"],
        case["heads"],
        len(case["size"]),
        any(case["shift"]),
        trained_window=case["pretrained_window"],
        mask_value=case["shift_mask_value"],
    ).double()
    block.load_state_dict(cfformer_golden.filled(block.state_dict(), case["prefix"]))
    image = cfformer_golden.image(case["input"], (case["batch"], *case["size"], case["dim"]))
    force(fused)
    assert cfformer_golden.error(block(image, case["window"]), case["out_channels_last"]) < HOLDS_TABLE


@pytest.mark.parametrize("number", range(4))
def test_merging_equals_its_loops(cfformer_golden: Any, number: int) -> None:
    case = cfformer_golden.load("swin_nd_numpy")["merges"][number]
    merge = PatchMerging(case["dim"], case["out"], case["stride"]).double()
    merge.load_state_dict(cfformer_golden.filled(merge.state_dict(), case["prefix"]))
    image = cfformer_golden.image(case["input"], (1, *case["size"], case["dim"]))
    assert cfformer_golden.error(merge(image), case["out_channels_last"]) < EXACT


@pytest.mark.parametrize("number", range(3))
def test_blocks_and_stages_equal_timms_numbers(cfformer_golden: Any, number: int) -> None:
    case = cfformer_golden.load("swinv2_timm")["cases"][number]
    trained = case["pretrained_window"]
    network = SwinV2(
        case["in_chans"],
        2,
        (4, 4),
        [case["embed_dim"] * 2**stage for stage in range(4)],
        case["depths"],
        case["heads"],
        MERGES,
        case["window"],
        [(trained, trained)] * 4 if trained else None,
    ).double()
    network.load_state_dict(cfformer_golden.filled(network.state_dict()))
    seen: dict[str, torch.Tensor] = {}
    for name, module in network.named_modules():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    x = network.patch_embed(cfformer_golden.image(case["input"], (case["batch"], case["in_chans"], *case["img"])))
    for layer, expected in zip(network.layers, case["stages_channels_first"], strict=True):
        x = layer(x)
        assert cfformer_golden.error(x.movedim(-1, 1), expected) < EXACT
    for name, expected in case["modules_channels_last"].items():
        assert cfformer_golden.error(seen[name], expected) < EXACT, name


def test_keys_and_shapes_are_timms_without_final_norm_and_head(cfformer_golden: Any) -> None:
    numbers = cfformer_golden.load("swinv2_timm")
    case = numbers["cases"][-1]
    network = SwinV2(case["in_chans"], 2, (4, 4), [16, 32, 64, 128], case["depths"], case["heads"], MERGES)
    own = {key: list(value.shape) for key, value in network.state_dict().items() if key != "_extra_state"}
    theirs = {entry["key"]: entry["shape"] for entry in numbers["state_dict_of_last_case"]}
    assert own == {key: shape for key, shape in theirs.items() if not key.startswith(("norm.", "head."))}
    assert dict(network.named_buffers()) == {}, "masks and tables are made from sizes, never stored"


@pytest.mark.parametrize(
    ("size", "window", "channels", "depths", "trained"),
    [
        ((64, 64), (2, 2), 3, (1, 2, 2, 1), None),
        ((64, 128), (4, 2), 1, (2, 1, 3, 2), None),
        ((96, 128), (3, 4), 4, (2, 2, 1, 1), 6),
        ((64, 64), (8, 8), 2, (2, 2, 1, 1), 12),
    ],
)
def test_equals_timm_itself(size: tuple, window: tuple, channels: int, depths: tuple, trained: int | None) -> None:
    timm = pytest.importorskip("timm.models.swin_transformer_v2")
    torch.manual_seed(sum(size) + channels)
    theirs = timm.SwinTransformerV2(
        img_size=size,
        in_chans=channels,
        embed_dim=8,
        depths=depths,
        num_heads=(1, 2, 2, 4),
        window_size=window,
        pretrained_window_sizes=(trained or 0,) * 4,
        num_classes=0,
    ).double()
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            parameter.copy_(torch.randn_like(parameter) * (0.5 if "norm" in name else 0.2))
            if name.endswith("logit_scale"):
                parameter.add_(4.0)
    ours = SwinV2(
        channels, 2, (4, 4), [8, 16, 32, 64], depths, (1, 2, 2, 4), MERGES, window, trained and [(trained, trained)] * 4
    ).double()
    missing, unknown = ours.load_state_dict(theirs.state_dict(), strict=False)
    assert set(missing) <= {"_extra_state"}
    assert {key.split(".")[0] for key in unknown} <= {"norm"}
    image = torch.randn(2, channels, *size, dtype=torch.float64)
    with torch.no_grad():
        a, b = theirs.eval().patch_embed(image), ours.eval().patch_embed(image)
        assert torch.equal(a, b)
        for stage, (their, our) in enumerate(zip(theirs.layers, ours.layers, strict=True)):
            a, b = their(a), our(b)
            torch.testing.assert_close(b, a, rtol=0, atol=1e-10, msg=lambda text, stage=stage: f"stage {stage}: {text}")


@pytest.mark.parametrize("trained", [None, (8, 8, 8)])
@pytest.mark.parametrize("size", [(5, 7), (4, 4), (3, 4, 6), (1, 5, 3)])
def test_a_block_is_attention_over_its_tiles(cfformer_golden: Any, size: tuple, trained: tuple | None) -> None:
    """One softmax a token over the tokens of its tile, written without windows, rolls, padding or tables."""
    axes, target = len(size), (2, 4, 3)[-len(size) :]
    trained = trained and trained[:axes]
    block = filled_block(cfformer_golden, dimension=axes, trained_window=trained, mask_value=NEVER)
    windows = Windows.over(size, target, shifted=True)
    image = cfformer_golden.image("input:tiles", (1, *size, 8))
    tokens = list(itertools.product(*map(range, size)))
    attn, flat = block.attn, image.reshape(-1, 8)
    query, key, value = (
        part.view(-1, 2, 4)
        for part in (
            flat @ attn.qkv.weight.T + torch.cat((attn.q_bias, torch.zeros(8, dtype=flat.dtype), attn.v_bias))
        ).chunk(3, dim=1)
    )
    attended = torch.zeros_like(value)
    for i, a in enumerate(tokens):
        tile = [(p - s) // w for p, s, w in zip(a, windows.shift, windows.window, strict=True)]
        near = [
            (j, b)
            for j, b in enumerate(tokens)
            if [(p - s) // w for p, s, w in zip(b, windows.shift, windows.window, strict=True)] == tile
        ]
        for head in range(2):
            logits = []
            for j, b in near:
                scale = [max(w - 1, 1) for w in windows.window] if trained is None else [w - 1 for w in trained]
                place = [
                    math.copysign(math.log2(1 + 8 * abs(p - q) / s) / 3, p - q)
                    for p, q, s in zip(a, b, scale, strict=True)
                ]
                bias = 16 * torch.sigmoid(attn.cpb_mlp(torch.tensor(place, dtype=torch.float64))[head])
                cosine = functional.cosine_similarity(query[i, head], key[j, head], dim=0)
                logits.append(cosine * attn.logit_scale[head, 0, 0].exp() + bias)
            weights = torch.stack(logits).softmax(0)
            attended[i, head] = weights @ value[[j for j, _ in near], head]
    x = image + block.norm1(attn.proj(attended.flatten(1))).view_as(image)
    expected = x + block.norm2(block.mlp(x))
    torch.testing.assert_close(block(image, target), expected, rtol=HOLDS_TABLE, atol=HOLDS_TABLE)


@pytest.mark.parametrize(("size", "target"), [((5, 7), (4, 4)), ((3, 5, 6), (2, 4, 4))])
def test_what_stands_in_padding_does_not_matter(
    cfformer_golden: Any, monkeypatch: pytest.MonkeyPatch, size: tuple, target: tuple
) -> None:
    block = filled_block(cfformer_golden, dimension=len(size))
    image = cfformer_golden.image("input:padding", (2, *size, 8))
    expected = block(image, target)
    pad, calls = functional.pad, []

    def noisy(x: torch.Tensor, ends: Any) -> torch.Tensor:
        calls.append(ends)
        inside = pad(torch.ones_like(x), ends)
        return pad(x, ends) + (1 - inside) * 1e3 * torch.randn_like(inside)

    monkeypatch.setattr(windows_module.functional, "pad", noisy)
    actual = block(image, target)
    assert calls, "nothing was padded"
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5), (5, 5), (1, 1, 1), (1, 9, 5)])
def test_windows_of_one_token_or_mostly_padding_give_finite_gradients(
    cfformer_golden: Any, force: Any, size: tuple, fused: bool
) -> None:
    block = filled_block(cfformer_golden, dimension=len(size)).float()
    force(fused)
    image = torch.randn(2, *size, 8, requires_grad=True)
    output = block(image, (4,) * len(size))
    output.square().mean().backward()
    assert torch.isfinite(output).all()
    for name, parameter in block.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert torch.isfinite(image.grad).all()


def test_a_window_of_one_token_passes_its_value_on(cfformer_golden: Any) -> None:
    attn = filled_block(cfformer_golden).attn
    x = cfformer_golden.image("input:one", (1, 1, 1, 8))
    value = x @ attn.qkv.weight[16:].T + attn.v_bias
    torch.testing.assert_close(attn(x, Windows.over((1, 1), (4, 4), True)), attn.proj(value))


@pytest.mark.parametrize(("size", "target"), [((6, 7), (4, 4)), ((2, 5, 4), (2, 4, 2))])
def test_with_a_hard_mask_tokens_of_other_tiles_have_no_influence(
    cfformer_golden: Any, size: tuple, target: tuple
) -> None:
    block = filled_block(cfformer_golden, dimension=len(size), mask_value=NEVER)
    windows = Windows.over(size, target, shifted=True)
    image = cfformer_golden.image("input:locality", (1, *size, 8)).requires_grad_()
    output = block(image, target)
    tokens = list(itertools.product(*map(range, size)))
    tiles = [tuple((p - s) // w for p, s, w in zip(t, windows.shift, windows.window, strict=True)) for t in tokens]
    for place, own in zip(tokens, tiles, strict=True):
        (gradient,) = torch.autograd.grad(
            (output[(0, *place)] * torch.arange(1.0, 9.0)).sum(), image, retain_graph=True
        )
        reached = gradient[0].abs().sum(-1).flatten() > 0
        assert reached.tolist() == [tile == own for tile in tiles], place


def test_the_published_mask_lets_logits_above_it_through(cfformer_golden: Any) -> None:
    """-100 is added, and logits reach 116: kept for equality with published weights."""
    cases = cfformer_golden.load("swin_nd_numpy")["blocks"]
    assert {case["shift_mask_value"] for case in cases} != {-100.0}, "one case has the hard mask"
    image = cfformer_golden.image("input:leak", (1, 8, 8, 8))
    outputs = []
    for mask_value in (-100.0, NEVER):
        block = SwinV2Block(8, 2, 2, True, mask_value=mask_value).double()
        cfformer_golden.fill_trainable(block)
        with torch.no_grad():
            block.attn.logit_scale.fill_(LARGEST_SCALE)
        outputs.append(block(image, (4, 4)))
    assert 0 < (outputs[0] - outputs[1]).abs().max() < 1e-2


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(
    ("size", "target", "shifted"),
    [((8, 8), (4, 4), False), ((7, 9), (4, 4), True), ((8, 8), (8, 8), True), ((3, 5, 6), (2, 4, 4), True)],
)
def test_the_fused_kernel_equals_attention_written_out(
    cfformer_golden: Any, size: tuple, target: tuple, shifted: bool, dtype: torch.dtype, tolerance: float
) -> None:
    attn = filled_block(cfformer_golden, dimension=len(size)).attn.to(dtype)
    windows = Windows.over(size, target, shifted)
    image = windows.cut(cfformer_golden.image("input:kernels", (2, *size, 8)).to(dtype))
    found = []
    for fused in (True, False):
        attn.zero_grad()
        x = image.clone().requires_grad_()
        output = attn(x, windows, fused=fused)
        real = windows.join(output)
        (real * torch.linspace(-1, 1, real.numel(), dtype=dtype).view_as(real)).sum().backward()
        found.append({"output": real, "input": x.grad, **{n: p.grad.clone() for n, p in attn.named_parameters()}})
    for name in found[0]:
        scale = found[1][name].abs().max().item()
        assert scale > 0, name
        assert (found[0][name] - found[1][name]).abs().max().item() <= tolerance * max(scale, 1), name


class Spy(TorchFunctionMode):
    """Notes what softmax and the fused kernel are given."""

    def __init__(self) -> None:
        super().__init__()
        self.softmax: list[torch.dtype] = []
        self.fused: list[tuple[torch.dtype, ...]] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.softmax, torch.softmax, functional.softmax):
            self.softmax.append(args[0].dtype)
        if func is functional.scaled_dot_product_attention:
            self.fused.append((*(x.dtype for x in args[:3]), kwargs["attn_mask"].dtype))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_fused_kernel_takes_large_windows_alone(dimension: int) -> None:
    block = SwinV2Block(8, 2, dimension, False)
    for window, expected in (((8, 8, 1), True), ((7, 7, 1), False), ((9, 9, 2), True)):
        target = window[:dimension]
        with Spy() as spy, torch.no_grad():
            block(torch.randn(1, *target, 8), target)
        assert bool(spy.fused) == expected == (math.prod(target) >= FUSED_FROM)
        assert bool(spy.softmax) != expected


@pytest.mark.parametrize("window", [(4, 4), (8, 8)])
def test_autocast_leaves_logits_bias_and_softmax_in_float32(cfformer_golden: Any, window: tuple) -> None:
    block = filled_block(cfformer_golden).float()
    with torch.no_grad():
        block.attn.logit_scale.fill_(10.0)  # above the clamp
    image = torch.randn(2, 16, 14, 8)
    biases: list[torch.dtype] = []
    block.attn.cpb_mlp.register_forward_hook(lambda module, inputs, output: biases.append(output.dtype))
    with Spy() as spy, torch.autocast("cpu", dtype=torch.bfloat16):
        output = block(image, window)
    output.float().square().mean().backward()
    assert biases == [torch.float32]
    if math.prod(window) >= FUSED_FROM:
        assert spy.fused == [(torch.float32,) * 4]
    else:
        assert spy.softmax == [torch.float32]
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(parameter.grad).all() for parameter in block.parameters())


@pytest.mark.parametrize("fused", [True, False], ids=["fused", "written out"])
def test_logits_in_float32_make_the_error_of_bfloat16_several_times_smaller(
    monkeypatch: pytest.MonkeyPatch, fused: bool
) -> None:
    """At the largest scale, from queries, keys and values that bfloat16 holds exactly."""
    torch.manual_seed(0)
    attn = WindowAttention(64, 2, 2)
    windows = Windows.over((7, 7), (7, 7), False)
    with torch.no_grad():
        attn.logit_scale.fill_(LARGEST_SCALE)
        attn.qkv.weight.copy_(torch.cat([torch.eye(64)[torch.randperm(64)] for _ in range(3)]))
        attn.proj.weight.copy_(torch.eye(64))
        attn.proj.bias.zero_()
        image = torch.randn(64, 1, 49, 64).bfloat16().float()
        exact = attn(image, windows, fused=fused)

        def error() -> float:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return (attn(image, windows, fused=fused).float() - exact).abs().max().item()

        ours = error()
        monkeypatch.setattr(window_attention, "at_least_float32", lambda x: x)
        monkeypatch.setattr(window_attention, "without_autocast", lambda x: nullcontext())
        monkeypatch.setattr(
            window_attention, "_fused", lambda q, k, v, added: window_attention._written_out(q, k, v, added)
        )
        careless = error()
    assert 4 * ours < careless, (ours, careless)


def test_scales_above_the_clamp_act_as_the_clamp_and_stay_in_the_weights(cfformer_golden: Any) -> None:
    block = filled_block(cfformer_golden)
    image = cfformer_golden.image("input:clamp", (1, 4, 4, 8))
    outputs = []
    for scale in (LARGEST_SCALE, 9.0):
        with torch.no_grad():
            block.attn.logit_scale.fill_(scale)
        outputs.append(block(image, (4, 4)))
    assert torch.equal(*outputs)
    outputs[1].sum().backward()
    assert block.attn.logit_scale.grad.abs().max() == 0
    assert (block.state_dict()["attn.logit_scale"] == 9.0).all()


def small_encoder(**options: Any) -> SwinV2:
    return SwinV2(2, 2, (4, 4), [8, 16], [2, 2], [2, 2], [(2, 2)], **options)


def test_trained_windows_travel_with_the_weights_and_decide_the_bias(cfformer_golden: Any) -> None:
    network = small_encoder(trained_windows=[(8, 8), (6, 4)])
    other = small_encoder()
    assert other.trained_windows == [None, None]
    other.load_state_dict(network.state_dict())
    assert other.trained_windows == [(8, 8), (6, 4)]
    assert [block.attn.trained_window for stage in other.stages for block in stage.blocks] == [(8, 8)] * 2 + [
        (6, 4)
    ] * 2
    assert copy.deepcopy(other).trained_windows == [(8, 8), (6, 4)]
    network.load_state_dict(small_encoder().state_dict())
    assert network.trained_windows == [None, None]
    network.set_trained_windows(5)
    assert network.trained_windows == [(5, 5), (5, 5)]
    network.set_trained_windows([(7, 7), (3, 2)])
    assert network.state_dict()["_extra_state"].tolist() == [[7, 7], [3, 2]]


def test_another_window_keeps_the_trained_bias_of_a_distance(cfformer_golden: Any) -> None:
    attn = filled_block(cfformer_golden, trained_window=(8, 8)).attn

    def bias_of(size: int, window: int) -> torch.Tensor:
        coordinates, index, _ = attn.tables(Windows.over((size, size), (window, window), False))
        return attn.position_bias(coordinates, index)

    biases = {window: bias_of(8, window) for window in (8, 5)}
    for (i, a), (j, b) in itertools.product(enumerate(itertools.product(range(5), repeat=2)), repeat=2):
        wide = biases[8][:, 8 * a[0] + a[1], 8 * b[0] + b[1]]
        torch.testing.assert_close(biases[5][:, i, j], wide, rtol=1e-14, atol=0)  # products of other sizes round so
    attn.trained_window = None
    assert not torch.allclose(bias_of(5, 5), biases[5])


def test_each_block_begins_as_the_identity_and_every_weight_learns_once_filled(cfformer_golden: Any) -> None:
    network = small_encoder()
    network.apply(SwinV2.initialize)
    grid = torch.randn(1, 8, 8, 8)
    assert torch.equal(network.layers[0](grid), grid)
    cfformer_golden.fill_trainable(network)
    network.layers[1](network.layers[0](network.patch_embed(torch.randn(1, 2, 32, 36)))).square().sum().backward()
    still = [n for n, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]
    assert still == []


def test_patches_and_merging_pad_at_the_end_of_an_axis(cfformer_golden: Any) -> None:
    network = small_encoder().double()
    cfformer_golden.fill_trainable(network)
    image = cfformer_golden.image("input:edges", (1, 2, 18, 17))
    padded = functional.pad(image, (0, 3, 0, 2))
    assert network.patch_embed(image).shape == (1, 5, 5, 8)
    assert torch.equal(network.patch_embed(image), network.patch_embed(padded))
    assert network.layers[1].downsample(network.patch_embed(image)).shape == (1, 3, 3, 16)


def test_stochastic_depth_leaves_out_whole_samples_in_training_alone() -> None:
    torch.manual_seed(0)
    network = SwinV2(1, 2, (4, 4), [8, 8, 8, 8], [2, 2, 18, 2], [1] * 4, MERGES, drop_path=0.1)
    rates = [block.drop_path for stage in network.stages for block in stage.blocks]
    assert rates == pytest.approx([0.1 * block / 23 for block in range(24)])
    block = SwinV2Block(8, 2, 2, False, drop_path=0.25)
    x = torch.randn(400, 1, 1, 8)
    block.eval()
    assert torch.equal(block(x), block(x))
    block.train()
    block.mlp.fc2.register_forward_hook(lambda module, inputs, output: torch.zeros_like(output))
    added = block(x) - x  # what the second norm makes of zero is its bias, 0
    attended = block.eval()(x) - x
    left_out = (added.flatten(1) == 0).all(1)
    torch.testing.assert_close(added[~left_out], attended[~left_out] / 0.75, rtol=1e-4, atol=1e-5)
    assert 0.15 < left_out.float().mean() < 0.35


def test_one_window_for_all_stages_overrides_the_one_of_least_padding() -> None:
    for window, expected in ((None, [(5, 8), (5, 4)]), ((3, 2), [(3, 2), (3, 2)])):
        network, seen = small_encoder(window=window), []
        for stage in network.stages:
            stage.blocks[0].attn.register_forward_pre_hook(lambda module, inputs, seen=seen: seen.append(inputs[1]))
        network.layers[1](network.layers[0](network.patch_embed(torch.randn(1, 2, 40, 32))))
        assert [windows.window for windows in seen] == expected


def test_the_mean_over_a_batch_does_not_enter() -> None:
    network = small_encoder().double()
    nn.init.normal_(network.layers[0].blocks[1].norm1.weight)
    image = torch.randn(3, 2, 28, 28, dtype=torch.float64)
    together = network.layers[0](network.patch_embed(image))
    alone = torch.cat([network.layers[0](network.patch_embed(sample.unsqueeze(0))) for sample in image])
    torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-12)
