"""The published CFNet against numbers of its reference implementation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.architectures.cfnet_reference import CFNetReference
from nnunet_ext.architectures.cfnet_weights import published_names

TOLERANCE = 1e-9


@pytest.fixture(scope="module")
def filled(golden: Any) -> CFNetReference:
    """The network with golden weights, float64, evaluation mode. Tests leave it as it is."""
    network = CFNet.reference().double().eval()
    network.load_reference_state_dict(golden.weights())
    return network


def test_fill_and_input_rules_reproduce_their_check_values(golden: Any) -> None:
    for check in golden.numbers["fill_check"]:
        values = golden.fill(check["key"], check["shape"]).ravel()
        assert values[:4].tolist() == pytest.approx(check["first"][: values.size], rel=1e-14), check["key"]
        assert values[-1] == pytest.approx(check["last"], rel=1e-14), check["key"]
        assert values.sum() == pytest.approx(check["sum"], abs=1e-10 * check["abs_sum"]), check["key"]
    for check in golden.numbers["input_check"]:
        shape = [int(size) for size in check["name"].removeprefix("input:").split("x")]
        image = golden.image(check["name"], shape)
        assert image.flatten()[:4].tolist() == pytest.approx(check["first"], rel=1e-14), check["name"]
        assert image.sum().item() == pytest.approx(check["sum"], abs=1e-10 * check["abs_sum"]), check["name"]


def test_has_the_live_parameters_alone() -> None:
    with torch.device("meta"):
        counts = {n: sum(p.numel() for p in CFNet.reference(num_classes=n).parameters()) for n in (2, 3, 4)}
    assert counts == {2: 51_445_833 + 129 * 2, 3: 51_445_833 + 129 * 3, 4: 51_446_349}


def test_keys_map_one_to_one_onto_the_live_published_keys(golden: Any) -> None:
    with torch.device("meta"):
        own = CFNet.reference().state_dict()
    names = published_names(own)
    assert len(set(names.values())) == len(names), "two own keys share a published one"
    assert {names[key]: list(tensor.shape) for key, tensor in own.items()} == golden.live


def test_loads_live_and_full_published_state_dicts_and_refuses_others(golden: Any) -> None:
    with torch.device("meta"):
        network = CFNet.reference()
        live = {key: torch.empty(shape) for key, shape in golden.live.items()}
        dead = {
            f"{prefix}weight": torch.empty(1)
            for prefix in ("encoder_two_conv1.", "encoder_one_layer4.0.conv1.", "conv2.", "encoder_downsampling4.")
        }
        dead |= {"local_att0.x": torch.empty(1), "aspp2.conv2.weight": torch.empty(1), "aspp3.ln.bias": torch.empty(1)}
        dead |= {"fusion_layer3.conv.bias": torch.empty(1), "multi_modal_process2.final_conv_bn.0.bias": torch.empty(1)}
        network.load_reference_state_dict(live)
        network.load_reference_state_dict({**live, **dead})
        with pytest.raises(ValueError, match=r"1 keys unknown, such as aspp3\.conv9\.weight"):
            network.load_reference_state_dict({**live, "aspp3.conv9.weight": torch.empty(1)})
        missing = {key: tensor for key, tensor in live.items() if key != "aspp3.conv2.weight"}
        with pytest.raises(ValueError, match=r"1 keys missing, such as aspp3\.conv2\.weight"):
            network.load_reference_state_dict(missing)


@pytest.mark.parametrize(
    ("case", "stride"),
    [
        ("eval_b1_16x16", 1),
        ("eval_b2_32x32", 1),
        ("eval_b1_64x96", 1),
        ("eval_b1_240x240", 8),
    ],
)
def test_output_and_activations_are_the_published_ones(
    case: str, stride: int, golden: Any, filled: CFNetReference, relative_error: Any
) -> None:
    numbers = golden.numbers["network_cases"][case]
    with torch.no_grad(), Recorder(filled) as recorder:
        output = filled(case_image(golden, numbers))
    deviating = recorder.deviations(numbers["activations"])
    assert not deviating, f"in the order of computation, first off is {deviating[0]}; in all {len(deviating)} of 61"
    assert relative_error(output[..., ::stride, ::stride], golden.outputs[f"net_{case}"]) < TOLERANCE
    assert output.sum().item() == pytest.approx(numbers["output"]["sum"], abs=TOLERANCE * numbers["output"]["abs_sum"])
    histogram = torch.bincount(output.argmax(1).flatten(), minlength=4).tolist()
    assert histogram == numbers["output"]["argmax_histogram"]


def test_training_step_gives_the_published_loss_gradients_and_buffers(
    golden: Any, filled: CFNetReference, relative_error: Any
) -> None:
    numbers = golden.numbers["network_cases"]["train_b2_32x32"]
    network = copy.deepcopy(filled).train()
    network.context.dropout.p = 0.0
    with Recorder(network) as recorder:
        output = network(case_image(golden, numbers))
    deviating = recorder.deviations(numbers["activations"])
    assert not deviating, f"in the order of computation, first off is {deviating[0]}"
    loss = output.square().mean()
    loss.backward()
    assert relative_error(output, golden.outputs["net_train_b2_32x32"]) < TOLERANCE
    assert loss.item() == pytest.approx(numbers["loss_mean_square"], rel=TOLERANCE)

    names = published_names(network.state_dict())
    gradients = {names[key]: parameter.grad for key, parameter in network.named_parameters()}
    assert set(gradients) == set(numbers["grad_sum_abssum"])
    zero = 0
    for key, (total, absolute) in numbers["grad_sum_abssum"].items():
        vanishes = absolute < 1e-12
        zero += vanishes
        tolerance = 1e-9 if vanishes else 1e-8 * absolute
        assert gradients[key].sum().item() == pytest.approx(total, abs=tolerance), key
        assert gradients[key].abs().sum().item() == pytest.approx(absolute, abs=tolerance), key
    assert zero == 43

    buffers = {names[key]: buffer for key, buffer in network.named_buffers()}
    assert set(buffers) == set(numbers["buffers_after"])
    for key, expected in numbers["buffers_after"].items():
        if key.endswith("num_batches_tracked"):
            assert buffers[key].item() == expected, key
        else:
            assert buffers[key].sum().item() == pytest.approx(expected[0], abs=TOLERANCE * expected[1]), key
    assert network.stem_norm.num_batches_tracked.item() == 2, "the shared stem runs once a stream"


def test_streams_take_the_channels_they_are_given(golden: Any, filled: CFNetReference) -> None:
    """nnU-Net's order T1, T1ce, T2, FLAIR with pairs (0, 2), (1, 3) is the published order with (0, 1), (2, 3)."""
    image = case_image(golden, golden.numbers["network_cases"]["eval_b1_16x16"])
    network = CFNet.reference(stream_channels=((0, 2), (1, 3))).double().eval()
    network.load_state_dict(filled.state_dict())
    with torch.no_grad():
        assert torch.equal(network(image[:, [0, 2, 1, 3]]), filled(image))


@pytest.mark.parametrize("streams", [((0, 1), (2,)), ((0, 1, 2), (3,)), ((0, 1), (1, 2)), ((0, 1), (2, 4))])
def test_streams_that_are_no_two_pairs_are_refused(streams: tuple) -> None:
    with pytest.raises(ValueError, match="stream"):
        CFNet.reference(stream_channels=streams)


@pytest.mark.parametrize("shape", [(1, 4, 40, 40), (1, 4, 100, 96), (1, 4, 31, 31), (1, 2, 32, 32), (1, 4, 16, 16, 16)])
def test_other_inputs_are_refused_with_the_way_out(shape: tuple[int, ...]) -> None:
    with torch.device("meta"):
        network = CFNet.reference()
        with pytest.raises(ValueError, match=r"multiples of 16.*self-configuring CFNet"):
            network(torch.empty(shape))


def test_copies_pickles_and_walks_like_any_module(filled: CFNetReference) -> None:
    assert len(list(filled.modules())) > 300
    with torch.device("meta"):
        small = CFNet.reference()
    assert small.apply(lambda module: None) is small
    copied = pickle.loads(pickle.dumps(copy.deepcopy(small)))
    assert copied.state_dict().keys() == small.state_dict().keys()


def test_takes_part_in_autocast_with_the_context_in_float32() -> None:
    torch.manual_seed(0)
    network = CFNet.reference().eval()
    contexts: list[torch.Tensor] = []
    for fusion in network.fusions:
        fusion.contexts[0].register_forward_hook(lambda module, inputs, output: contexts.append(output))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = network(torch.randn(1, 4, 32, 32))
    assert torch.isfinite(output).all()
    assert [context.dtype for context in contexts] == [torch.float32] * 4


def test_start_from_a_resnet50_reaches_both_streams_and_nothing_else() -> None:
    torch.manual_seed(1)
    network = CFNet.reference()
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    resnet = dict(resnet50_state_dict(network))
    network.load_resnet50({**resnet, "fc.weight": torch.zeros(1), "layer4.0.conv1.weight": torch.zeros(1)})
    after = network.state_dict()
    for stream in ("one", "two"):
        assert torch.equal(after[f"stages_{stream}.2.5.conv3.weight"], resnet["layer3.5.conv3.weight"])
        assert torch.equal(after[f"stages_{stream}.0.0.downsample.0.weight"], resnet["layer1.0.downsample.0.weight"])
    assert torch.equal(after["stem_conv.weight"], resnet["conv1.weight"])
    kept = [key for key in before if not key.startswith(("stem_", "stages_"))]
    assert all(torch.equal(before[key], after[key]) for key in kept)
    with pytest.raises(ValueError, match=r"keys missing, such as bn1\.bias"):
        network.load_resnet50({key: tensor for key, tensor in resnet.items() if key != "bn1.bias"})
    with pytest.raises(ValueError, match=r"keys unknown, such as layer1.0.conv4\.weight"):
        network.load_resnet50({**resnet, "layer1.0.conv4.weight": torch.zeros(1)})


@pytest.mark.slow
def test_compiles_in_one_graph_and_gives_the_same_training_step() -> None:
    torch.manual_seed(0)
    network = CFNet.reference().train()
    network.context.dropout.p = 0.0
    twin = copy.deepcopy(network)
    image = torch.randn(2, 4, 32, 32)
    expected = network(image)
    actual = torch.compile(twin, backend="eager", fullgraph=True)(image)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-5)
    for output in (actual, expected):
        output.square().mean().backward()
    torch.testing.assert_close(twin.project.weight.grad, network.project.weight.grad, rtol=1e-4, atol=1e-5)
    assert twin.stem_norm.num_batches_tracked.item() == 2


def case_image(golden: Any, numbers: dict[str, Any]) -> torch.Tensor:
    shape = (numbers["batch"], 4, numbers["H"], numbers["W"])
    return golden.image("input:" + "x".join(map(str, shape)), shape)


def resnet50_state_dict(network: CFNetReference) -> Iterator[tuple[str, torch.Tensor]]:
    """Random tensors under torchvision's names; without counters, as in old files."""
    for key, tensor in network.state_dict().items():
        name = key.replace("stem_conv.", "conv1.").replace("stem_norm.", "bn1.")
        if key.startswith("stages_one."):
            stage, rest = key.removeprefix("stages_one.").split(".", 1)
            name = f"layer{int(stage) + 1}.{rest}"
        if name != key and not key.endswith("num_batches_tracked"):
            yield name, torch.rand_like(tensor)


class Recorder:
    """Sums of the activations named in the golden numbers, taken while the network runs once."""

    def __init__(self, network: CFNetReference) -> None:
        self.seen: dict[str, tuple[list[int], float, float, list[float]]] = {}
        self._handles: list[Any] = []
        self._record(network.project, "project_one", "project_two")
        self._record(network.stem_conv, "stem_conv_one", "stem_conv_two")
        self._record_input(network.pool, "stem_one", "stem_two")
        self._record(network.pool, "pool_one", "pool_two")
        for stage in range(3):
            self._record(network.stages_one[stage], f"layer{stage + 1}_one")
            self._record(network.stages_two[stage], f"layer{stage + 1}_two")
        for i, fusion in enumerate(network.fusions):
            for context, stream in zip(fusion.contexts, ("one", "two"), strict=True):
                self._record(context, f"fusion{i}_ctx_{stream}")
                self._handles.append(context.register_forward_hook(self._logits(f"fusion{i}_ctxlogits_{stream}")))
            self._record(fusion.norm, f"fusion{i}_cross_one", f"fusion{i}_cross_two")
            self._record(fusion, f"fusion{i}")
        self._record(network.context.reduce, "context_reduce")
        for t, branch in enumerate(network.context.branches):
            self._record(branch, f"context_branch{t + 1}")
        self._record(network.context.weights, "context_weights", change=lambda weights: weights.flatten(1))
        self._record(network.context.expand, "context_expand")
        self._record(network.context, "context")
        for i in range(3):
            self._record(network.communications[i], f"comm{3 - i}")
            self._record(network.ups[i], f"up{3 - i}")
            self._record_input([*network.ups[1:], network.head][i], f"dec{3 - i}")
        self._record(network.head[0], "head_deconv")
        self._record(network.head[2], "head_conv2")

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def deviations(self, expected: dict[str, dict[str, Any]]) -> list[str]:
        """Names of the activations that differ, in the order of the golden file, which is that of computation."""
        assert set(self.seen) == set(expected), "an activation was not recorded"
        return [name for name, numbers in expected.items() if not self._equal(name, numbers)]

    def _equal(self, name: str, numbers: dict[str, Any]) -> bool:
        shape, total, absolute, first = self.seen[name]
        tolerance = TOLERANCE * numbers["abs_sum"]
        return (
            shape == numbers["shape"]
            and abs(total - numbers["sum"]) <= tolerance
            and abs(absolute - numbers["abs_sum"]) <= tolerance
            and first == pytest.approx(numbers["first"], rel=0, abs=TOLERANCE * max(map(abs, numbers["first"])))
        )

    def _note(self, name: str, tensor: torch.Tensor) -> None:
        tensor = tensor.detach()
        first = tensor.flatten()[:4].tolist()
        self.seen[name] = (list(tensor.shape), tensor.sum().item(), tensor.abs().sum().item(), first)

    def _record(self, module: nn.Module, *names: str, change: Any = lambda tensor: tensor) -> None:
        """The outputs of successive calls, one a name."""
        calls = iter(names)
        hook = module.register_forward_hook(lambda module, inputs, output: self._note(next(calls), change(output)))
        self._handles.append(hook)

    def _record_input(self, module: nn.Module, *names: str) -> None:
        calls = iter(names)
        hook = module.register_forward_pre_hook(lambda module, inputs: self._note(next(calls), inputs[0]))
        self._handles.append(hook)

    def _logits(self, name: str) -> Any:
        return lambda module, inputs, output: self._note(name, module.logits(*inputs))
