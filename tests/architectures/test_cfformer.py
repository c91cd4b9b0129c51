"""The self-configuring CFFormer: plans of any form, presets, ablations, one graph, and that it learns."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_presets import PRESETS, Preset

ABLATIONS: dict[str, dict[str, bool]] = {
    "CNN": {"use_transformer": False, "use_cfca": False, "use_xff": False},
    "transformer": {"use_cnn": False, "use_cfca": False, "use_xff": False},
    "plain fusion": {"use_cfca": False, "use_xff": False},
    "CFCA": {"use_xff": False},
    "XFF": {"use_cfca": False},
    "CFCA + XFF": {},
}
# name -> changes of the plan, image size
PLANS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "2d, 3 stages": ({"dimension": 2}, (20, 28)),
    "2d, 4 stages": ({"dimension": 2, "n_stages": 4, "features": [8, 16, 24, 24]}, (48, 40)),
    "2d, 6 stages": ({"dimension": 2, "n_stages": 6, "features": [4, 8, 8, 16, 16, 16]}, (64, 96)),
    "3d, 3 stages": ({"dimension": 3}, (12, 8, 20)),
    "3d, 4 stages": ({"dimension": 3, "n_stages": 4, "features": [4, 8, 8, 16]}, (16, 24, 32)),
    "anisotropic": (
        {
            "dimension": 3,
            "n_stages": 4,
            "features": [4, 8, 8, 16],
            "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2], [1, 2, 2]],
        },
        (6, 24, 40),
    ),
}

#: of the authors, each an option of its own; the last is 2D only
CHOICES: list[dict[str, Any]] = [
    {"transformer_wide_skips": True},
    {"upsample_last": True},
    {"window": 8, "attend_to_padding": True},
]


@pytest.fixture(autouse=True)
def _tiny_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    for dimension in PRESETS:
        monkeypatch.setitem(PRESETS[dimension], "tiny", Preset(32, 2, (1,)))


@pytest.fixture
def tiny(plan_arguments: Any) -> Any:
    """``tiny("2d, 3 stages", option=...)``: a network of ``PLANS``, and an image for it."""

    def make(name: str, batch: int = 1, **options: Any) -> tuple[CFFormer, torch.Tensor]:
        changes, size = PLANS[name]
        arguments = {**plan_arguments(**changes), "preset": "tiny", "deep_supervision": True, **options}
        torch.manual_seed(0)
        return CFFormer(**arguments), torch.randn(batch, arguments["input_channels"], *size)

    return make


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def energy(outputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    return torch.stack([x.square().mean() for x in (outputs if isinstance(outputs, list) else [outputs])]).sum()


def full_plan(plan_arguments: Any, dimension: int, **changes: Any) -> dict[str, Any]:
    """nnU-Net's default of six stages."""
    features = [32, 64, 128, 256, 512, 512] if dimension == 2 else [32, 64, 128, 256, 320, 320]
    channels = {"input_channels": 3, "num_classes": 2} if dimension == 2 else {"input_channels": 4, "num_classes": 4}
    return {**plan_arguments(dimension, 6, features), **channels, **changes}


@pytest.mark.parametrize(
    ("dimension", "preset", "kernel", "expected"),
    [
        (2, "small", None, 70_157_510),
        (2, "base", None, 191_429_090),
        (3, "small", None, 69_366_194),
        (3, "base", None, 92_071_024),
        (3, "large", None, 177_417_262),
        (3, "small", 5, 83_415_474),
        (3, "base", 5, 120_169_584),
        (3, "large", 5, 219_565_102),
    ],
)
def test_parameter_counts_of_the_presets(
    plan_arguments: Any, dimension: int, preset: str, kernel: int | None, expected: int
) -> None:
    with torch.device("meta"):
        network = CFFormer(**full_plan(plan_arguments, dimension), preset=preset, xff_kernel=kernel)
    assert count(network) == expected


def test_parameter_counts_of_an_anisotropic_plan(plan_arguments: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS[3], "measured", Preset(64, 6, (1, 1, 3, 4, 6, 3)))
    plan = full_plan(
        plan_arguments,
        3,
        input_channels=1,
        num_classes=3,
        kernel_sizes=[[1, 3, 3]] * 2 + [[3, 3, 3]] * 4,
        strides=[[1, 1, 1], [1, 2, 2], [1, 2, 2], [2, 2, 2], [2, 2, 2], [1, 2, 2]],
    )
    with torch.device("meta"):
        network = CFFormer(**plan, preset="measured", xff_kernel=5, deep_supervision=True)
        outputs = network(torch.empty(1, 1, 20, 256, 224))
    assert count(network) == 154_375_531
    assert [tuple(x.shape[2:]) for x in outputs] == [
        (20, 256, 224), (20, 128, 112), (20, 64, 56), (10, 32, 28), (5, 16, 14),
    ]  # fmt: skip
    assert network.transformer.patch_embed.patch == (1, 4, 4)
    assert [stage.downsample.stride for stage in network.transformer.stages[1:]] == [(2, 2, 2), (2, 2, 2), (1, 2, 2)]


@pytest.mark.parametrize("name", PLANS)
def test_outputs_are_fine_to_coarse_in_every_plan(tiny: Any, name: str) -> None:
    network, image = tiny(name, batch=2)
    strides, size, expected = PLANS[name][0].get("strides"), list(image.shape[2:]), []
    for level in range(PLANS[name][0].get("n_stages", 3) - 1):
        step = strides[level] if strides else [min(level, 1) + 1] * len(size)
        size = [edge // s for edge, s in zip(size, step, strict=True)]
        expected.append((2, 3, *size))
    assert [tuple(x.shape) for x in network(image)] == expected
    network.decoder.deep_supervision = False
    assert network(image).shape == expected[0]


@pytest.mark.parametrize(("stages", "edge"), [(6, 224), (7, 256)])
def test_2d_plans_of_nnunet_run(plan_arguments: Any, stages: int, edge: int) -> None:
    features = [min(32 * 2**stage, 512) for stage in range(stages)]
    with torch.device("meta"):
        network = CFFormer(**plan_arguments(2, stages, features), deep_supervision=True)
        windows = []
        for stage in network.transformer.stages:
            stage.blocks[0].attn.register_forward_pre_hook(lambda module, inputs: windows.append(inputs[1].window))
        outputs = network(torch.empty(2, 2, edge, edge))
    assert [x.shape[-1] for x in outputs] == [edge // 2**level for level in range(stages - 1)]
    assert windows == ([(8, 8), (7, 7), (7, 7), (7, 7)] if edge == 224 else [(8, 8)] * 4 + [(4, 4)])
    depths = [len(stage.blocks) for stage in network.transformer.stages]
    assert depths == ([2, 2, 6, 2] if stages == 6 else [2, 2, 2, 6, 2])


def test_widths_double_up_to_1024_with_heads_of_32_channels(plan_arguments: Any) -> None:
    with torch.device("meta"):
        network = CFFormer(**plan_arguments(2, 8), preset="base")
    blocks = [stage.blocks[0] for stage in network.transformer.stages]
    assert [block.norm1.normalized_shape[0] for block in blocks] == [128, 256, 512, 1024, 1024, 1024]
    assert [block.attn.heads for block in blocks] == [4, 8, 16, 32, 32, 32]


def test_three_stages_have_one_dual_level_and_two_are_refused(plan_arguments: Any) -> None:
    for dimension in (2, 3):
        network = CFFormer(**plan_arguments(dimension, 3), preset="tiny")
        assert (len(network.levels), len(network.transformer.layers), len(network.fusions)) == (3, 1, 1)
        assert len(network.transformer.layers[0].blocks) == 2
        with pytest.raises(ValueError, match=r"at least 3 stages.*got 2.*patch is too small"):
            CFFormer(**plan_arguments(dimension, 2), preset="tiny")


def test_unknown_presets_and_first_strides_are_refused(plan_arguments: Any) -> None:
    with torch.device("meta"):
        with pytest.raises(ValueError, match=r"no preset 'large' in 2D; choose from \['small', 'base'"):
            CFFormer(**plan_arguments(2), preset="large")
        with pytest.raises(ValueError, match=r"stride must be 1; got \(2, 2\)"):
            CFFormer(**plan_arguments(2, strides=[[2, 2]] * 3))
        with pytest.raises(ValueError, match="features_per_stage needs 3 entries; got 2"):
            CFFormer(**plan_arguments(2, features=[8, 16]))
        with pytest.raises(ValueError, match="join two encoders"):
            CFFormer(**plan_arguments(2), use_cnn=False)


@pytest.mark.parametrize("shape", [(1, 2, 22, 28), (1, 2, 20, 29), (1, 1, 20, 28), (1, 2, 8, 20, 28)])
def test_inputs_that_do_not_fit_are_refused_in_words(tiny: Any, shape: tuple[int, ...]) -> None:
    network, _ = tiny("2d, 3 stages")
    with pytest.raises(ValueError, match=r"multiples of \(4, 4\); got|2 channels, 2 spatial axes\); got"):
        network(torch.empty(shape))


@pytest.mark.parametrize(("channels", "classes"), [(1, 2), (2, 4), (4, 9), (7, 2)])
def test_any_number_of_channels_and_classes(tiny: Any, channels: int, classes: int) -> None:
    network, image = tiny("3d, 3 stages", input_channels=channels, num_classes=classes, deep_supervision=False)
    assert network(image).shape == (1, classes, *image.shape[2:])


@pytest.mark.parametrize("name", ["2d, 4 stages", "anisotropic"])
@pytest.mark.parametrize("row", ABLATIONS)
def test_rows_of_the_ablation_run_without_idle_parameters(tiny: Any, cfformer_golden: Any, name: str, row: str) -> None:
    options = {"use_cnn": True, "use_transformer": True, "use_cfca": True, "use_xff": True, **ABLATIONS[row]}
    network, image = tiny(name, batch=2, conv_bias=False, **options)
    parts = set(dict(network.named_modules()))
    assert ("levels.2" in parts) == options["use_cnn"]
    assert ("transformer.patch_embed" in parts) == options["use_transformer"]
    assert ("fusions.0.cfca.u_expand" in parts) == options["use_cfca"]
    assert ("fusions.1.xff.u_to_v" in parts) == options["use_xff"]
    assert ("fusions.0.xff.out" in parts) == (options["use_cnn"] and options["use_transformer"])
    assert {"levels.0", "levels.1"} <= parts, "the source of the fine skips"
    energy(network(image)).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None] == []
    network.double().zero_grad()
    cfformer_golden.fill_trainable(network)
    energy(network(image.double())).backward()
    assert [key for key, p in network.named_parameters() if p.grad.abs().max() == 0] == []


@pytest.mark.parametrize("row", ABLATIONS)
def test_weights_load_strictly_with_deep_supervision_and_without(tiny: Any, row: str) -> None:
    deep, image = tiny("2d, 3 stages", **ABLATIONS[row])
    plain, _ = tiny("2d, 3 stages", deep_supervision=False, **ABLATIONS[row])
    with torch.no_grad():
        for parameter in deep.parameters():
            parameter.add_(0.01)
        plain.load_state_dict(deep.state_dict())
        assert torch.equal(plain(image), deep(image)[0])
        deep.load_state_dict(plain.state_dict())


def test_fused_maps_go_on_into_the_next_level_of_both_encoders(
    tiny: Any, cfformer_golden: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, image = tiny("2d, 4 stages")
    cfformer_golden.fill_trainable(network)
    inputs: list[list[torch.Tensor]] = []
    for module in (network.levels[3], network.transformer.layers[1]):
        module.register_forward_pre_hook(lambda module, given: inputs[-1].append(given[0].clone()))
    for patched in (False, True):
        inputs.append([])
        if patched:
            monkeypatch.setattr(ChannelExchange, "forward", lambda self, u, v: (u, v))
        with torch.no_grad():
            network(image)
    for fused, bare in zip(*inputs, strict=True):
        assert (fused - bare).abs().max() > 1e-3, "the exchange only decorates the skips"


@pytest.mark.parametrize("full_resolution_skip", [True, False])
def test_every_skip_changes_the_output(tiny: Any, cfformer_golden: Any, full_resolution_skip: bool) -> None:
    network, image = tiny("2d, 4 stages", deep_supervision=False, full_resolution_skip=full_resolution_skip)
    cfformer_golden.fill_trainable(network)
    skips: list[Any] = []
    network.decoder.register_forward_pre_hook(lambda module, inputs: skips.append(inputs[0]))
    with torch.no_grad():
        expected = network(image)
        given = skips[0]
        assert (given[0] is None) != full_resolution_skip
        for number, skip in enumerate(given):
            if skip is not None:
                noise = torch.randn(skip.shape, generator=torch.Generator().manual_seed(number))
                changed = network.decoder([*given[:number], skip + noise, *given[number + 1 :]])
                assert (changed - expected).abs().max() > 1e-4, f"skip {number} is not used"
        assert torch.equal(network(image), expected), "two passes of one network differ"


def test_nothing_is_interpolated(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("interpolation hides maps of the wrong size")

    monkeypatch.setattr(functional, "interpolate", refuse)
    for name in PLANS:
        network, image = tiny(name)
        network(image)
        assert not any(isinstance(module, nn.Upsample) for module in network.modules())


def test_the_wide_kernel_follows_option_dimension_and_the_plans_flat_axes(tiny: Any) -> None:
    def wide(name: str, **options: Any) -> list[tuple[int, ...]]:
        return [fusion.xff.u_to_v.kernel_size for fusion in tiny(name, **options)[0].fusions]

    assert wide("2d, 4 stages") == [(5, 5)] * 2
    assert wide("2d, 4 stages", xff_kernel=3) == [(3, 3)] * 2
    assert wide("3d, 4 stages") == [(3, 3, 3)] * 2
    assert wide("3d, 4 stages", xff_kernel=5) == [(5, 5, 5)] * 2
    flat = {"kernel_sizes": [[1, 3, 3]] * 3 + [[3, 3, 3]]}
    assert wide("anisotropic", xff_kernel=5, **flat) == [(1, 5, 5), (5, 5, 5)]


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_logits_are_those_of_version_0_1_0(cfformer_golden: Any, plan_arguments: Any, name: str) -> None:
    """At sizes whose grids are padded and whose windows are shifted, every level of deep supervision."""
    case = cfformer_golden.load("self_configuring")[name]
    network = CFFormer(**plan_arguments(**case["plan"]), preset="small", deep_supervision=True).double().eval()
    cfformer_golden.fill_trainable(network)
    with torch.no_grad():
        outputs = network(cfformer_golden.image(case["input"], case["input_shape"]))
    errors = [cfformer_golden.error(found, summary) for found, summary in zip(outputs, case["logits"], strict=True)]
    assert max(errors) < 1e-6, errors


def test_a_window_may_be_pinned(tiny: Any) -> None:
    network, image = tiny("2d, 4 stages", window=(3, 4))
    used = []
    for stage in network.transformer.stages:
        stage.blocks[1].attn.register_forward_pre_hook(lambda module, inputs: used.append(inputs[1]))
    network(image)
    assert [(windows.window, windows.shift) for windows in used] == [((3, 4), (1, 2)), ((3, 4), (1, 2))]


@pytest.mark.parametrize(
    ("name", "options"),
    [("2d, 4 stages", options) for options in CHOICES] + [("anisotropic", options) for options in CHOICES[:2]],
)
def test_choices_of_the_authors_are_options_and_change_nothing_else(
    tiny: Any, cfformer_golden: Any, name: str, options: dict[str, Any]
) -> None:
    network, image = tiny(name, batch=2, conv_bias=False, **options)
    plain, _ = tiny(name, conv_bias=False)
    assert [output.shape for output in network(image)] == [output.shape for output in plain(image)]
    network.double()
    cfformer_golden.fill_trainable(network)
    energy(network(image.double())).backward()
    assert [key for key, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []
    transformer = [stage.blocks[0].norm1.normalized_shape[0] for stage in network.transformer.stages]
    skips = [fusion.xff.out.out_channels for fusion in network.fusions]
    assert skips == (transformer if options.get("transformer_wide_skips") else PLANS[name][0]["features"][2:])
    assert network.decoder.upsample_last == options.get("upsample_last", False)
    windows = [
        stage.blocks[0].windows(torch.empty(1, *[5] * (image.ndim - 2), 1), stage.window)
        for stage in network.transformer.stages
    ]
    assert {w.attend_to_padding for w in windows} == {options.get("attend_to_padding", False)}
    assert all((max(w.window) == 8) == options.get("attend_to_padding", False) for w in windows)
    if "attend_to_padding" in options:
        plain.load_state_dict(network.state_dict())


def test_attending_to_padding_is_refused_in_3d(tiny: Any) -> None:
    with pytest.raises(ValueError, match=r"attend_to_padding in 2D alone: in 3D .*; leave it out"):
        tiny("3d, 3 stages", window=8, attend_to_padding=True)


def test_starts_as_its_shortcuts_and_learns_everywhere(tiny: Any) -> None:
    network, _ = tiny("3d, 4 stages")
    assert all(block.norm2.weight.abs().max() == 0 for level in network.levels for block in level)
    transformer = network.transformer.stages[0].blocks
    assert all(p.abs().max() == 0 for block in transformer for p in (*block.norm1.parameters(), block.norm2.bias))
    assert network.stem[1].weight.min() == 1, "the norms of the plan are as nnU-Net starts them"


@pytest.mark.parametrize("name", ["2d, 4 stages", "anisotropic"])
def test_samples_do_not_mix(tiny: Any, cfformer_golden: Any, name: str) -> None:
    network, image = tiny(name, batch=3, deep_supervision=False)
    network.double()
    cfformer_golden.fill_trainable(network)
    with torch.no_grad():
        together = network(image.double())
        alone = torch.cat([network(sample.unsqueeze(0)) for sample in image.double()])
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_copies_and_pickles(tiny: Any) -> None:
    network, image = tiny("2d, 3 stages")
    network.transformer.set_trained_windows(7)
    expected = network(image)[0]
    for copied in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert torch.equal(copied(image)[0], expected)
        assert copied.transformer.trained_windows == [(7, 7)]


@pytest.mark.parametrize("name", ["2d, 3 stages", "3d, 3 stages"])
def test_trained_windows_travel_in_the_state_dict_and_change_the_output(
    tiny: Any, cfformer_golden: Any, name: str
) -> None:
    network, image = tiny(name, deep_supervision=False)
    cfformer_golden.fill_trainable(network)
    before = network(image)
    network.transformer.set_trained_windows(12)
    after = network(image)
    assert not torch.allclose(before, after)
    other, _ = tiny(name, deep_supervision=False)
    other.load_state_dict(network.state_dict())
    assert torch.equal(other(image), after)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["2d, 4 stages", "anisotropic"])
def test_half_precision_gives_finite_logits_and_gradients(
    tiny: Any, cfformer_golden: Any, name: str, dtype: torch.dtype
) -> None:
    network, image = tiny(name, batch=2, deep_supervision=False)
    cfformer_golden.fill_trainable(network)
    exact = network(image)
    with torch.autocast("cpu", dtype=dtype):
        logits = network(image)
    assert (logits.float() - exact).abs().max() < 0.15 * exact.abs().max()
    logits.float().square().mean().backward()
    assert all(torch.isfinite(p.grad).all() for p in network.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    "name",
    [
        "2d, 3 stages",
        pytest.param("3d, 3 stages", marks=pytest.mark.slow),
        pytest.param("2d, 4 stages", marks=pytest.mark.slow),
        pytest.param("anisotropic", marks=pytest.mark.slow),
    ],
)
def test_compiles_in_one_graph_on_grids_that_windows_do_not_divide(tiny: Any, cfformer_golden: Any, name: str) -> None:
    """Grids of 5 x 7, 3 x 2 x 5 and so on in windows of 4, shifted and padded."""
    torch._dynamo.reset()
    network, image = tiny(name, batch=2, window=(4,) * (3 if "3d" in name or name == "anisotropic" else 2))
    cfformer_golden.fill_trainable(network)
    twin = copy.deepcopy(network)
    expected, actual = network(image), torch.compile(twin, backend="aot_eager", fullgraph=True, dynamic=False)(image)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    energy(expected).backward()
    energy(actual).backward()
    for (key, a), (_, b) in zip(twin.named_parameters(), network.named_parameters(), strict=True):
        assert (a.grad - b.grad).abs().max().item() <= 1e-3 * b.grad.abs().max().item() + 1e-5, key


@pytest.mark.parametrize("name", ["2d, 3 stages", "3d, 3 stages", "anisotropic"])
def test_ten_steps_of_an_optimizer_reduce_the_loss(tiny: Any, name: str) -> None:
    network, image = tiny(name, batch=2)
    size = image.shape[2:]
    target = torch.zeros(2, *size, dtype=torch.long)
    outer, inner = ([slice(edge // part, edge - edge // part) for edge in size] for part in (6, 3))
    target[(slice(None), *outer)] = 1
    target[(slice(None), *inner)] = 2
    image = 0.3 * image + target.unsqueeze(1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(11):
        loss = torch.zeros(())
        for logits in network(image):
            coarse = functional.interpolate(target.unsqueeze(1).float(), logits.shape[2:]).squeeze(1).long()
            loss = loss + functional.cross_entropy(logits, coarse)
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.75 * losses[0], losses
