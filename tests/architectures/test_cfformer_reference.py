"""The published CFFormer: sizes, official checkpoints, starts, its ablation, and what it refuses.

That it computes what its authors' code computes is in ``test_cfformer_golden.py``.
"""

from __future__ import annotations

import copy
import math
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_reference import CFFormerReference, Size
from nnunet_ext.architectures.cfformer_weights import ALIASES
from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORKS

THIN = Size((16, 32, 64, 128), (2, 2, 2, 2), (1, 2, 4, 8), 0.1)
# the rows of the paper's table of ablations
ABLATIONS: dict[str, dict[str, bool]] = {
    "CNN": {"use_transformer": False, "use_cfca": False, "use_xff": False},
    "transformer": {"use_cnn": False, "use_cfca": False, "use_xff": False},
    "plain fusion": {"use_cfca": False, "use_xff": False},
    "CFCA": {"use_xff": False},
    "XFF": {"use_cfca": False},
    "CFCA + XFF": {},
}
# size -> parameters of the authors' code, ours, tensors of ours
SIZES = {
    "tiny": (99_564_987, 98_281_451, 429),
    "small": (120_950_859, 119_667_323, 621),
    "base": (186_355_849, 184_815_801, 621),
}


def thin(input_channels: int = 3, num_classes: int = 2, **options: Any) -> CFFormerReference:
    """ResNet-34 beside a thin transformer."""
    torch.manual_seed(0)
    return CFFormer.reference(input_channels, num_classes, **{"size": THIN, **options})


def on_meta(**options: Any) -> CFFormerReference:
    with torch.device("meta"):
        return CFFormer.reference(**options)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def record(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Outputs of the next forward pass under the names given."""
    seen: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    return seen


# --- size and shapes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_parameters_are_the_published_ones_without_the_parts_that_are_never_reached(size: str) -> None:
    published, ours, tensors = SIZES[size]
    network = on_meta(size=size)
    assert (count(network), len(list(network.parameters()))) == (ours, tensors)
    last = network.transformer.stages[-1].blocks[0].norm1.normalized_shape[0]
    classifiers, final_norm = (512 + 1) * 1000 + (last + 1) * 1000, 2 * last
    assert ours + classifiers + final_norm == published
    assert NETWORKS["CFFormer"].published_parameters[size] == published


def test_the_default_is_the_published_size() -> None:
    assert count(on_meta()) == SIZES["tiny"][1]


@pytest.mark.parametrize(
    ("options", "difference"),
    [
        ({"num_classes": 2}, 65),
        ({"num_classes": 9}, 8 * 65),
        ({"input_channels": 1}, -2 * (3136 + 16 * 96)),
        ({"input_channels": 4}, 3136 + 16 * 96),
    ],
)
def test_channels_and_classes_change_the_first_and_last_layers_alone(options: dict, difference: int) -> None:
    assert count(on_meta(**options)) == SIZES["tiny"][1] + difference


PARTS: dict[str, tuple[int, list[int], list[int], list[int]]] = {
    "tiny": (
        27_578_154 - 1536 + 12 * 368,
        [24_896, 98_944, 394_496, 1_575_424],
        [347_392, 1_389_056, 5_555_200, 22_218_752],
        [8_556_288, 6_786_048, 1_697_280, 459_584, 238_208],
    ),
    "base": (
        6_528 + 403_720 + 1_590_800 + 56_918_304 + 25_228_352 + 131_584 + 525_312 + 2_099_200,
        [33_152, 131_840, 525_824, 2_100_224],
        [500_032, 1_999_488, 7_996_672, 31_984_128],
        [15_209_472, 12_062_720, 3_016_704, 754_688, 238_208],
    ),
}


@pytest.mark.parametrize("size", PARTS)
def test_parameters_of_the_parts(size: str) -> None:
    transformer, exchanges, fusions, steps = PARTS[size]
    network = on_meta(size=size)
    assert count(network.cnn) == 21_284_672
    assert count(network.transformer) == transformer
    assert [count(fusion.cfca) for fusion in network.fusion] == exchanges
    assert [count(fusion.xff) for fusion in network.fusion] == fusions
    stages, ups = network.decoder.stages, network.decoder.transpconvs
    assert [count(stage) + count(up) for stage, up in zip(stages, ups, strict=False)] == steps
    assert count(stages[-1]) + count(network.decoder.seg_layers) == 74_177


@pytest.mark.parametrize("edge", [224, 256])
def test_shapes_and_windows_of_every_stage(edge: int) -> None:
    network = on_meta()
    seen = record({f"fusion{stage}": fusion for stage, fusion in enumerate(network.fusion)})
    seen_ups = record({f"up{number}": up for number, up in enumerate(network.decoder.transpconvs)})
    fine: list[torch.Size] = []
    network.cnn.maxpool.register_forward_pre_hook(lambda module, inputs: fine.append(inputs[0].shape))
    used = []
    for stage in network.transformer.stages:
        for block in stage.blocks[:2]:
            block.attn.register_forward_pre_hook(lambda module, inputs: used.append(inputs[1]))
    assert network(torch.empty(1, 3, edge, edge, device="meta")).shape == (1, 1, edge, edge)
    assert fine == [(1, 64, edge // 2, edge // 2)], "the finest skip is taken before the pooling"
    for stage, (cnn, transformer) in enumerate(zip((64, 128, 256, 512), (96, 192, 384, 768), strict=True)):
        size = (edge // 4 // 2**stage,) * 2
        shapes = [tuple(x.shape) for x in seen[f"fusion{stage}"]]
        assert shapes == [(1, cnn, *size), (1, transformer, *size), (1, transformer, *size)]
    for number, (width, step) in enumerate(zip((384, 192, 96, 64, 64), (16, 8, 4, 2, 1), strict=True)):
        assert seen_ups[f"up{number}"].shape == (1, width, edge // step, edge // step)
    assert [w.window for w in used] == [(8, 8)] * 8, "never clipped to the grid"
    padded = [56, 32, 16, 8] if edge == 224 else [64, 32, 16, 8]
    assert [w.padded for w in used[::2]] == [(grid, grid) for grid in padded]
    assert [w.shift for w in used] == [(0, 0), (4, 4)] * 3 + [(0, 0)] * 2, "the last grid is one window"


@pytest.mark.parametrize("size", [(32, 32), (64, 96), (160, 32)])
def test_any_multiple_of_32_runs_in_any_aspect(size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert thin().eval()(torch.randn(1, 3, *size)).shape == (1, 2, *size)


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 4), (4, 9), (7, 1)])
def test_any_number_of_channels_and_classes(channels: int, classes: int) -> None:
    with torch.no_grad():
        assert thin(channels, classes).eval()(torch.randn(1, channels, 32, 64)).shape == (1, classes, 32, 64)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3, 48, 64), r"multiples of \(32, 32\); got \(48, 64\): pad to \(64, 64\)"),
        ((1, 3, 240, 250), r"pad to \(256, 256\)"),
        ((1, 1, 64, 64), "3 channels, 2 spatial axes"),
        ((3, 64, 64), "3 channels, 2 spatial axes"),
        ((1, 3, 64, 64, 64), "3 channels, 2 spatial axes"),
    ],
)
def test_other_inputs_are_refused_with_the_remedy(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        on_meta(size=THIN)(torch.empty(shape, device="meta"))


def test_unknown_sizes_no_encoder_and_joints_of_one_encoder_are_refused() -> None:
    with pytest.raises(ValueError, match=r"no size 'large'; choose from \['tiny', 'small', 'base'\]"):
        on_meta(size="large")
    with pytest.raises(ValueError, match="needs an encoder"):
        on_meta(use_cnn=False, use_transformer=False, use_cfca=False, use_xff=False)
    for option in ("use_cfca", "use_xff"):
        other = {"use_cfca", "use_xff"} - {option}
        with pytest.raises(ValueError, match="join two encoders"):
            on_meta(use_cnn=False, **dict.fromkeys(other, False))


# --- official checkpoints --------------------------------------------------------------------------------------------


def official(golden: Any, aliases: bool = True) -> dict[str, torch.Tensor]:
    """Zeros under all 1,048 names of a checkpoint of the authors, or under the first name of each tensor."""
    keys = golden.load("keys_s")
    state = {name: torch.zeros(shape) for name, (shape, _) in keys["keys"].items()}
    if aliases:
        for alias, first in keys["aliases"].items():
            state |= {alias + n.removeprefix(first): value for n, value in state.items() if n.startswith(first)}
    return state


def test_the_aliases_are_those_of_official_checkpoints(authors_golden: Any) -> None:
    assert authors_golden.load("keys_s")["aliases"] == ALIASES
    assert (len(official(authors_golden)), len(official(authors_golden, aliases=False))) == (1048, 603)


@pytest.mark.parametrize("names", ["all", "first", "aliases"])
def test_official_checkpoints_load_under_any_of_their_names(authors_golden: Any, names: str) -> None:
    state = official(authors_golden, aliases=names != "first")
    for key, value in state.items():
        value.fill_(len(key) % 7 if value.is_floating_point() else 0)
    if names == "aliases":
        firsts = tuple(ALIASES.values())
        state = {key: value for key, value in state.items() if not key.startswith(firsts)}
    network = CFFormer.reference()
    network.load_state_dict({key: torch.full_like(value, -1) for key, value in network.state_dict().items()})
    network.load_reference_state_dict(state)
    untouched = [key for key, value in network.state_dict().items() if value.numel() and (value == -1).any()]
    assert untouched == []
    assert network.transformer.trained_windows == [None] * 4


def test_official_checkpoints_load_strictly(authors_golden: Any) -> None:
    network, weights = on_meta(), official(authors_golden)
    for key in ("decoder.out.6.bias", "encoder.cdca2.channel_self_attn1.linear2.weight"):
        with pytest.raises(ValueError, match="published CFFormer: 1 keys missing"):
            network.load_reference_state_dict({name: value for name, value in weights.items() if name != key})
    with pytest.raises(ValueError, match=r"1 keys unknown, such as fusion\.4\.xff\.out\.bias"):
        network.load_reference_state_dict({**weights, "encoder.X_spatial_5.out.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"unknown, such as decoder\.upconv5\.5\.bias"):
        network.load_reference_state_dict({**weights, "decoder.upconv5.5.bias": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"decoder\.seg_layers\.0\.bias has shape \(4,\) instead of \(1,\)"):
        network.load_reference_state_dict({**weights, "decoder.out.6.bias": torch.zeros(4)})
    with pytest.raises(ValueError, match="not the weights of this published CFFormer"):
        on_meta(size="small").load_reference_state_dict(weights)


def test_two_names_of_one_tensor_must_agree(authors_golden: Any) -> None:
    weights = official(authors_golden)
    weights["encoder.cnn_layer2.0.bn1.weight"] = weights["encoder.cnn_layer2.0.bn1.weight"] + 1
    with pytest.raises(
        ValueError, match=r"cnn_layer2\.0\.bn1\.weight and encoder\.cnn\.layer2\.0\.bn1\.weight are one"
    ):
        on_meta().load_reference_state_dict(weights)


def test_weights_of_the_earlier_composition_are_told_for_what_they_are() -> None:
    network = on_meta(size=THIN)
    with pytest.raises(UserError, match=r"nnUNetTrainerCFFormer_paper of nnunet_ext 0\.1\.0.*not the authors' network"):
        network.load_state_dict({"decoder.stages.0.up.weight": torch.zeros(1)})


# --- first weights ---------------------------------------------------------------------------------------------------


def test_first_weights_are_drawn_as_coded() -> None:
    torch.manual_seed(0)
    network = CFFormer.reference()

    def spread(weight: torch.Tensor) -> float:
        return weight.std().item()

    assert spread(network.cnn.conv1.weight) == pytest.approx(math.sqrt(2 / (64 * 49)), rel=0.05)
    assert spread(network.cnn.layer4[2].conv2.weight) == pytest.approx(math.sqrt(2 / (512 * 9)), rel=0.01)
    deepest, up = network.decoder.stages[0].convs[0], network.decoder.transpconvs[0]
    assert spread(deepest.conv.weight) == pytest.approx(math.sqrt(2 / (768 * 9)), rel=0.01)
    assert spread(up.weight) == pytest.approx(0.0361, rel=0.01)
    assert spread(network.decoder.seg_layers[0].weight) == pytest.approx(math.sqrt(2), rel=0.3)
    for linear in (network.fusion[2].cfca.v_expand, network.transformer.layers[2].blocks[3].attn.qkv):
        assert spread(linear.weight) == pytest.approx(0.02, rel=0.02)
        assert linear.bias.abs().max() == 0
    for convolution in (network.fusion[1].xff.out, network.transformer.patch_embed.proj):
        bound = 1 / math.sqrt(convolution.weight[0].numel())
        assert bound * 0.9 < convolution.weight.abs().max().item() <= bound, "as torch draws it"
        assert convolution.bias.abs().max() > 0
    for block in (block for stage in network.transformer.stages for block in stage.blocks):
        assert block.norm1.weight.min() == block.norm2.weight.min() == 1, "blocks do not start as the identity"
        torch.testing.assert_close(block.attn.logit_scale, torch.full_like(block.attn.logit_scale, math.log(10)))
    assert all(block.bn2.weight.min() == 1 for layer in network.cnn.layers for block in layer)
    assert all(m.bias.abs().max() == 0 for m in network.decoder.modules() if isinstance(m, nn.Conv2d))


@pytest.mark.parametrize(("size", "rate"), [("tiny", 0.2), ("small", 0.3), ("base", 0.5)])
def test_drop_path_is_that_of_the_size_and_rises_linearly(size: str, rate: float) -> None:
    def rates(**options: Any) -> list[float]:
        return [block.drop_path for stage in on_meta(size=size, **options).transformer.stages for block in stage.blocks]

    last = len(rates()) - 1
    assert rates() == pytest.approx([rate * block / last for block in range(last + 1)])
    assert set(rates(drop_path=0.0)) == {0.0}


def test_every_tensor_learns_and_only_a_scale_above_its_bound_does_not(authors_golden: Any) -> None:
    network = thin(drop_path=0.0)
    images = torch.randn(2, 3, 64, 64)
    network(images).square().mean().backward()
    assert silent(network) == [], "at first weights"
    authors_golden.fill_trainable(network)
    network.zero_grad()
    network(images).square().mean().backward()
    assert silent(network) == [], "with filled weights"
    bias = network.transformer.layers[1].blocks[0].attn.qkv.bias.grad
    query, key, value = bias.chunk(3)
    assert key.abs().max() == 0, "the key has no bias"
    assert min(query.abs().max(), value.abs().max()) > 0


def silent(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


# --- how the parts act together --------------------------------------------------------------------------------------


def test_fused_maps_go_on_into_the_next_stage_of_both_encoders(
    authors_golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = thin().eval()
    authors_golden.fill_trainable(network)
    inputs: list[list[torch.Tensor]] = []
    for module in (network.cnn.layer2, network.transformer.layers[1]):
        module.register_forward_pre_hook(lambda module, given: inputs[-1].append(given[0].clone()))
    image = torch.randn(1, 3, 64, 64)
    for patched in (False, True):
        inputs.append([])
        if patched:
            monkeypatch.setattr(ChannelExchange, "forward", lambda self, u, v: (u, v))
        with torch.no_grad():
            network(image)
    for fused, bare in zip(*inputs, strict=True):
        assert (fused - bare).abs().max() > 1e-3, "the exchange only decorates the skips"


def test_every_skip_and_the_fine_map_of_the_stem_change_the_output(authors_golden: Any) -> None:
    network = thin().double().eval()
    authors_golden.fill_trainable(network)
    image = authors_golden.image("input:skips", (1, 3, 64, 64))
    skips: list[Any] = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: skips.append(inputs[0]))
    with torch.no_grad():
        expected = network(image)
        whole, *given = skips[0]
        assert whole is None, "there is no skip at full resolution"
        assert len(given) == 5
        for number, skip in enumerate(given):
            changed = [*given[:number], skip + 0.1, *given[number + 1 :]]
            assert (network.decoder([None, *changed]) - expected).abs().max() > 1e-8, f"skip {number} is not used"
        assert torch.equal(network(image), expected), "two passes of one network differ"


@pytest.mark.parametrize("row", ABLATIONS)
def test_rows_of_the_ablation_run_without_idle_parameters(authors_golden: Any, row: str) -> None:
    network = thin(drop_path=0.0, **ABLATIONS[row])
    authors_golden.fill_trainable(network)
    logits = network(torch.randn(2, 3, 64, 64))
    assert logits.shape == (2, 2, 64, 64)
    logits.square().mean().backward()
    assert silent(network) == []
    parts = set(dict(network.named_modules()))
    given = {"use_cnn": True, "use_transformer": True, "use_cfca": True, "use_xff": True, **ABLATIONS[row]}
    assert ("cnn.conv1" in parts) == given["use_cnn"]
    assert ("transformer.patch_embed" in parts) == given["use_transformer"]
    assert ("fusion.0.cfca.u_expand" in parts) == given["use_cfca"]
    assert ("fusion.3.xff.u_to_v" in parts) == given["use_xff"]
    assert ("fusion.0.xff.out" in parts) == (given["use_cnn"] and given["use_transformer"])
    widths = (64, 128, 256) if row == "CNN" else THIN.widths[:3]
    assert [up.out_channels for up in network.decoder.transpconvs] == [*reversed(widths), 64, 64]


def test_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("interpolation hides maps of the wrong size")

    monkeypatch.setattr(functional, "interpolate", refuse)
    network = thin()
    assert not any(isinstance(module, nn.Upsample) for module in network.modules())
    assert network(torch.randn(2, 3, 64, 96)).shape == (2, 2, 64, 96)


def test_images_are_normalised_inside_where_asked() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    plain, inside = thin().eval(), thin(image_mean=mean, image_std=std).eval()
    inside.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 64, 64)
    outside = (image - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(inside(image), plain(outside))


def test_has_nnunets_switch_and_nothing_coarse_to_supervise() -> None:
    network = thin()
    assert network.decoder.deep_supervision is False
    assert isinstance(network(torch.randn(2, 3, 32, 32)), torch.Tensor)
    assert len(network.decoder.seg_layers) == 1


def test_samples_do_not_mix_in_evaluation(authors_golden: Any) -> None:
    network = thin().double().eval()
    authors_golden.fill_trainable(network)
    image = authors_golden.image("input:batch", (3, 3, 64, 32))
    with torch.no_grad():
        alone = torch.cat([network(sample.unsqueeze(0)) for sample in image])
        torch.testing.assert_close(network(image), alone, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_with_its_trained_windows() -> None:
    network = thin().eval()
    network.transformer.set_trained_windows([(16, 16)] * 3 + [(8, 8)])
    image = torch.randn(1, 3, 64, 64)
    expected = network(image)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(image), expected)
        assert copied.transformer.trained_windows == [(16, 16)] * 3 + [(8, 8)]


@pytest.mark.parametrize("dtype", [pytest.param(torch.bfloat16, marks=pytest.mark.slow), torch.float16])
def test_half_precision_gives_finite_logits_and_gradients(authors_golden: Any, dtype: torch.dtype) -> None:
    """In float16 too, where a gradient through the keys of padding would be infinite."""
    network = thin()
    authors_golden.fill_trainable(network)
    image = torch.randn(2, 3, 32, 64)
    exact = network.eval()(image)
    with torch.autocast("cpu", dtype=dtype):
        logits = network(image)
        trained = network.train()(image)
    assert (logits.float() - exact).abs().max() < 0.1 * exact.abs().max()
    trained.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.slow
def test_compiles_in_one_graph(authors_golden: Any) -> None:
    torch._dynamo.reset()
    network = thin(drop_path=0.0)
    authors_golden.fill_trainable(network)
    twin = copy.deepcopy(network)
    image = torch.randn(2, 3, 64, 96)
    expected, actual = network(image), torch.compile(twin, backend="aot_eager", fullgraph=True, dynamic=False)(image)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for output in (actual, expected):
        output.square().mean().backward()
    for (name, a), (_, b) in zip(twin.named_parameters(), network.named_parameters(), strict=True):
        scale = b.grad.abs().max().item()
        assert (a.grad - b.grad).abs().max().item() <= 1e-3 * scale + 1e-6, name
