"""Every attention block against golden numbers: outputs, gradients of the input and of every parameter."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import nn

from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.cbam import CBAM
from nnunet_ext.architectures.blocks.attention.channel_self_attention import ChannelSelfAttention
from nnunet_ext.architectures.blocks.attention.channel_then_slice import ChannelThenSlice
from nnunet_ext.architectures.blocks.attention.class_activation import ClassActivation
from nnunet_ext.architectures.blocks.attention.descriptors import DescriptorGate
from nnunet_ext.architectures.blocks.attention.dual_attention import DualAttention
from nnunet_ext.architectures.blocks.attention.key_slices import key_slices
from nnunet_ext.architectures.blocks.attention.pam import ProgressiveAttention
from nnunet_ext.architectures.blocks.attention.position_attention import PositionAttention
from nnunet_ext.architectures.blocks.attention.project_excite import ProjectExcite
from nnunet_ext.architectures.blocks.attention.residual_squeeze_excite import ResidualSqueezeExcite
from nnunet_ext.architectures.blocks.attention.slice_attention import SliceAttention
from nnunet_ext.architectures.blocks.attention.slice_then_channel import SliceThenChannel
from nnunet_ext.architectures.blocks.attention.spatial_transformer import SpatialTransformer
from nnunet_ext.architectures.blocks.attention.split_attention import SplitAttention
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.layers import LayerPlan

EXACT = 1e-12
POOLINGS = ("avg", "max", "avg_and_max")
LAYERS = {
    2: LayerPlan(nn.Conv2d, False, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.ReLU),
    3: LayerPlan(nn.Conv3d, False, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.ReLU),
}
LEAKY = {
    2: LayerPlan(nn.Conv2d, False, nn.InstanceNorm2d, {"affine": True}, nonlin=nn.LeakyReLU),
    3: LayerPlan(nn.Conv3d, False, nn.InstanceNorm3d, {"affine": True}, nonlin=nn.LeakyReLU),
}
MLP = {
    "reduce_weight": "fc.0.weight",
    "reduce_bias": "fc.0.bias",
    "expand_weight": "fc.2.weight",
    "expand_bias": "fc.2.bias",
}
#: our parameter -> where its numbers stand in a golden case: one key, or one key a channel, to be stacked
Names = dict[str, str | list[str]]


def channel_names(own: str = "mlp.", published: str = "") -> Names:
    return {own + name: published + key for name, key in MLP.items()}


def slice_names(own: str = "mlp.", published: str = "", channels: int = 8) -> Names:
    return {
        own + name: [f"{published}Slice_SE_encoder.{c}.{key}" for c in range(channels)] for name, key in MLP.items()
    }


SERIES_NAMES = channel_names("channels.mlp.", "cSE.") | slice_names("slices.mlp.", "sSE.")


def unit_names(own: str, published: str) -> Names:
    """Names of a convolution, PReLU and instance norm."""
    return {
        f"{own}0.weight": f"{published}conv.weight",
        f"{own}0.bias": f"{published}conv.bias",
        f"{own}1.weight": f"{published}pReLU.weight",
        f"{own}2.weight": f"{published}instancenorm.weight",
        f"{own}2.bias": f"{published}instancenorm.bias",
    }


def position_names(own: str = "", published: str = "") -> Names:
    names: Names = {f"{own}gamma": f"{published}gamma"}
    for layer in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            names[f"{own}{layer}.{kind}"] = f"{published}{layer}_conv.{kind}"
    return names


def series(block: type, options: Mapping[str, Any], **more: Any) -> nn.Module:
    return block(
        options["channels"],
        options["depth"],
        options["channel_reduction"],
        options["slice_reduction"],
        options["channel_pooling"],
        options["slice_pooling"],
        pooling_reference_quirks=True,
        **more,
    )


def slices(options: Mapping[str, Any], **more: Any) -> nn.Module:
    return SliceAttention(options["channels"], options["depth"], options["reduction"], options["pooling"], **more)


def published_unit(channels: int, out_channels: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(channels, out_channels, 3, padding=1),
        nn.PReLU(out_channels),
        nn.InstanceNorm3d(out_channels, affine=True),
    )


def dual(options: Mapping[str, Any]) -> nn.Module:
    return DualAttention(
        LAYERS[3],
        options["in_channels"],
        options["out_channels"],
        reduction=4,
        extent="column",
        key_bias=True,
        like_channels=True,
        dropout=0.0,
        unit=published_unit,
    )


DUAL_NAMES: Names = {
    **position_names("position.", "PAM."),
    "channel.gamma": "CAM.gamma",
    **unit_names("to_position.", "conv_p1.0."),
    **unit_names("to_channel.", "conv_c1.0."),
    **unit_names("from_position.", "conv_p2.0."),
    **unit_names("from_channel.", "conv_c2.0."),
    **unit_names("out.", "final_conv.1."),
}
GATE_NAMES: Names = {
    **{name: name for name in ("theta.weight", "phi.weight", "phi.bias", "psi.weight", "psi.bias")},
    "out.weight": "final_conv.0.weight",
    "out.bias": "final_conv.0.bias",
    "norm.weight": "final_conv.1.weight",
    "norm.bias": "final_conv.1.bias",
}
PE_NAMES: Names = {
    "slope": "relu.weight",
    "mlp.reduce_weight": "conv_c.weight",
    "mlp.reduce_bias": "conv_c.bias",
    "mlp.expand_weight": "conv_cT.weight",
    "mlp.expand_bias": "conv_cT.bias",
}
#: kind of golden case -> block in its published form, names of its parameters
PUBLISHED: dict[str, tuple[Callable[[Mapping[str, Any]], nn.Module], Names]] = {
    "se": (lambda o: SqueezeExcite(o["channels"], o["reduction"], o["pooling"]), channel_names()),
    "slice_sca": (lambda o: slices(o, pooling_reference_quirks=True), slice_names()),
    "slice_pam": (lambda o: slices(o, clamp_hidden=False), slice_names()),
    "csa": (lambda o: series(ChannelThenSlice, o), SERIES_NAMES),
    "sca": (lambda o: series(SliceThenChannel, o), SERIES_NAMES),
    "pam": (
        lambda o: series(ProgressiveAttention, o, detach_descriptor=True, clamp_hidden=False),
        SERIES_NAMES,
    ),
    "pe": (
        lambda o: ProjectExcite(o["channels"], o["reduction"], average_profiles=True, prelu=True, clamp_hidden=False),
        PE_NAMES,
    ),
    "attention_gate": (
        lambda o: AttentionGate(LAYERS[3], o["in_channels"], o["gate_channels"], (2, 2, 2), out_bias=True),
        GATE_NAMES,
    ),
    "da_position": (
        lambda o: PositionAttention(LAYERS[3], o["channels"], reduction=4, extent="column", key_bias=True),
        position_names(),
    ),
    "da_channel": (lambda o: ChannelSelfAttention(like_channels=True), {"gamma": "gamma"}),
    "dual_attention": (dual, DUAL_NAMES),
}
#: golden case -> its kind
CASES = {
    **{f"{kind}_{p}": kind for kind in ("se", "csa", "sca", "pam", "slice_sca", "slice_pam") for p in POOLINGS},
    "slice_sca_clamped": "slice_sca",
    "slice_pam_zero_hidden": "slice_pam",
    "pe_r2": "pe",
    "attention_gate": "attention_gate",
    "da_position_inplane": "da_position",
    "da_channel": "da_channel",
    "dual_attention_no_dropout": "dual_attention",
}
RESAMPLED = [
    f"{kind}_{pooling}_D{depth}"
    for kind in ("csa", "sca", "pam")
    for pooling in ("avg", "avg_and_max")
    for depth in (6, 9, 4, 1)
]
#: cases of the file that are plain layers of the networks, tested with them
LAYER_CASES = {
    "double_conv_decoder_cpi",
    "double_conv_encoder_cpi",
    "vnet_residual_rep1_cpi",
    "vnet_residual_rep3_cpi",
    "vnet_residual_rep3_cri",
}


def loaded(block: nn.Module, names: Names, weights: Mapping[str, torch.Tensor]) -> nn.Module:
    """The block in float64 with the weights under their published names, none missing, none left."""
    state = block.double().state_dict()
    assert set(names) == set(state)
    used = [key for keys in names.values() for key in ([keys] if isinstance(keys, str) else keys)]
    assert sorted(used) == sorted(weights)
    for own, keys in names.items():
        values = weights[keys] if isinstance(keys, str) else torch.stack([weights[key] for key in keys])
        state[own] = values.reshape(state[own].shape)
    block.load_state_dict(state)
    return block


def gradient_errors(golden: Any, block: nn.Module, names: Names, records: Mapping[str, Any]) -> dict[str, float]:
    """Published name -> error of the gradient of that parameter."""
    errors = {}
    for own, parameter in block.named_parameters():
        keys = names[own]
        gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        pieces = [(keys, gradient)] if isinstance(keys, str) else zip(keys, gradient, strict=True)
        errors.update({key: golden.gradient_error(piece, records[key]) for key, piece in pieces})
    return errors


def bits(keys: torch.Tensor) -> list[list[str]]:
    """Key slices (B, C, D) as strings of 0 and 1."""
    return [["".join(str(int(k)) for k in channel) for channel in sample] for sample in keys]


def test_numbers_are_drawn_by_the_rule(pam_golden: Any) -> None:
    assert zlib.crc32(b"input") == 3626513111
    expected = [0.4162847524081771, -0.1144516792289041, 1.1580745052688868]
    assert pam_golden.normal("input", [3]).tolist() == expected


def test_every_block_of_the_file_has_a_test(pam_golden: Any) -> None:
    assert set(CASES) | LAYER_CASES == set(pam_golden.load("blocks"))
    assert set(RESAMPLED) == set(pam_golden.load("resample"))
    assert {f"{name}_{d}d" for name in SOUND for d in (2, 3)} == set(pam_golden.load("sound_blocks"))


@pytest.mark.parametrize("name", CASES)
def test_published_block_gives_the_published_numbers(pam_golden: Any, name: str) -> None:
    case = pam_golden.load("blocks")[name]
    make, names = PUBLISHED[CASES[name]]
    shapes = {key: record["shape"] for key, record in case["grad_params"].items()}
    block = loaded(make(case["options"]), names, pam_golden.fill(shapes))
    x = pam_golden.image("block_input", case["input_shape"]).requires_grad_()
    inputs = [x, pam_golden.image("block_gate", case["gate_shape"])] if "gate_shape" in case else [x]
    output = block(*inputs)
    assert pam_golden.error(output, case["output"]) < EXACT
    if "second_output" in case:
        assert pam_golden.error(block.attention_map(*inputs), case["second_output"]) < EXACT
    if "key_slices" in case:
        gates = block.gates_of(x)
        assert bits(gates.keys if gates.keys is not None else key_slices(gates.slices))[0] == case["key_slices"]
    (output * pam_golden.normal("probe", output.shape)).sum().backward()
    assert pam_golden.error(x.grad, case["grad_input"]) < EXACT
    errors = gradient_errors(pam_golden, block, names, case["grad_params"])
    assert {key: error for key, error in errors.items() if error > EXACT} == {}
    assert set(errors) == set(case["grad_params"])


@pytest.mark.parametrize("name", RESAMPLED)
def test_other_depths_are_interpolated(pam_golden: Any, name: str) -> None:
    case = pam_golden.load("resample")[name]
    source = pam_golden.load("blocks")[name.rpartition("_")[0]]
    make, names = PUBLISHED[case["kind"]]
    shapes = {key: record["shape"] for key, record in source["grad_params"].items()}
    block = loaded(make(source["options"]), names, pam_golden.fill(shapes))
    assert isinstance(block, DescriptorGate)
    x = pam_golden.image("block_input", case["input_shape"])
    assert pam_golden.error(block(x), case["output"]) < EXACT
    if "key_slices" in case and case["input_depth"] > 1:
        assert bits(block.gates_of(x).keys) == case["key_slices"]


def mlp_names(weight: str = "mlp.w1", bias: str = "mlp.b1", own: str = "mlp.") -> Names:
    """Names of a perceptron, from the golden ones of its first layer."""
    return {
        f"{own}reduce_weight": weight,
        f"{own}reduce_bias": bias,
        f"{own}expand_weight": weight.replace("1", "2"),
        f"{own}expand_bias": bias.replace("1", "2"),
    }


def conv_names(**layers: str) -> Names:
    """Norms and convolutions by their own and the golden name; those without bias end in a dash."""
    names: Names = {}
    for own, golden in layers.items():
        own = own.replace("__", ".")
        names[f"{own}.weight"] = f"{golden.rstrip('-')}.w"
        if not golden.endswith("-"):
            names[f"{own}.bias"] = f"{golden}.b"
    return names


#: golden family -> prefix of its random keys, block for a dimension, names of its parameters
SOUND: dict[str, tuple[str, Callable[[int], nn.Module], Names]] = {
    "cbam": (
        "cbam",
        lambda d: CBAM(LAYERS[d], 8, reduction=4),
        mlp_names(own="channels.mlp.") | conv_names(conv="conv-", norm="norm"),
    ),
    "split_attention_card1": (
        "split1",
        lambda d: SplitAttention(LAYERS[d], 8),
        mlp_names("fc1.w", "fc1.b") | conv_names(conv="conv-", norm="norm"),
    ),
    "split_attention_card2": (
        "split2",
        lambda d: SplitAttention(LAYERS[d], 8, groups=2),
        mlp_names("fc1.w", "fc1.b") | conv_names(conv="conv-", norm="norm"),
    ),
    "position_attention": (
        "dap",
        lambda d: PositionAttention(LAYERS[d], 8, key_bias=True),
        {"gamma": "gamma"} | conv_names(query="q", key="k", value="v"),
    ),
    "channel_self_attention": ("dac", lambda d: ChannelSelfAttention(), {"gamma": "gamma"}),
    "project_excite_sum": ("pe", lambda d: ProjectExcite(8), mlp_names("w1", "b1")),
    "se_residual": (
        "ser",
        lambda d: ResidualSqueezeExcite(LEAKY[d], 8, 12, reduction=4),
        mlp_names("fc1.w", "fc1.b", "attention.mlp.")
        | conv_names(conv1="conv1-", norm1="norm1", conv2="conv2-", norm2="norm2", skip__0="skip-", skip__1="skipnorm"),
    ),
    "attention_gate": (
        "ag",
        lambda d: AttentionGate(LAYERS[d], 8, 16, (2,) * d, out_bias=True),
        conv_names(theta="theta-", phi="phi", psi="psi", out="out", norm="norm"),
    ),
    "class_activation_map": ("cam", lambda d: ClassActivation(8, 3), {"weight": "w"}),
    "spatial_transformer": ("stn", lambda d: SpatialTransformer(8, d, 6), mlp_names("fc1.w", "fc1.b")),
}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("family", SOUND)
def test_sound_form_gives_the_numbers_of_its_formula(pam_golden: Any, family: str, dimension: int) -> None:
    case = pam_golden.load("sound_blocks")[f"{family}_{dimension}d"]
    prefix, make, names = SOUND[family]
    weights = pam_golden.fill_sound(f"sound.{dimension}d.{prefix}", case["params"])
    block = loaded(make(dimension), names, weights)
    x = pam_golden.normal("sound_input", case["input_shape"]).requires_grad_()
    inputs = [x, pam_golden.normal("sound_gate", case["gate_shape"])] if case["gate_shape"] else [x]
    output = block.class_maps(x) if isinstance(block, ClassActivation) else block(*inputs)
    assert pam_golden.error(output, case["output"]) < EXACT
    (output * pam_golden.normal("probe", output.shape)).sum().backward()
    assert pam_golden.error(x.grad, case["grad_input"]) < EXACT
    errors = gradient_errors(pam_golden, block, names, case["grad_params"])
    assert {key: error for key, error in errors.items() if error > EXACT} == {}
