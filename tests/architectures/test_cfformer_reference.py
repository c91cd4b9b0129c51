"""The published CFFormer against golden numbers, counts and shapes, and what a circulating listing of it gets wrong."""

from __future__ import annotations

import copy
import pickle
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_reference import CFFormerReference, Size, own_name

EXACT = 1e-12
TINY = Size((16, 32, 64, 128), (2, 2, 2, 2), (1, 2, 4, 8))
# the rows of the paper's table of ablations
ABLATIONS: dict[str, dict[str, bool]] = {
    "CNN": {"use_transformer": False, "use_cfca": False, "use_xff": False},
    "transformer": {"use_cnn": False, "use_cfca": False, "use_xff": False},
    "plain fusion": {"use_cfca": False, "use_xff": False},
    "CFCA": {"use_xff": False},
    "XFF": {"use_cfca": False},
    "CFCA + XFF": {},
}


def tiny(input_channels: int = 3, num_classes: int = 2, **options: Any) -> CFFormerReference:
    sizes = {"window": (4, 4), "cnn_widths": (8, 16, 32, 64), "cnn_blocks": (1, 1, 1, 1), "stem": 8}
    torch.manual_seed(0)
    return CFFormer.reference(input_channels, num_classes, TINY, **{**sizes, **options})


def tiny_3d(**options: Any) -> CFFormerReference:
    strides = [(1, 2, 2), (2, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)]
    return tiny(1, strides=strides, window=(2, 4, 4), **options)


def from_golden(golden: Any, number: int) -> tuple[CFFormerReference, dict[str, Any]]:
    case = golden.load("network_tiny")[number]
    config = case["config"]
    network = CFFormerReference(
        config["cin"],
        config["K"],
        Size(tuple(config["dims"]), tuple(config["depths"]), tuple(config["heads"])),
        window=[config["win"]] * len(config["img"]),
        strides=config["strides"],
        cnn_widths=config["cc"],
        cnn_blocks=config["blocks"],
        stem=config["stem"],
    )
    network.double().eval()
    network.load_reference_state_dict({e["key"]: golden.fill(e["key"], e["shape"]) for e in case["keys"]})
    return network, case


def golden_image(golden: Any, case: dict[str, Any]) -> torch.Tensor:
    return golden.image(case["input"], (case["batch"], case["config"]["cin"], *case["config"]["img"]))


def record(modules: dict[str, nn.Module]) -> dict[str, Any]:
    """Outputs of the next forward pass under the names given."""
    seen: dict[str, Any] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda module, inputs, output, name=name: seen.update({name: output}))
    return seen


def record_transformer(network: CFFormerReference) -> dict[str, Any]:
    return record({f"v{stage}": layer for stage, layer in enumerate(network.transformer.layers)})


def test_filling_rule_reproduces_its_check_values(cfformer_golden: Any) -> None:
    for entry in cfformer_golden.load("fill_examples"):
        key = entry["key"]
        assert zlib.crc32(key.encode()) == entry["crc32"], key
        make = cfformer_golden.image if key.startswith("input:") else cfformer_golden.fill
        values = make(key, entry["shape"]).flatten()
        assert values[:4].tolist() == pytest.approx(entry["first4"][: values.numel()], rel=1e-15), key
        assert values.sum().item() == pytest.approx(entry["sum"], rel=1e-12, abs=1e-12), key


@pytest.mark.parametrize("number", [0, 1], ids=["2d", "3d"])
def test_small_networks_equal_their_golden_numbers(cfformer_golden: Any, number: int) -> None:
    network, case = from_golden(cfformer_golden, number)
    parts = {f"fusion.{i}.{name}": getattr(f, name) for i, f in enumerate(network.fusion) for name in ("cfca", "xff")}
    seen = record({**parts, **{f"decoder.{i}": stage for i, stage in enumerate(network.decoder.stages)}})
    with torch.no_grad():
        logits = network(golden_image(cfformer_golden, case))
    assert set(seen) >= set(case["intermediate"])
    for name, expected in case["intermediate"].items():
        found = seen[name] if isinstance(seen[name], tuple) else (seen[name],)
        for output, summary in zip(found, expected if isinstance(expected, list) else [expected], strict=True):
            assert cfformer_golden.error(output, summary) < EXACT, f"{name} is the first that is off"
    assert cfformer_golden.error(logits, case["logits"]) < EXACT


@pytest.mark.parametrize("number", [0, 1], ids=["2d", "3d"])
def test_keys_and_shapes_map_one_to_one_onto_the_published_names(cfformer_golden: Any, number: int) -> None:
    network, case = from_golden(cfformer_golden, number)
    own = {key: list(value.shape) for key, value in network.state_dict().items() if not key.endswith("_extra_state")}
    assert own == {own_name(entry["key"]): entry["shape"] for entry in case["keys"]}
    assert len({own_name(entry["key"]) for entry in case["keys"]}) == len(case["keys"])
    assert sum(parameter.numel() for parameter in network.parameters()) == case["n_params"]


def test_published_state_dicts_load_strictly(cfformer_golden: Any) -> None:
    network, case = from_golden(cfformer_golden, 0)
    weights = {entry["key"]: torch.zeros(entry["shape"]) for entry in case["keys"]}
    with pytest.raises(RuntimeError, match=r"Missing.*decoder\.seg_layers\.0\.bias"):
        network.load_reference_state_dict({key: value for key, value in weights.items() if key != "head.bias"})
    with pytest.raises(RuntimeError, match=r"Unexpected.*fusion\.4\.xff\.out\.bias"):
        network.load_reference_state_dict({**weights, "fusion.4.xff.out.bias": torch.zeros(1)})
    with pytest.raises(RuntimeError, match=r"size mismatch for fusion\.0\.xff\.out\.bias"):
        network.load_reference_state_dict({**weights, "fusion.0.xff.out.bias": torch.zeros(1)})


COUNTS = [
    ({}, 147_213_433),
    ({"size": "small"}, 101_096_347),
    ({"size": "tiny"}, 79_715_083),
    ({"skip_channels": (64,) * 4}, 138_496_441),
    ({"size": "small", "skip_channels": (64,) * 4}, 93_669_595),
    ({"size": "tiny", "skip_channels": (64,) * 4}, 72_288_331),
    ({"input_channels": 1}, 147_203_065),
    ({"input_channels": 1, "num_classes": 9}, 147_203_329),
    ({"input_channels": 4, "num_classes": 4}, 147_218_716),
    ({"window": (8, 8)}, 147_213_433),
]


@pytest.mark.parametrize(("options", "count"), COUNTS, ids=lambda value: str(value))
def test_parameter_counts(options: dict[str, Any], count: int) -> None:
    with torch.device("meta"):
        network = CFFormer.reference(**options)
    assert sum(parameter.numel() for parameter in network.parameters()) == count


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


PARTS = {
    "base": (86_891_768, [33_152, 131_840, 525_824, 2_100_224], [389_376, 1_556_992, 6_226_944, 24_905_728], 627),
    "small": (48_957_882, [24_896, 98_944, 394_496, 1_575_424], [301_280, 1_204_672, 4_817_792, 19_269_376], 627),
    "tiny": (27_576_618, [24_896, 98_944, 394_496, 1_575_424], [301_280, 1_204_672, 4_817_792, 19_269_376], 423),
}


@pytest.mark.parametrize("size", PARTS)
def test_parameter_counts_of_the_parts(size: str) -> None:
    transformer, exchanges, fusions, tensors = PARTS[size]
    with torch.device("meta"):
        network = CFFormer.reference(size=size)
    assert count(network.cnn) == 21_284_672
    assert count(network.transformer) == transformer
    assert [count(fusion.cfca) for fusion in network.fusion] == exchanges
    assert [count(fusion.xff) for fusion in network.fusion] == fusions
    assert [count(stage) for stage in network.decoder.stages] == [2_295_040, 574_080, 143_680, 127_296, 26_784]
    assert count(network.decoder.seg_layers) == 33
    assert len(list(network.parameters())) == tensors


@pytest.mark.parametrize(("edge", "window"), [(224, 7), (256, 8)])
def test_shapes_and_windows_of_every_stage(edge: int, window: int) -> None:
    with torch.device("meta"):
        network = CFFormer.reference()
        seen = record(
            {
                "pool": network.cnn.maxpool,
                **{f"u{stage}": layer for stage, layer in enumerate(network.cnn.layers)},
                **{f"fusion{stage}": fusion for stage, fusion in enumerate(network.fusion)},
                **{f"decoder{stage}": layer for stage, layer in enumerate(network.decoder.stages)},
            }
        )
        fine: list[torch.Size] = []
        network.cnn.maxpool.register_forward_pre_hook(lambda module, inputs: fine.append(inputs[0].shape))
        used = []
        for stage in network.transformer.stages:
            for block in stage.blocks[:2]:
                block.attn.register_forward_pre_hook(lambda module, inputs: used.append(inputs[1]))
        logits = network(torch.empty(1, 3, edge, edge))
    assert fine == [(1, 64, edge // 2, edge // 2)]
    for stage, (cnn, transformer) in enumerate(zip((64, 128, 256, 512), (128, 256, 512, 1024), strict=True)):
        size = (edge // 4 // 2**stage,) * 2
        assert seen[f"u{stage}"].shape == (1, cnn, *size)
        shapes = [tuple(x.shape) for x in seen[f"fusion{stage}"]]
        assert shapes == [(1, cnn, *size), (1, transformer, *size), (1, cnn, *size)]
    for stage, (width, step) in enumerate(zip((256, 128, 64, 64, 32), (16, 8, 4, 2, 1), strict=True)):
        assert seen[f"decoder{stage}"].shape == (1, width, edge // step, edge // step)
    assert logits.shape == (1, 1, edge, edge)
    assert [w.window for w in used] == [(window, window)] * 8
    half = window // 2
    assert [w.shift for w in used] == [(0, 0), (half, half)] * 3 + [(0, 0)] * 2, "the last grid is one window"


def test_fused_maps_go_on_into_the_next_stage_of_both_encoders(monkeypatch: pytest.MonkeyPatch) -> None:
    network = tiny().eval()
    nn.init.ones_(network.fusion[0].cfca.v_expand.bias)
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


def test_the_next_skip_depends_on_each_map_through_the_other_encoder(cfformer_golden: Any) -> None:
    network = tiny().double().eval()
    cfformer_golden.fill_trainable(network)
    seen = record({"first": network.fusion[0].cfca, "second": network.fusion[1]})
    into: dict[str, torch.Tensor] = {}

    def note(module: nn.Module, inputs: Any) -> None:
        into.update(u=inputs[0], v=inputs[1])

    network.fusion[0].cfca.register_forward_pre_hook(note)
    network.cnn.layer2.register_forward_hook(lambda module, inputs, output: into.update(layer2=output))
    network.transformer.layers[1].register_forward_hook(lambda module, inputs, output: into.update(stage1=output))
    network(torch.randn(1, 3, 64, 64, dtype=torch.float64))
    for source, through in (("v", "layer2"), ("u", "stage1")):
        (gradient,) = torch.autograd.grad(into[through].square().sum(), into[source], retain_graph=True)
        assert gradient.abs().max() > 0, f"{source} of the first exchange does not reach {through}"
        (gradient,) = torch.autograd.grad(seen["second"][2].square().sum(), into[source], retain_graph=True)
        assert gradient.abs().max() > 0


def test_every_skip_and_the_fine_map_of_the_stem_change_the_output(cfformer_golden: Any) -> None:
    network = tiny().double().eval()
    cfformer_golden.fill_trainable(network)
    image = cfformer_golden.image("input:skips", (1, 3, 64, 64))
    with torch.no_grad():
        expected = network(image)
        for number in range(4):
            handle = network.fusion[number].xff.register_forward_hook(lambda module, inputs, output: output + 0.1)
            assert (network(image) - expected).abs().max() > 1e-8, f"skip {number + 2} is not used"
            handle.remove()
        last = network.decoder.stages[3]
        handle = last.register_forward_pre_hook(lambda module, inputs: (inputs[0], inputs[1] + 0.1))
        assert (network(image) - expected).abs().max() > 1e-8, "the map of the stem is not used"
        handle.remove()
        assert torch.equal(network(image), expected), "two passes of one network differ"


def silent(network: nn.Module) -> list[str]:
    return [name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0]


@pytest.mark.parametrize("make", [tiny, tiny_3d], ids=["2d", "3d"])
@pytest.mark.parametrize("row", ABLATIONS)
def test_rows_of_the_ablation_run_without_idle_parameters(
    cfformer_golden: Any, make: Callable[..., CFFormerReference], row: str
) -> None:
    network = make(drop_path=0.0, **ABLATIONS[row])
    edges = (16, 64, 64) if make is tiny_3d else (64, 64)
    image = torch.randn(2, network.input_channels, *edges)
    network(image).square().mean().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
    cfformer_golden.fill_trainable(network)
    network.zero_grad()
    logits = network(image)
    assert logits.shape == (2, 2, *edges)
    logits.square().mean().backward()
    assert silent(network) == []
    parts = set(dict(network.named_modules()))
    given = {"use_cnn": True, "use_transformer": True, "use_cfca": True, "use_xff": True, **ABLATIONS[row]}
    assert ("cnn.conv1" in parts) == given["use_cnn"]
    assert ("transformer.patch_embed" in parts) == given["use_transformer"]
    assert ("fusion.0.cfca.u_expand" in parts) == given["use_cfca"]
    assert ("fusion.3.xff.u_to_v" in parts) == given["use_xff"]
    assert ("fusion.0.xff.out" in parts) == (given["use_cnn"] and given["use_transformer"])


def test_no_encoder_and_joints_of_one_encoder_are_refused() -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match="needs an encoder"):
            tiny(use_cnn=False, use_transformer=False, use_cfca=False, use_xff=False)
        for option in ("use_cfca", "use_xff"):
            other = {"use_cfca", "use_xff"} - {option}
            with pytest.raises(ValueError, match="join two encoders"):
                tiny(use_cnn=False, **dict.fromkeys(other, False))


def test_nothing_is_interpolated(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("interpolation hides maps of the wrong size")

    monkeypatch.setattr(functional, "interpolate", refuse)
    assert not any(isinstance(module, nn.Upsample) for module in tiny().modules())
    assert tiny()(torch.randn(2, 3, 64, 96)).shape == (2, 2, 64, 96)


@pytest.mark.parametrize("shape", [(1, 3, 48, 64), (1, 3, 64, 65), (1, 1, 64, 64), (3, 64, 64), (1, 3, 64, 64, 64)])
def test_other_inputs_are_refused_in_words(shape: tuple[int, ...]) -> None:
    with torch.device("meta"), pytest.raises(ValueError, match=r"multiples of \(32, 32\)|3 channels, 2 spatial axes"):
        tiny()(torch.empty(shape))


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 4), (4, 9), (7, 1)])
def test_any_number_of_channels_and_classes(channels: int, classes: int) -> None:
    assert tiny(channels, classes).eval()(torch.randn(1, channels, 32, 64)).shape == (1, classes, 32, 64)


def test_without_a_window_it_is_an_eighth_of_the_first_grid_in_every_stage() -> None:
    network, used = tiny(window=None).eval(), []
    for stage in network.transformer.stages:
        stage.blocks[0].attn.register_forward_pre_hook(lambda module, inputs: used.append(inputs[1].window))
    network(torch.randn(1, 3, 64, 96))
    assert used == [(2, 3)] * 4
    used.clear()
    network(torch.randn(1, 3, 32, 32))
    assert used == [(1, 1)] * 4, "small images get windows of one, not none"


def test_images_are_normalised_inside_where_asked() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    plain, inside = tiny().eval(), tiny(image_mean=mean, image_std=std).eval()
    inside.load_state_dict(plain.state_dict())
    image = torch.rand(1, 3, 64, 64)
    outside = (image - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    torch.testing.assert_close(inside(image), plain(outside))


def test_has_nnunets_switch_and_nothing_coarse_to_supervise() -> None:
    network = tiny()
    assert network.decoder.deep_supervision is False
    assert isinstance(network(torch.randn(2, 3, 32, 32)), torch.Tensor)
    assert len(network.decoder.seg_layers) == 1


def test_samples_do_not_mix_in_evaluation(cfformer_golden: Any) -> None:
    network = tiny().double().eval()
    cfformer_golden.fill_trainable(network)
    image = cfformer_golden.image("input:batch", (3, 3, 64, 32))
    with torch.no_grad():
        alone = torch.cat([network(sample.unsqueeze(0)) for sample in image])
        torch.testing.assert_close(network(image), alone, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_with_its_trained_windows() -> None:
    network = tiny(trained_windows=[(8, 8)] * 3 + [(4, 4)]).eval()
    image = torch.randn(1, 3, 64, 64)
    expected = network(image)
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(image), expected)
        assert copied.transformer.trained_windows == [(8, 8)] * 3 + [(4, 4)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_gives_finite_logits_and_gradients(cfformer_golden: Any, dtype: torch.dtype) -> None:
    network = tiny()
    cfformer_golden.fill_trainable(network)
    image = torch.randn(2, 3, 64, 64)
    exact = network.eval()(image)
    with torch.autocast("cpu", dtype=dtype):
        logits = network(image)
        trained = network.train()(image)
    assert (logits.float() - exact).abs().max() < 0.1 * exact.abs().max()
    trained.float().square().mean().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("make", [tiny, tiny_3d], ids=["2d", "3d"])
def test_compiles_in_one_graph(cfformer_golden: Any, make: Callable[..., CFFormerReference]) -> None:
    torch._dynamo.reset()
    network = make(drop_path=0.0)
    cfformer_golden.fill_trainable(network)
    twin = copy.deepcopy(network)
    image = torch.randn(2, network.input_channels, *((16, 64, 64) if make is tiny_3d else (64, 64)))
    expected, actual = network(image), torch.compile(twin, backend="aot_eager", fullgraph=True, dynamic=False)(image)
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for output in (actual, expected):
        output.square().mean().backward()
    for (name, a), (_, b) in zip(twin.named_parameters(), network.named_parameters(), strict=True):
        scale = b.grad.abs().max().item()
        assert (a.grad - b.grad).abs().max().item() <= 1e-3 * scale + 1e-6, name
