"""AnatomyNet: the published form against the numbers of the reference implementation, and the self-configuring one on
plans of every kind."""

from __future__ import annotations

import copy
import inspect
import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
from torch import nn

from nnunet_ext.architectures.anatomynet import AnatomyNet
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.recompute import observed
from nnunet_ext.architectures.blocks.topology import PlanKeywords
from nnunet_ext.planning.memory import measure_sample

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "baselines" / "anatomynet.json").read_text())
CLASSES = 3
RESIDUAL = {"n_conv_per_stage": None, "n_blocks_per_stage": [1, 3, 4], "n_conv_per_stage_decoder": [1, 1]}
ANISOTROPIC = {
    "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    "kernel_sizes": [[1, 3, 3], [1, 3, 3], [3, 3, 3]],
}
#: name -> dimension, stages, other keywords of the plan, patch, what must divide it, number of outputs
PLANS: dict[str, tuple[int, int, dict[str, Any], tuple[int, ...], tuple[int, ...], int]] = {
    "2d": (2, 4, {}, (10, 14), (2, 2), 2),
    "3d": (3, 3, {}, (6, 10, 4), (2, 2, 2), 2),
    "anisotropic": (3, 3, ANISOTROPIC, (5, 6, 10), (1, 2, 2), 2),
    "residual": (3, 3, RESIDUAL, (6, 4, 10), (2, 2, 2), 2),
    "two stages": (3, 2, {}, (6, 4, 10), (2, 2, 2), 1),
    "late stride": (2, 4, {"strides": [[1, 1], [1, 1], [1, 3], [2, 2]]}, (5, 12), (1, 3), 1),
}
each_plan = pytest.mark.parametrize("name", PLANS)
some_plans = pytest.mark.parametrize("name", ["2d", "anisotropic", "late stride"])


@pytest.fixture
def plan_for(plan_arguments: Any) -> Any:
    """``plan_for(name, channels)``: keywords of a plan, with deep supervision."""

    def make(name: str, channels: int = 4, **changes: Any) -> dict[str, Any]:
        dimension, n_stages, others, *_ = PLANS[name]
        given = {"input_channels": channels, "num_classes": CLASSES, "deep_supervision": True, **others, **changes}
        return plan_arguments(dimension, **{"n_stages": n_stages, **given})

    return make


def build(plan: dict[str, Any], **options: Any) -> nn.Module:
    """In float64, its parameters away from the values at which they begin."""
    torch.manual_seed(0)
    network = AnatomyNet(**plan, **options).double()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def image_of(name: str, channels: int = 4, batch: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, channels, *PLANS[name][3], dtype=torch.float64, generator=generator)


def loss_of(outputs: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    listed = outputs if isinstance(outputs, list) else [outputs]
    return torch.stack([x.square().mean() for x in listed]).sum()


def sizes_of_targets(plan: dict[str, Any], patch: Sequence[int]) -> list[tuple[int, ...]]:
    """Those that nnU-Net makes for deep supervision: of all stages but the deepest."""
    total = np.cumprod(np.vstack(plan["strides"]), axis=0)[:-1]
    return [tuple(edge // step for edge, step in zip(patch, steps, strict=True)) for steps in total.tolist()]


def parameters_of(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- the published form -------------------------------------------------------------------------------------------


def filled(key: str, shape: Sequence[int]) -> torch.Tensor:
    """The tensor of a published key, by the rule that the reference implementation was run with."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))
    if key.endswith("num_batches_tracked"):
        return torch.tensor(0)
    if key.endswith("running_var"):
        return torch.as_tensor(generator.uniform(0.5, 1.5, tuple(shape)))
    z = torch.as_tensor(generator.standard_normal(tuple(shape)))
    if key == "input":
        return z
    if key.endswith("weight"):
        return z * math.sqrt(2 / math.prod(shape[1:])) if len(shape) > 1 else 1 + 0.1 * z
    return 0.1 * z


def published_weights() -> dict[str, torch.Tensor]:
    return {key: filled(key, shape) for key, shape in GOLDEN["keys"].items()}


def test_published_network_gives_the_published_numbers() -> None:
    network = AnatomyNet.reference().double().eval()
    network.load_reference_state_dict(published_weights())
    with torch.no_grad():
        flat = network(filled("input", GOLDEN["input_shape"])).softmax(1).flatten()
    expected = GOLDEN["output_eval_f64"]
    assert flat.numel() == math.prod(expected["shape"])
    samples = flat[[k * (flat.numel() - 1) // 63 for k in range(64)]]
    assert samples.tolist() == pytest.approx(expected["samples"], rel=1e-9, abs=0)
    assert [flat.min().item(), flat.max().item()] == pytest.approx([expected["min"], expected["max"]], rel=1e-9, abs=0)
    assert flat.sum().item() == pytest.approx(expected["sum"], rel=1e-9)


def test_published_network_has_the_published_parameters() -> None:
    assert parameters_of(AnatomyNet.reference()) == GOLDEN["params"] == 734417
    assert parameters_of(AnatomyNet.reference(10, 4)) == 734417 + 3 * 27 * (28 + 14 + 14)


def test_published_network_trains_every_parameter() -> None:
    torch.manual_seed(0)
    network = AnatomyNet.reference(num_classes=2, in_channels=3)
    logits = network(torch.randn(2, 3, 6, 4, 8))
    assert logits.shape == (2, 2, 6, 4, 8)
    loss_of(logits).backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    counts = {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm3d)}
    assert counts == {1}, "batch norm sees a batch once"


def test_weights_that_are_not_the_networks_are_refused_in_words() -> None:
    network = AnatomyNet.reference()
    weights = {key: torch.empty(shape) for key, shape in GOLDEN["keys"].items()}
    other_classes = {**weights, "layer11.0.bias": torch.empty(7)}
    network.load_reference_state_dict(weights)
    some = {key: value for key, value in weights.items() if key != "layer5.0.se.fc.2.bias"}
    with pytest.raises(ValueError, match=r"weights of AnatomyNet: 1 keys missing, such as layer5\.0\.se\.fc\.2\.bias"):
        network.load_reference_state_dict(some)
    with pytest.raises(ValueError, match="1 keys unknown, such as more"):
        network.load_reference_state_dict({**weights, "more": weights["bn1.bias"]})
    with pytest.raises(RuntimeError, match="size mismatch"):
        network.load_reference_state_dict(other_classes)


def test_published_network_refuses_images_that_it_cannot_take() -> None:
    network = AnatomyNet.reference()
    with pytest.raises(ValueError, match=r"multiples of \(2, 2, 2\); got \(8, 7, 6\): pad to \(8, 8, 6\)"):
        network(torch.empty(1, 1, 8, 7, 6))
    with pytest.raises(ValueError, match="1 channels, 3 spatial axes"):
        network(torch.empty(1, 2, 8, 8, 6))


# --- the self-configuring form ------------------------------------------------------------------------------------


def test_takes_the_planners_keywords_and_its_own_with_defaults() -> None:
    parameters = dict(inspect.signature(AnatomyNet).parameters)
    for keyword in PlanKeywords.__annotations__:
        del parameters[keyword]
    assert {name: parameter.default for name, parameter in parameters.items()} == {"recompute": True}


def test_nnunet_builds_it_from_a_plans_file(plan_for: Any) -> None:
    plan = plan_for("anisotropic")
    given = {key: plan.pop(key) for key in ("input_channels", "num_classes", "deep_supervision")}
    by_name = {
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "nonlin": "torch.nn.LeakyReLU",
    }
    built = get_network_from_plans(
        "nnunet_ext.architectures.anatomynet.AnatomyNet", {**plan, **by_name}, list(by_name), 4, CLASSES, True, True
    )
    expected = AnatomyNet(**plan, **given)
    shapes = [{key: value.shape for key, value in network.state_dict().items()} for network in (built, expected)]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize(("name", "channels"), [*((name, 4) for name in PLANS), ("2d", 1), ("anisotropic", 1)])
def test_outputs_have_the_sizes_of_nnunets_first_targets(name: str, channels: int, plan_for: Any) -> None:
    plan, image = plan_for(name, channels), image_of(name, channels)
    network = build(plan)
    targets = sizes_of_targets(plan, image.shape[2:])
    outputs = network(image)
    assert isinstance(outputs, list)
    assert [tuple(x.shape) for x in outputs] == [(2, CLASSES, *size) for size in targets[: PLANS[name][5]]]
    assert len(network.decoder.seg_layers) == len(outputs)
    assert all(x.dtype == torch.float64 for x in outputs)
    loss_of(outputs).backward()
    for key, parameter in network.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.grad.abs().max() > 0 or _dead(key), key


def _dead(key: str) -> bool:
    """A bias in front of an instance norm, which takes it away: its gradient is zero but for rounding."""
    return key.endswith(("conv1.bias", "conv2.bias", "stem.0.bias"))


def test_builds_and_runs_on_the_meta_device(plan_for: Any) -> None:
    with torch.device("meta"):
        outputs = AnatomyNet(**plan_for("anisotropic"))(torch.empty(1, 4, 20, 256, 256))
    assert [tuple(x.shape[2:]) for x in outputs] == [(20, 256, 256), (20, 128, 128)]


@each_plan
def test_the_flag_only_switches_outputs(name: str, plan_for: Any) -> None:
    network, image = build(plan_for(name)).eval(), image_of(name)
    with torch.no_grad():
        outputs = network(image)
        network.decoder.deep_supervision = False
        single = network(image)
        network.decoder.deep_supervision = True
        again = network(image)
    assert torch.equal(single, outputs[0])
    assert all(torch.equal(a, b) for a, b in zip(again, outputs, strict=True))


@some_plans
def test_checkpoints_load_strictly_and_idle_heads_ask_for_no_gradient(name: str, plan_for: Any) -> None:
    deep, plain = build(plan_for(name)), AnatomyNet(**plan_for(name, deep_supervision=False)).double()
    plain.load_state_dict(deep.state_dict(), strict=True)
    deep.load_state_dict(plain.state_dict(), strict=True)
    image = image_of(name)
    output = plain(image)
    assert torch.equal(output, deep(image)[0])
    idle = {f"decoder.seg_layers.0.{kind}" for kind in ("weight", "bias")} if PLANS[name][5] == 2 else set()
    assert {key for key, parameter in plain.named_parameters() if not parameter.requires_grad} == idle
    loss_of(output).backward()
    assert {key for key, parameter in plain.named_parameters() if parameter.grad is None} == idle
    plain.decoder.deep_supervision = True
    loss_of(plain(image)).backward()
    assert all(parameter.grad is not None for parameter in plain.parameters())


@some_plans
def test_samples_of_a_batch_do_not_mix(name: str, plan_for: Any) -> None:
    network, image = build(plan_for(name)), image_of(name)
    with torch.no_grad():
        together, alone = network(image), [network(sample.unsqueeze(0)) for sample in image]
    for level, parts in enumerate(zip(*alone, strict=True)):
        torch.testing.assert_close(together[level], torch.cat(parts), rtol=1e-9, atol=1e-9)


@some_plans
def test_recomputation_changes_neither_results_nor_gradients(name: str, plan_for: Any) -> None:
    found = []
    for recompute in (True, False):
        image = image_of(name).requires_grad_()
        network = build(plan_for(name), recompute=recompute)
        outputs = network(image)
        found.append([*outputs, *torch.autograd.grad(loss_of(outputs), [image, *network.parameters()])])
    for tensor, other in zip(*found, strict=True):
        assert torch.equal(tensor, other)


def test_every_block_is_recomputed_up_to_its_second_convolution_and_behind_it(plan_for: Any) -> None:
    for options, expected in (({}, 2 * 13), ({"recompute": False}, 0)):
        parts: list[Any] = []

        def note(part: Any, inputs: Any, parts: list[Any] = parts) -> Any:
            parts.append(part.__self__)
            return part(*inputs)

        network = build(plan_for("2d"), **options)
        with observed(note):
            network(image_of("2d"))
        assert len(parts) == expected
        assert len(set(parts)) == expected // 2
        assert (network.decoder.last in parts) == bool(expected)


@pytest.mark.parametrize("name", ["2d", "anisotropic"])
def test_recomputation_keeps_a_third_less(name: str, plan_for: Any) -> None:
    kept = []
    for recompute in (True, False):
        with torch.device("meta"):
            network = AnatomyNet(**plan_for(name), recompute=recompute)
            case = measure_sample(network, (4, *(8 * edge for edge in PLANS[name][3])), multiply_adds=False)
        kept.append(case.activations)
    assert kept[0] < 2 / 3 * kept[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"norm_op": None, "norm_op_kwargs": None},
        {"norm_op": nn.Identity, "norm_op_kwargs": {}},
        {"norm_op": nn.BatchNorm2d, "norm_op_kwargs": {}},
        {"nonlin": nn.RReLU, "nonlin_kwargs": {"inplace": True}},
        {"nonlin": nn.PReLU, "nonlin_kwargs": {}},
        {"nonlin": nn.ReLU, "nonlin_kwargs": {"inplace": False}, "conv_bias": False},
    ],
    ids=["no norm", "identity as norm", "batch norm", "random", "learnt", "no bias"],
)
def test_other_layers_of_a_plan_give_the_same_with_recomputation_and_without(changes: dict, plan_for: Any) -> None:
    found = []
    for recompute in (True, False):
        network = build(plan_for("2d", **changes), recompute=recompute)
        torch.manual_seed(7)
        loss = loss_of(network(image_of("2d")))
        found.append([loss.detach(), *torch.autograd.grad(loss, list(network.parameters()))])
        counts = {int(m.num_batches_tracked) for m in network.modules() if isinstance(m, nn.BatchNorm2d)}
        assert counts <= {1}, "nothing that counts its runs is run again"
    for tensor, other in zip(*found, strict=True):
        assert torch.isfinite(tensor).all()
        torch.testing.assert_close(tensor, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["2d", pytest.param("anisotropic", marks=pytest.mark.slow)])
def test_compiles_in_one_graph(name: str, plan_for: Any) -> None:
    network, image = build(plan_for(name)), image_of(name)
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(network), backend="eager", fullgraph=True)
    expected, actual = network(image), compiled(image)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)
    loss_of(expected).backward()
    loss_of(actual).backward()
    for (key, a), (_, b) in zip(compiled._orig_mod.named_parameters(), network.named_parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-9, atol=1e-12, msg=lambda text, key=key: f"{key}: {text}")


@each_plan
def test_only_the_one_stride_must_divide(name: str, plan_for: Any) -> None:
    """The patches of this file are no multiples of the strides of further stages."""
    *_, patch, divisors, _ = PLANS[name]
    plan = plan_for(name, deep_supervision=False)
    network = AnatomyNet(**plan)
    assert network(torch.zeros(1, 4, *patch)).shape == (1, CLASSES, *patch)
    one_more = [edge + (divisor > 1) for edge, divisor in zip(patch, divisors, strict=True)]
    with pytest.raises(ValueError, match=f"multiples of \\({', '.join(map(str, divisors))}\\)"):
        network(torch.empty(1, 4, *one_more))
    with pytest.raises(ValueError, match="4 channels"):
        network(torch.empty(1, 3, *patch))
    every = np.prod(np.vstack(plan["strides"]), axis=0)
    assert name == "two stages" or any(edge % int(total) for edge, total in zip(patch, every, strict=True))


def test_further_stages_and_the_counts_and_widths_of_a_plan_are_not_used(plan_for: Any) -> None:
    def shapes(**changes: Any) -> dict[str, tuple[int, ...]]:
        network = AnatomyNet(**plan_for("3d", **changes))
        return {key: tuple(value.shape) for key, value in network.state_dict().items()}

    deeper = {
        "n_stages": 5,
        "features_per_stage": [16, 24, 48, 48, 64],
        "strides": [[1, 1, 1], [2, 2, 2], [1, 2, 2], [2, 2, 2], [3, 2, 2]],
        "kernel_sizes": [[3, 3, 3]] * 2 + [[5, 5, 5]] * 3,
        "n_conv_per_stage": None,
        "n_blocks_per_stage": [1, 3, 4, 6, 6],
        "n_conv_per_stage_decoder": [1] * 4,
    }
    assert shapes(**deeper) == shapes()


def test_kernels_and_the_stride_are_those_of_the_two_stages_that_are_used(plan_for: Any) -> None:
    kernels = [[3, 1], [7, 7], [5, 3], [3, 3]]
    network = AnatomyNet(**plan_for("late stride", kernel_sizes=kernels))
    found = {key: module for key, module in network.named_modules() if isinstance(module, nn.Conv2d)}
    full = {key for key in found if key.startswith(("decoder.last.", "decoder.seg_layers."))}
    assert {found[key].kernel_size for key in full} == {(3, 1)}
    assert {found[key].kernel_size for key in found.keys() - full if ".skip." not in key} == {(5, 3)}
    assert found["stem.0"].stride == network.decoder.up.stride == network.decoder.up.kernel_size == (1, 3)
    assert all(module.stride == (1, 1) for key, module in found.items() if key != "stem.0")


def test_parameters_are_those_of_the_published_network_and_the_coarse_head(plan_for: Any) -> None:
    bias_of_up = 14
    for channels in (1, 4):
        plan = plan_for("3d", channels, num_classes=10, conv_bias=False)
        published = parameters_of(AnatomyNet.reference(10, channels))
        assert parameters_of(AnatomyNet(**plan)) == published - bias_of_up + 10 * (28 + 1)
    assert parameters_of(AnatomyNet(**plan_for("3d", num_classes=4))) == 737595
    assert parameters_of(AnatomyNet(**plan_for("2d", num_classes=4))) == 255139


def test_the_image_joins_the_last_level(plan_for: Any) -> None:
    network, image = build(plan_for("anisotropic")), image_of("anisotropic")
    joined: list[torch.Tensor] = []
    network.decoder.last.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    with torch.no_grad():
        network(image)
    assert joined[0].shape[1] == 14 + 4
    assert torch.equal(joined[0][:, 14:], image)


def test_channel_weights_depend_on_the_image_in_every_block(plan_for: Any) -> None:
    """Directly behind an instance norm the mean of a channel would be a constant."""
    network = build(plan_for("anisotropic"))
    image = image_of("anisotropic", batch=1)
    found: dict[str, list[torch.Tensor]] = {}
    for place, module in network.named_modules():
        if isinstance(module, SqueezeExcite):
            _noting_what_it_reads(module, found.setdefault(place, []))
    with torch.no_grad():
        network(image)
        network(3 + image.flip(2) ** 3)
    assert len(found) == 12
    for place, (one, other) in found.items():
        assert (one - other).abs().max() > 1e-3, place


def _noting_what_it_reads(module: SqueezeExcite, found: list[torch.Tensor]) -> None:
    weights = module.weights

    def noting(descriptors: Any) -> torch.Tensor:
        found.append(descriptors.average)
        return weights(descriptors)

    module.weights = noting  # type: ignore[method-assign]


def test_blocks_give_what_their_formula_says(plan_for: Any) -> None:
    """h = norm(conv(act(norm(conv(x))))); out = act(h * g(act(h)) + norm(conv(x)))."""
    block = build(plan_for("3d")).encoder[0][0]
    x = torch.randn(2, 28, 3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    act = nn.functional.leaky_relu
    with torch.no_grad():
        h = block.norm2(block.conv2(act(block.norm1(block.conv1(x)))))
        mlp = block.attention.mlp
        hidden = act(act(h).mean((2, 3, 4)) @ mlp.reduce_weight.T + mlp.reduce_bias)
        weights = torch.sigmoid(hidden @ mlp.expand_weight.T + mlp.expand_bias)
        expected = act(h * weights[..., None, None, None] + block.skip(x))
        torch.testing.assert_close(block(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["2d", "anisotropic"])
def test_outputs_and_gradients_are_finite_under_autocast(name: str, plan_for: Any) -> None:
    torch.manual_seed(0)
    network = AnatomyNet(**plan_for(name))
    kinds: set[torch.dtype] = set()
    network.decoder.last.register_forward_pre_hook(lambda module, inputs: kinds.add(inputs[0].dtype))
    image = image_of(name).float()
    for inputs in (1e3 * image, torch.full_like(image, 3.0), torch.zeros_like(image)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            outputs = network(inputs)
        loss_of([output.float() for output in outputs]).backward()
        assert all(torch.isfinite(output).all() for output in outputs)
        assert all(torch.isfinite(parameter.grad).all() for parameter in network.parameters())
    assert kinds == {torch.bfloat16}, "the image would raise what it joins to float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strides": [[1, 1, 1]] * 3}, "first stride of a plan that exceeds 1, and these 3 stages have none"),
        ({"strides": [[2, 2, 2]] * 3}, r"its stride must be 1; got \(2, 2, 2\)"),
        ({"n_stages": 1}, "AnatomyNet needs at least 2 stages"),
        ({"kernel_sizes": [[3, 3, 3]] * 2}, "kernel_sizes needs 3 entries"),
    ],
)
def test_plans_that_make_no_network_are_refused_in_words(changes: dict, message: str, plan_for: Any) -> None:
    with pytest.raises(ValueError, match=message):
        AnatomyNet(**plan_for("3d", **changes))
