"""Published weights in every spelling of their files, for any image channels and windows, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import torch

from nnunet_ext.architectures import pretrained
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_presets import PRESETS, Preset
from nnunet_ext.architectures.cfformer_reference import CFFormerReference, Size

SIZE = Size((16, 32, 64, 128), (2, 2, 2, 2), (1, 2, 4, 8), 0.1)
EDGE = 256  # whose grids windows of 8 divide
WINDOWS = [(8, 8)] * 4
RESNET34 = (3, 4, 6, 3)
State = dict[str, torch.Tensor]


def network_for(input_channels: int = 3, **options: Any) -> CFFormerReference:
    """ResNet-34 beside a thin Swin V2."""
    torch.manual_seed(1)
    return CFFormer.reference(input_channels, 2, SIZE, **options)


def timm_swin(embed: int = 16) -> Any:
    """With norms that do something, final norm and head included."""
    module = pytest.importorskip("timm.models.swin_transformer_v2")
    torch.manual_seed(0)
    network = module.SwinTransformerV2(
        img_size=EDGE,
        embed_dim=embed,
        depths=SIZE.depths,
        num_heads=SIZE.heads,
        window_size=8,
        num_classes=10,
    )
    return shaken(network)


def torchvision_swin() -> Any:
    """As CFFormer's authors build theirs, but thin."""
    from torchvision.models import swin_transformer as module

    torch.manual_seed(0)
    parts = {"block": module.SwinTransformerBlockV2, "downsample_layer": module.PatchMergingV2}
    depths, heads = list(SIZE.depths), list(SIZE.heads)
    return shaken(module.SwinTransformer([4, 4], 16, depths, heads, [8, 8], num_classes=10, **parts))


def shaken(network: Any) -> Any:
    """With norms that do something, and biases."""
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return network.eval()


def timm_resnet(blocks: Sequence[int] = RESNET34) -> Any:
    module = pytest.importorskip("timm.models.resnet")
    torch.manual_seed(0)
    return module.ResNet(module.BasicBlock, blocks, zero_init_last=False).eval()


def features_only(weights: Mapping[str, torch.Tensor]) -> State:
    """timm's feature extractors: ``layers_0.``, no final norm, no head."""
    kept = {key: value for key, value in weights.items() if not key.startswith(("norm.", "head."))}
    return {re.sub(r"^layers\.(\d)", r"layers_\1", key): value for key, value in kept.items()}


def authors_table(window: Sequence[int], trained: Sequence[int]) -> torch.Tensor:
    """Distances in a window as the authors of Swin V2 store them, on the scale of the window of the first training."""
    axes = []
    for edge, first in zip(window, trained, strict=True):
        distance = torch.arange(-(edge - 1), edge, dtype=torch.float32) * 8 / max(first - 1, 1)
        axes.append(distance.sign() * (distance.abs() + 1).log2() / 3)
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).unsqueeze(0)


def of_the_authors(weights: Mapping[str, torch.Tensor]) -> State:
    """Merging at the end of a stage, the head's own name, and everything that timm recomputes."""
    renamed: State = {}
    for key, value in weights.items():
        if found := re.match(r"layers\.(\d)\.downsample\.(.*)", key):
            key = f"layers.{int(found[1]) - 1}.downsample.{found[2]}"
        renamed[key.replace("head.fc.", "head.")] = value
    for stage, (edge, _) in enumerate(WINDOWS):
        for block in range(2):
            attn = f"layers.{stage}.blocks.{block}.attn."
            renamed[f"{attn}relative_coords_table"] = authors_table((edge, edge), (edge, edge))
            renamed[f"{attn}relative_position_index"] = torch.zeros(edge**2, edge**2, dtype=torch.long)
            renamed[f"{attn}k_bias"] = torch.zeros(16)
        renamed[f"layers.{stage}.blocks.1.attn_mask"] = torch.zeros(4, edge**2, edge**2)
    return renamed


SPELLINGS: dict[str, Callable[[Mapping[str, torch.Tensor]], State]] = {
    "timm": dict,
    "features only": features_only,
    "authors": of_the_authors,
}


def own_keys(network: CFFormerReference, prefix: str) -> list[str]:
    return sorted(key for key in network.state_dict() if key.startswith(prefix) and "_extra_state" not in key)


def stages_of(network: Any, image: torch.Tensor) -> list[torch.Tensor]:
    x, found = network.patch_embed(image), []
    for layer in network.layers:
        x = layer(x)
        found.append(x)
    return found


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_swin_v2_loads_from_every_spelling_and_computes_what_timm_computes(spelling: str) -> None:
    theirs = timm_swin().double()
    network = network_for().double().eval()
    windows = None if spelling == "authors" else WINDOWS
    report = network.load_pretrained("transformer", SPELLINGS[spelling](theirs.state_dict()), windows)
    assert network.transformer.trained_windows == report.windows == WINDOWS
    image = torch.randn(1, 3, EDGE, EDGE, dtype=torch.float64)
    with torch.no_grad():
        for found, expected in zip(stages_of(network.transformer, image), stages_of(theirs, image), strict=True):
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert sorted(report.loaded) == own_keys(network, "transformer.")
    assert report.parameters == sum(parameter.numel() for parameter in network.transformer.parameters())
    assert report.reshaped == []
    skipped = {
        "timm": {"norm.weight", "norm.bias", "head.fc.weight", "head.fc.bias"},
        "features only": set(),
        "authors": {"norm.weight", "norm.bias", "head.weight", "head.bias"},
    }[spelling]
    assert {key for key in report.skipped if not key.startswith("layers.")} == skipped
    assert len(report.skipped) - len(skipped) == (3 * 8 + 4 if spelling == "authors" else 0)


@pytest.mark.parametrize("size", [(64, 64), (224, 224), (96, 160)])
def test_torchvisions_swin_v2_loads_and_computes_what_it_computes_there_at_any_size(size: tuple[int, int]) -> None:
    """At 224 grids are padded to whole windows, and the padding is attended to."""
    theirs = torchvision_swin().double()
    network = network_for().double().eval()
    report = network.load_pretrained("transformer", theirs.state_dict())
    assert network.transformer.trained_windows == [(8, 8)] * 4
    image = torch.randn(1, 3, *size, dtype=torch.float64)
    found = network.transformer.patch_embed(image)
    expected = theirs.features[0](image)
    with torch.no_grad():
        for stage in range(4):
            found = network.transformer.layers[stage](found)
            for part in theirs.features[1 + 2 * stage - (stage > 0) : 2 + 2 * stage]:
                expected = part(expected)
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert sorted(report.loaded) == own_keys(network, "transformer.")
    skipped = {key for key in report.skipped if not key.endswith(("coords_table", "position_index"))}
    assert skipped == {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_torchvisions_files_tell_their_windows() -> None:
    assert pretrained.swin_windows(torchvision_swin().state_dict()) == WINDOWS


def test_biases_of_torchvision_and_timm_become_one_another() -> None:
    stacked = pretrained.swin_names(torchvision_swin().state_dict())
    split = pretrained.split_biases(stacked)
    assert not any(key.endswith("qkv.bias") for key in split)
    again = pretrained.stacked_biases(split)
    key = "layers.1.blocks.0.attn.qkv.bias"
    expected = stacked[key].clone()
    expected[32:64] = 0  # of the key, which has none
    assert torch.equal(again[key], expected)
    assert again.keys() == stacked.keys()


@pytest.mark.parametrize(("part", "source"), [("cnn", "timm"), ("cnn", "torchvision"), ("transformer", "torchvision")])
def test_reference_state_dicts_may_be_those_of_one_encoder(part: str, source: str) -> None:
    if part == "cnn":
        theirs = timm_resnet() if source == "timm" else pytest.importorskip("torchvision.models").resnet34()
    else:
        theirs = torchvision_swin()
    network = network_for()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_reference_state_dict(theirs.state_dict())
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert {key.split(".")[0] for key in changed} == {part}


def test_resnet_loads_and_computes_what_timm_computes() -> None:
    theirs, network = timm_resnet(), network_for().eval()
    with torch.no_grad():
        for name, buffer in theirs.named_buffers():
            if not name.endswith("num_batches_tracked"):
                buffer.add_(0.1 * torch.rand_like(buffer))
    report = network.load_pretrained("cnn", theirs.state_dict())
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = network.cnn.maxpool(network.cnn.stem(image))
        for layer in network.cnn.layers:
            x = layer(x)
        torch.testing.assert_close(x, theirs.forward_features(image), rtol=1e-5, atol=1e-5)
    assert report.skipped == ["fc.bias", "fc.weight"]
    assert sorted(report.loaded) == sorted(key for key in network.state_dict() if key.startswith("cnn."))


def test_counters_of_batches_may_be_missing_as_in_old_files() -> None:
    weights = {k: v for k, v in timm_resnet().state_dict().items() if not k.endswith("num_batches_tracked")}
    network = network_for()
    report = network.load_pretrained("cnn", weights)
    assert torch.equal(network.cnn.layer4[0].conv2.weight, weights["layer4.0.conv2.weight"])
    assert network.cnn.bn1.num_batches_tracked == 0
    assert not any(key.endswith("num_batches_tracked") for key in report.loaded)


def test_one_encoder_is_loaded_and_the_rest_stays() -> None:
    network = network_for()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_pretrained("transformer", timm_swin().state_dict(), 8)
    changed = {key for key, value in network.state_dict().items() if not torch.equal(value, before[key])}
    assert changed
    assert {key.split(".")[0] for key in changed} == {"transformer"}


@pytest.mark.parametrize("channels", [1, 3, 4, 7])
@pytest.mark.parametrize("part", ["cnn", "transformer"])
def test_any_number_of_image_channels_follows_timms_rule(part: str, channels: int) -> None:
    adapt = pytest.importorskip("timm.models").adapt_input_conv
    weights = (timm_resnet() if part == "cnn" else timm_swin()).state_dict()
    first = "conv1.weight" if part == "cnn" else "patch_embed.proj.weight"
    network = network_for(channels)
    report = network.load_pretrained(part, weights, 8 if part == "transformer" else None)
    loaded = network.state_dict()[f"{part}.{first}"]
    torch.testing.assert_close(loaded, adapt(channels, weights[first]), rtol=1e-6, atol=1e-7)
    shapes = (tuple(weights[first].shape), tuple(loaded.shape))
    assert report.reshaped == ([] if channels == 3 else [(f"{part}.{first}", *shapes)])
    if channels != 3:
        assert f"{part}.{first}: {shapes[0]} made {shapes[1]}" in report.as_text()


@pytest.mark.parametrize("channels", [1, 2, 4, 6, 7])
def test_equal_channels_of_multiples_of_three_and_one_give_what_rgb_gave(channels: int) -> None:
    weight, gray = (torch.randn(shape, dtype=torch.float64) for shape in ((5, 3, 7, 7), (1, 1, 16, 16)))
    adapted = pretrained.with_channels(weight, channels)
    assert adapted.shape == (5, channels, 7, 7)
    if channels in (1, 6):
        expected = torch.conv2d(gray.expand(-1, 3, -1, -1), weight)
        torch.testing.assert_close(torch.conv2d(gray.expand(-1, channels, -1, -1), adapted), expected)
    for copy in range(3, channels):
        assert torch.equal(adapted[:, copy], adapted[:, copy - 3])


@pytest.mark.parametrize(
    ("part", "key"), [("cnn", "layer2.0.downsample.1.weight"), ("transformer", "layers.2.blocks.1.attn.qkv.weight")]
)
def test_missing_unknown_and_misshapen_weights_are_refused_by_name(part: str, key: str) -> None:
    weights = (timm_resnet() if part == "cnn" else timm_swin()).state_dict()
    network = network_for()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    what = "ResNet" if part == "cnn" else "Swin V2"
    with pytest.raises(ValueError, match=rf"of this {what}: 1 keys missing, such as {re.escape(key)}"):
        network.load_pretrained(part, {k: v for k, v in weights.items() if k != key})
    with pytest.raises(ValueError, match=rf"of this {what}: 1 keys unknown, such as layers?\.?5\.other"):
        network.load_pretrained(part, {**weights, "layer5.other" if part == "cnn" else "layers.5.other": weights[key]})
    shape = tuple(weights[key].shape)
    with pytest.raises(ValueError, match=re.escape(f"{key} has shape {(*shape, 1)} instead of {shape}")):
        network.load_pretrained(part, {**weights, key: weights[key].unsqueeze(-1)})
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "half loaded"


def test_weights_of_another_size_or_patch_are_refused() -> None:
    with pytest.raises(ValueError, match="instead of"):
        network_for().load_pretrained("transformer", timm_swin(embed=32).state_dict())
    deeper = timm_resnet(blocks=(4, 4, 6, 3)).state_dict()
    with pytest.raises(ValueError, match=r"unknown, such as layer1\.3"):
        network_for().load_pretrained("cnn", deeper)
    weights = timm_swin().state_dict()
    weights["patch_embed.proj.weight"] = weights["patch_embed.proj.weight"][..., :2]
    with pytest.raises(ValueError, match=r"patch_embed\.proj\.weight has shape \(16, 3, 4, 2\)"):
        network_for().load_pretrained("transformer", weights)


def test_an_encoder_that_is_not_there_takes_none() -> None:
    network = network_for(use_transformer=False, use_cfca=False, use_xff=False)
    with pytest.raises(ValueError, match="no transformer"):
        network.load_pretrained("transformer", {})
    with pytest.raises(ValueError, match="no decoder"):
        network_for().load_pretrained("decoder", {})


def test_trained_windows_are_kept_with_the_weights_and_used() -> None:
    """Weights trained with windows of 16: at 8, as here, the bias of a distance stays that of timm."""
    theirs, network = timm_swin(), network_for().eval()
    windows = [(16, 16)] * 3 + [(8, 8)]
    network.load_pretrained("transformer", theirs.state_dict(), windows=windows)
    assert network.transformer.trained_windows == windows
    reloaded = network_for().eval()
    reloaded.load_state_dict(network.state_dict())
    assert reloaded.transformer.trained_windows == windows
    module = pytest.importorskip("timm.models.swin_transformer_v2")
    wide = module.SwinTransformerV2(
        img_size=EDGE,
        embed_dim=16,
        depths=SIZE.depths,
        num_heads=SIZE.heads,
        window_size=8,
        pretrained_window_sizes=(16, 16, 16, 8),
        num_classes=10,
    ).eval()
    wide.load_state_dict(theirs.state_dict(), strict=False)
    image = torch.randn(1, 3, EDGE, EDGE)
    with torch.no_grad():
        first = stages_of(reloaded.transformer, image)[0]
        torch.testing.assert_close(first, stages_of(wide, image)[0], rtol=1e-4, atol=1e-4)
        assert torch.equal(reloaded(image), network(image))
        reloaded.transformer.trained_windows = [None] * 4
        assert not torch.allclose(stages_of(reloaded.transformer, image)[0], first, atol=1e-3)


def test_weights_that_do_not_tell_their_windows_are_refused_and_a_second_start_forgets_the_first() -> None:
    weights, network = timm_swin().state_dict(), network_for()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    for load in (network.load_reference_state_dict, lambda given: network.load_pretrained("transformer", given)):
        with pytest.raises(ValueError, match=r"do not tell the windows .*; give load_pretrained 'windows': 8 for"):
            load(weights)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items()), "half loaded"
    network.load_pretrained("transformer", weights, windows=12)
    network.load_reference_state_dict(of_the_authors(weights))
    assert network.transformer.trained_windows == WINDOWS
    network.load_reference_state_dict(torchvision_swin().state_dict())
    assert network.transformer.trained_windows == [(8, 8)] * 4


def test_windows_are_read_from_the_authors_files_alone() -> None:
    weights = timm_swin().state_dict()
    assert pretrained.swin_windows(of_the_authors(weights)) == WINDOWS
    assert pretrained.swin_windows(weights) is None


def test_the_self_configuring_network_takes_the_transformer_where_the_plan_has_its_form(
    plan_arguments: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS[2], "tiny", Preset(32, 2, (1,)))
    plan = {**plan_arguments(2, 6, [4, 8, 8, 8, 8, 8]), "preset": "tiny"}
    theirs = timm_swin(embed=32)
    network = CFFormer(**plan).eval()  # two image channels
    report = network.load_pretrained("transformer", theirs.state_dict(), windows=4)
    assert [key for key, _, _ in report.reshaped] == ["transformer.patch_embed.proj.weight"]
    assert torch.equal(
        network.transformer.layers[3].blocks[1].mlp.fc2.weight, theirs.layers[3].blocks[1].mlp.fc2.weight
    )
    assert network.transformer.trained_windows == [(4, 4)] * 4
    with pytest.raises(ValueError, match="takes no published weights for its cnn"):
        network.load_pretrained("cnn", timm_resnet().state_dict())
    other = CFFormer(**{**plan_arguments(2, 5, [4, 8, 8, 8, 8]), "preset": "tiny"})
    with pytest.raises(ValueError, match=r"keys unknown, such as layers\.3\."):
        other.load_pretrained("transformer", theirs.state_dict())


def test_the_report_tells_what_was_loaded_and_left_out() -> None:
    report = pretrained.Report(
        loaded=["a", "b"], reshaped=[("a", (1, 3), (1, 1))], skipped=[f"head.{i}" for i in range(6)], parameters=12_345
    )
    assert report.as_text().splitlines() == [
        "2 tensors loaded, 12,345 parameters",
        "  a: (1, 3) made (1, 1)",
        f"6 tensors of the file have no place in this network: {', '.join(report.skipped)}",
    ]


@pytest.mark.parametrize(
    ("window", "trained"), [((8, 8), (8, 8)), ((16, 16), (12, 12)), ((8, 8), (6, 6)), ((4, 6), (3, 7))]
)
def test_the_window_of_the_first_training_is_read_from_the_authors_tables(window, trained):
    table = authors_table(window, trained)
    assert pretrained.swin_windows({"layers.0.blocks.0.attn.relative_coords_table": table}) == [trained]
