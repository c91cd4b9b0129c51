"""The published CFFormer equals its authors' code: every inner tensor, loss, gradient and buffer of the golden numbers.

``tests/golden/README.md`` tells where they are from. Logits alone react little to an error inside, so inner tensors are
compared in the order in which they are computed: the first that is off is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks import windows
from nnunet_ext.architectures.blocks.channel_exchange import ChannelExchange
from nnunet_ext.architectures.blocks.spatial_fusion import SpatialFusion
from nnunet_ext.architectures.blocks.swin_v2 import PatchMerging
from nnunet_ext.architectures.blocks.swin_v2_block import SwinV2Block
from nnunet_ext.architectures.blocks.unet_decoder import UNetDecoder
from nnunet_ext.architectures.blocks.windows import Windows
from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.architectures.cfformer_reference import LAYERS, CFFormerReference
from nnunet_ext.architectures.cfformer_weights import from_published, own_names, v_first
from nnunet_ext.architectures.pretrained import stacked_biases, torchvision_name

EXACT = 1e-11
FLOAT32 = 1e-4
BLOCKS = ("cfca_xff", "decoder", "merge_even", "merge_odd", "merge_one")
SWIN_BLOCKS = ("pad7_shift0", "pad7_shift4", "pad14x10_shift0", "pad14x10_shift4", "grid16_shift4", "grid2_shift4")


@pytest.fixture(autouse=True)
def _table_of_the_golden_numbers(authors_golden: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The position table is float32 arithmetic, which another build of torch may round otherwise."""
    axis = torch.tensor(authors_golden.load("keys_s")["relative_coords_table_axis"], dtype=torch.float64)
    own = windows.relative_coordinates((8, 8), None, axis)
    table = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), dim=-1).flatten(0, -2)
    torch.testing.assert_close(own, table, rtol=0, atol=1e-6)
    name = "nnunet_ext.architectures.blocks.window_attention.relative_coordinates"
    monkeypatch.setattr(name, lambda window, trained_window, like: table.to(like.dtype))


@pytest.fixture(scope="module")
def filled(authors_golden: Any) -> CFFormerReference:
    network = CFFormer.reference().double()
    network.load_reference_state_dict(authors_golden.weights())
    return network


@pytest.fixture
def network(filled: CFFormerReference) -> Iterator[CFFormerReference]:
    """With its buffers as filled, whatever a test does."""
    before = {name: buffer.clone() for name, buffer in filled.named_buffers()}
    yield filled
    filled.zero_grad()
    for name, buffer in filled.named_buffers():
        buffer.copy_(before[name])


def record(network: CFFormerReference) -> dict[str, torch.Tensor]:
    """Fills with what the next forward pass computes, under the names of the golden numbers."""
    seen: dict[str, torch.Tensor] = {}
    handles = [network.cnn.bn1.register_forward_hook(lambda m, i, out: seen.update(skip0=out))]
    for number, fusion in enumerate(network.fusion, start=1):

        def exchanged(module: Any, inputs: Any, outputs: Any, number: int = number) -> None:
            (u, v), (fused_u, fused_v) = inputs, outputs
            gate_u, gate_v = module.attention(u.flatten(2), v.flatten(2))
            seen.update({f"u{number}_in": u, f"v{number}_in": v})
            seen.update({f"gate_u{number}": gate_u.unsqueeze(2), f"gate_v{number}": gate_v.unsqueeze(2)})
            seen.update({f"to_u{number}": fused_u - u, f"to_v{number}": fused_v - v})
            seen.update({f"u{number}": fused_u, f"v{number}": fused_v})

        def joined(module: Any, inputs: Any, output: Any, number: int = number) -> None:
            seen[f"skip{number}"] = output

        handles += [fusion.cfca.register_forward_hook(exchanged), fusion.xff.register_forward_hook(joined)]
    for number, up in zip((5, 4, 3, 2, 1), network.decoder.transpconvs, strict=True):
        handles.append(up.register_forward_hook(lambda m, i, out, number=number: seen.update({f"dec{number}": out})))
    handles.append(network.register_forward_hook(lambda m, i, out: seen.update(logits=out)))
    handles.append(network.register_forward_hook(lambda *_: [handle.remove() for handle in handles] and None))
    return seen


def compare(golden: Any, found: Mapping[str, torch.Tensor], expected: Mapping[str, Any], tolerance: float) -> None:
    for name, summary in expected.items():
        error = golden.error(found[name], summary)
        assert error < tolerance, f"{name} is the first that is off, by {error:.1e}"


def run(golden: Any, network: CFFormerReference, case: Mapping[str, Any], tolerance: float = EXACT) -> torch.Tensor:
    seen = record(network)
    image = golden.image(case["input"], case["input_shape"]).to(next(network.parameters()).dtype)
    logits = network(image)
    assert list(seen) == list(case["tensors"])
    compare(golden, seen, case["tensors"], tolerance)
    return logits


def published_gradient(network: nn.Module, key: str) -> torch.Tensor:
    """Of a published key, in the published order of columns."""
    if key.startswith("encoder.transformer."):
        return network.get_parameter("transformer." + torchvision_name(key.removeprefix("encoder.transformer."))).grad
    name = own_names(key)[0]
    gradient = network.get_parameter(name).grad
    return u_first(gradient) if name.endswith("xff.out.weight") else gradient


def u_first(weight: torch.Tensor) -> torch.Tensor:
    transformer = weight.shape[0]
    return torch.cat((weight[:, transformer:], weight[:, :transformer]), dim=1)


def check_loss_and_gradients(golden: Any, network: nn.Module, case: Mapping[str, Any], logits: torch.Tensor) -> None:
    loss = (logits * golden.image(case["loss_weight"], logits.shape)).mean()
    assert loss.item() == pytest.approx(case["loss"], rel=EXACT)
    loss.backward()
    compare(golden, {key: published_gradient(network, key) for key in case["grads"]}, case["grads"], EXACT)


def test_the_filling_rule_reproduces_its_check_values(authors_golden: Any) -> None:
    for key, check in authors_golden.load("eval_s")["fill_examples"].items():
        values = authors_golden.fill(key, check["shape"]).flatten()
        assert values[:4].tolist() == pytest.approx(check["first"], rel=1e-15), key
        assert values.sum().item() == pytest.approx(check["sum"], rel=1e-12, abs=1e-12), key


def test_columns_of_the_fusion_go_there_and_back() -> None:
    weight = torch.randn(8, 12, 3, 3)
    assert torch.equal(u_first(v_first(weight)), weight)
    assert torch.equal(v_first(weight)[:, :8], weight[:, 4:])


@pytest.mark.parametrize("name", ["s64", "s32x96_batch2", "s224"])
def test_every_inner_tensor_equals_the_authors(authors_golden: Any, network: CFFormerReference, name: str) -> None:
    case = authors_golden.load("eval_s")["cases"][name]
    with torch.no_grad():
        logits = run(authors_golden, network.eval(), case)
    found = logits[..., ::7, ::7] if name == "s224" else logits
    whole = authors_golden.logits("s224_every7" if name == "s224" else name)
    assert (found - whole).abs().max() < EXACT * whole.abs().max()


def test_gradients_in_evaluation_equal_the_authors(authors_golden: Any, network: CFFormerReference) -> None:
    case = authors_golden.load("eval_s")["cases"]["s64"]
    check_loss_and_gradients(authors_golden, network, case, run(authors_golden, network.eval(), case))


def test_several_classes_equal_the_authors(authors_golden: Any, network: CFFormerReference) -> None:
    case = authors_golden.load("eval_s")["cases"]["s64_k4"]
    head, own = nn.Conv2d(64, 4, 1).double(), network.decoder.seg_layers
    fill = {name: authors_golden.fill(f"decoder.out.6.{name}", p.shape) for name, p in head.named_parameters()}
    head.load_state_dict(fill)
    network.decoder.seg_layers = nn.ModuleList([head])
    try:
        with torch.no_grad():
            logits = run(authors_golden, network.eval(), case)
    finally:
        network.decoder.seg_layers = own
    whole = authors_golden.logits("s64_k4")
    assert (logits - whole).abs().max() < EXACT * whole.abs().max()


@pytest.mark.parametrize("drop", ["nodrop", "fixed_drop"])
def test_a_training_step_equals_the_authors(
    authors_golden: Any, network: CFFormerReference, monkeypatch: pytest.MonkeyPatch, drop: str
) -> None:
    case = authors_golden.load("train_s")[f"batch2_64_{drop}"]
    probabilities = authors_golden.load("train_s")["stochastic_depth_probabilities"]
    blocks = [block for stage in network.transformer.stages for block in stage.blocks]
    assert [block.drop_path for block in blocks] == pytest.approx(list(probabilities.values()), rel=1e-12)
    batch = case["input_shape"][0]
    draws = iter(
        (authors_golden.image(f"drop:{key.removesuffix('.stochastic_depth')}.{branch}", (batch,)) + 1) / 2
        for key, probability in probabilities.items()
        for branch in ("attn", "mlp")
        if probability > 0
    )
    if drop == "nodrop":
        for block in blocks:
            monkeypatch.setattr(block, "drop_path", 0.0)
    else:
        monkeypatch.setattr(torch, "rand", lambda *_, **__: next(draws))
    logits = run(authors_golden, network.train(), case)
    assert len(list(draws)) == (2 * 11 if drop == "nodrop" else 0)
    check_loss_and_gradients(authors_golden, network, case, logits)
    buffers = {key: network.get_buffer(own_names(key)[0]) for key in case["buffers_after"]}
    compare(authors_golden, buffers, case["buffers_after"], EXACT)
    assert network.cnn.bn1.num_batches_tracked == case["num_batches_tracked_after"]


def test_float32_is_near_the_authors_float64(authors_golden: Any, network: CFFormerReference) -> None:
    case = authors_golden.load("eval_s")["cases"]["s64"]
    single = CFFormer.reference()
    single.load_state_dict(network.state_dict())
    with torch.no_grad():
        run(authors_golden, single.eval(), case, FLOAT32)


def test_exchange_and_fusion_equal_the_authors(authors_golden: Any) -> None:
    case = authors_golden.load("blocks")["cfca_xff"]
    exchange = ChannelExchange(case["Cc"], case["Ct"]).double()
    fusion = SpatialFusion(LAYERS, case["Cc"], case["Ct"], case["Ck"], (3, 3), (5, 5)).double()
    keys = {f"encoder.cdca1.{key}": f"cfca.{key}" for key in case["keys_cfca"]}
    keys |= {f"encoder.X_spatial_1.{key}": f"xff.{key}" for key in case["keys_xff"]}
    shapes = {f"cfca.{key}": shape for key, shape in case["keys_cfca"].items()}
    shapes |= {f"xff.{key}": shape for key, shape in case["keys_xff"].items()}
    named = from_published({key: authors_golden.fill(own, shapes[own]) for key, own in keys.items()})
    blocks = nn.ModuleDict({"fusion": nn.ModuleList([nn.ModuleDict({"cfca": exchange, "xff": fusion})])})
    blocks.load_state_dict(named)
    u, v = (
        authors_golden.image(case[f"{name}_input"], (2, channels, 5, 6)).requires_grad_()
        for name, channels in (("u", case["Cc"]), ("v", case["Ct"]))
    )
    gate_u, gate_v = exchange.attention(u.flatten(2), v.flatten(2))
    fused_u, fused_v = exchange(u, v)
    joined: list[torch.Tensor] = []
    fusion.out.register_forward_pre_hook(lambda module, inputs: joined.append(inputs[0]))
    skip = fusion(fused_u, fused_v)
    found = {"gate_u": gate_u.unsqueeze(2), "gate_v": gate_v.unsqueeze(2), "to_u": fused_u - u, "to_v": fused_v - v}
    found |= {"u": fused_u, "v": fused_v, "xff_of_fused": skip, "xff_of_raw": fusion(u, v)}
    # of the raw maps: what the last convolution joins, the map of each encoder with what came from the other
    transformer, cnn = joined[-1].split((case["Ct"], case["Cc"]), dim=1)
    found |= {"xff_cnn_branch": cnn, "xff_trans_branch": transformer}
    compare(authors_golden, found, case["tensors"], EXACT)
    loss = (skip * authors_golden.image("input:grad_weight", skip.shape)).mean()
    assert loss.item() == pytest.approx(case["loss"], rel=EXACT)
    loss.backward()
    gradients = {own: published_gradient(blocks, key) for key, own in keys.items()} | {"u": u.grad, "v": v.grad}
    compare(authors_golden, gradients, case["grads"], EXACT)


@pytest.mark.parametrize("name", [*SWIN_BLOCKS, "rect8x16_shift4"])
def test_blocks_of_the_transformer_equal_the_authors(authors_golden: Any, name: str) -> None:
    case = authors_golden.load("blocks")[f"swin_block_{name}"]
    block = SwinV2Block(
        case["C"], case["heads"], 2, shifted=bool(case["shift"]), attend_to_padding=True, stacked_bias=True
    ).double()
    weights = {}
    for key, shape in case["keys"].items():
        if "relative_" not in key:
            own = torchvision_name(f"features.1.0.{key}").removeprefix("layers.0.blocks.0.")
            weights[own] = authors_golden.fill(case["prefix"] + key, shape)
    block.load_state_dict(weights)
    x = authors_golden.image(case["input"], case["tensors"]["out"]["shape"])
    inner: list[torch.Tensor] = []
    block.norm1.register_forward_pre_hook(lambda module, inputs: inner.append(inputs[0]))
    out = block(x, (case["window"], case["window"]))
    compare(authors_golden, {"attn": inner[0], "out": out}, case["tensors"], EXACT)


@pytest.mark.parametrize("name", ["even", "odd", "one"])
def test_merging_equals_the_authors(authors_golden: Any, name: str) -> None:
    case = authors_golden.load("blocks")[f"merge_{name}"]
    merging = PatchMerging(case["C"], 2 * case["C"], (2, 2)).double()
    merging.load_state_dict({k: authors_golden.fill(case["prefix"] + k, s) for k, s in case["keys"].items()})
    size = {"even": (4, 6), "odd": (5, 7), "one": (1, 3)}[name]
    x = authors_golden.image(case["input"], (2, *size, case["C"]))
    compare(authors_golden, {"out": merging(x)}, case["tensors"], 1e-12)


def test_the_decoder_equals_the_authors_in_evaluation_and_in_training(authors_golden: Any) -> None:
    case = authors_golden.load("blocks")["decoder"]
    widths = case["widths"]
    decoder = UNetDecoder(
        LAYERS,
        [0, *widths],
        [(3, 3)] * 6,
        [(1, 1), *[(2, 2)] * 5],
        [2] * 5,
        case["K"],
        deep_supervision=False,
        widths=[widths[0], *widths[:-1]],
        upsample_last=True,
        single_head=True,
    ).double()
    published = {f"decoder.{k}": authors_golden.fill(case["prefix"] + k, s) for k, s in case["keys"].items()}
    decoder.load_state_dict({k.removeprefix("decoder."): v for k, v in from_published(published).items()})
    skips = [None, *(authors_golden.image(name, shape) for name, shape in case["inputs"])]
    found = {"eval": decoder.eval()(skips), "train": decoder.train()(skips)}
    compare(authors_golden, found, case["tensors"], EXACT)


def test_two_biases_and_one_stacked_bias_compute_the_same(authors_golden: Any) -> None:
    split = SwinV2Block(8, 2, 2, shifted=True, attend_to_padding=True).double()
    split.load_state_dict(authors_golden.filled(split.state_dict(), "any."))
    stacked = SwinV2Block(8, 2, 2, shifted=True, attend_to_padding=True, stacked_bias=True).double()
    stacked.load_state_dict(stacked_biases(split.state_dict()))
    with torch.no_grad():
        stacked.attn.qkv.bias[8:16] = 1e3  # the key's, which counts for nothing
    x = authors_golden.image("input:biases", (1, 14, 10, 8))
    assert torch.equal(stacked(x, (8, 8)), split(x, (8, 8)))
    assert Windows.over((2, 9), (8, 8), True, attend_to_padding=True).window == (8, 8)
