"""Published weights of the attention U-Nets and V-Nets under the names of ``attention_unet_reference.py`` and
``attention_vnet_reference.py``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

import torch

from nnunet_ext.architectures.blocks.attention.slice_attention import resized_weights

StateDict = Mapping[str, torch.Tensor]
_PLACEHOLDER = re.compile(r"\{(\+?)\}")
_FIRST_DEPTH = re.compile(r"Encoder_?[Ll]ayer1\..*Slice_SE_encoder\.0\.fc\.2\.bias")

MLP = {
    "reduce_weight": "fc.0.weight",
    "reduce_bias": "fc.0.bias",
    "expand_weight": "fc.2.weight",
    "expand_bias": "fc.2.bias",
}
PROJECT_EXCITE = {
    "mlp.reduce_weight": "conv_c.weight",
    "mlp.reduce_bias": "conv_c.bias",
    "mlp.expand_weight": "conv_cT.weight",
    "mlp.expand_bias": "conv_cT.bias",
    "slope": "relu.weight",
}
#: own part of the state dict -> published one, first match wins; {} stands for a number and {+} for the next one
UNET = {
    "encoders.{}.convs.{}.": "EncoderLayer{+}.basic_module.Conv{+}.",
    "decoders.{}.convs.{}.": "DecoderLayer{+}.basic_module.Conv{+}.",
    "encoders.{}.project.": "EncoderLayer{+}.pe_layer.",
    "encoders.{}.attention.slices.": "EncoderLayer{+}.encoder_sSE.",
    "decoders.{}.attention.slices.": "DecoderLayer{+}.decoder_sSE.",
    "encoders.{}.attention.channels.": "EncoderLayer{+}.encoder_cSE.",
    "decoders.{}.attention.channels.": "DecoderLayer{+}.decoder_cSE.",
    "encoders.{}.attention.": "EncoderLayer{+}.encoder_cSE.",
    "decoders.{}.attention.": "DecoderLayer{+}.decoder_cSE.",
    "decoders.{}.gate.out.": "DecoderLayer{+}.attention_module.final_conv.0.",
    "decoders.{}.gate.norm.": "DecoderLayer{+}.attention_module.final_conv.1.",
    "decoders.{}.gate.": "DecoderLayer{+}.attention_module.",
    "head.seg_layers.0.": "final_conv.",
}
DEEP_UNET = {
    "encoders.{}.convs.{}.": "encoders.{}.basic_module.Conv{+}.",
    "decoders.{}.convs.{}.": "decoders.{}.basic_module.Conv{+}.",
    "coarse_heads.seg_layers.{}.": "decodertransposeds.{}.",
    "head.seg_layers.0.": "final_conv.",
}
VNET = {
    "encoders.{}.block.layers.": "Encoder_layer{+}.conv_layer.convblock.",
    "decoders.{}.block.layers.": "Decoder_layer{+}.conv_layer.convblock.",
    "encoders.{}.block.activation.": "Encoder_layer{+}.conv_layer.final_nolinear_activation.",
    "decoders.{}.block.activation.": "Decoder_layer{+}.conv_layer.final_nolinear_activation.",
    "encoders.{}.down.": "Encoder_layer{+}.downsample_layer.",
    "decoders.{}.up.": "Decoder_layer{+}.upsample_layer.",
    "encoders.{}.attention.slices.": "Encoder_layer{+}.sSE.",
    "decoders.{}.attention.slices.": "Decoder_layer{+}.sSE.",
    "encoders.{}.attention.channels.": "Encoder_layer{+}.cSE.",
    "decoders.{}.attention.channels.": "Decoder_layer{+}.cSE.",
    "encoders.{}.attention.": "Encoder_layer{+}.cSE.",
    "decoders.{}.attention.": "Decoder_layer{+}.cSE.",
    "bottleneck_attention.": "Bottleneck_cSE.",
    "bottleneck.": "Bottleneck_layer.",
    "head.seg_layers.0.": "final_conv.",
}


def from_published(network: str, table: Mapping[str, str], state_dict: StateDict, own: StateDict) -> StateDict:
    """The entries of ``own`` from a published state dict.

    Args:
        network: its name, for messages.
        table: own parts of names -> published ones.
        state_dict: under the published names.
        own: of the network, for names and shapes.

    Raises:
        ValueError: a key is missing or unknown, or tensors of one layer differ in shape.
    """
    names = {key: published_keys(table, key, value) for key, value in own.items()}
    wanted = {name for parts in names.values() for name in parts}
    for what, keys in (("missing", wanted - set(state_dict)), ("unknown", set(state_dict) - wanted)):
        if keys:
            examples = ", ".join(sorted(keys)[:3])
            raise ValueError(f"not the weights of {network}: {len(keys)} keys {what}, such as {examples}")
    return {
        key: _joined(network, parts, [state_dict[name] for name in parts], own[key]) for key, parts in names.items()
    }


def published_depth(state_dict: StateDict) -> int | None:
    """Slices that published weights are for: the length of what slice attention of the first level gives."""
    return next((value.shape[0] for key, value in state_dict.items() if _is_first_depth(key, value)), None)


def _is_first_depth(key: str, value: torch.Tensor) -> bool:
    return value.ndim == 1 and _FIRST_DEPTH.fullmatch(key) is not None


def fit_depth(loaded: StateDict, own: StateDict) -> tuple[dict[str, torch.Tensor], list[str]]:
    """Slice attention of another depth brought to that of ``own``, where both have as many hidden numbers.

    Args:
        loaded: state dict of a network that differs in its depth alone.
        own: of the network.

    Returns:
        Entries that fit ``own``, and what became of the others, in words.
    """
    fitted: dict[str, torch.Tensor] = {}
    random = 0
    depths: tuple[int, int] | None = None
    for key, value in own.items():
        place, _, ending = key.rpartition("mlp.reduce_weight")
        if ending or not place.endswith("slices.") or key not in loaded or loaded[key].shape == value.shape:
            continue
        (_, hidden, depth), (_, own_hidden, own_depth) = loaded[key].shape, value.shape
        depths = depths or (depth, own_depth)
        if hidden != own_hidden:
            random += 1
            continue
        prefix = f"{place}mlp."
        resized = resized_weights({f"mlp.{name}": loaded[prefix + name] for name in MLP}, own_depth)
        fitted |= {prefix + name: resized[f"mlp.{name}"] for name in MLP}
    if depths is None:
        return fitted, []
    notes = [
        f"slice attention for {depths[0]} slices, {depths[1]} here: {len(fitted) // len(MLP)} modules interpolated"
    ]
    if random:
        notes.append(
            f"{random} modules of slice attention start at random, since their hidden widths differ; _depth{depths[0]} "
            "behind the trainer's name keeps them as they are"
        )
    return fitted, notes


def published_keys(table: Mapping[str, str], key: str, value: torch.Tensor) -> list[str]:
    """The published keys behind an own one: one, or one for each channel where weights are stacked."""
    for own, published in table.items():
        numbers = _numbers(own, key)
        if numbers is None:
            continue
        own_prefix = own.replace("{}", "%s") % tuple(numbers)
        prefix = published
        for number in numbers:
            prefix = _PLACEHOLDER.sub(partial(_number, int(number)), prefix, count=1)
        rest = key.removeprefix(own_prefix)
        if own.endswith("project."):
            return [prefix + PROJECT_EXCITE[rest]]
        if not rest.startswith("mlp."):
            return [prefix + rest]
        published_rest = MLP[rest.removeprefix("mlp.")]
        if not own.endswith("slices."):
            return [prefix + published_rest]
        return [f"{prefix}Slice_SE_encoder.{channel}.{published_rest}" for channel in range(value.shape[0])]
    raise KeyError(key)


def _number(number: int, placeholder: re.Match[str]) -> str:
    return str(number + 1 if placeholder[1] else number)


def _numbers(pattern: str, key: str) -> list[str] | None:
    """The numbers in the place of ``{}`` where the key starts as the pattern does, else None."""
    numbers = []
    parts = key.split(".")
    for index, part in enumerate(pattern.split(".")[:-1]):
        if index >= len(parts):
            return None
        if part == "{}" and parts[index].isdigit():
            numbers.append(parts[index])
        elif part != parts[index]:
            return None
    return numbers


def _joined(network: str, names: list[str], tensors: list[torch.Tensor], own: torch.Tensor) -> torch.Tensor:
    """One tensor, stacked as the own one is; a convolution of one voxel becomes a matrix."""
    if any(tensor.shape != tensors[0].shape for tensor in tensors):
        raise ValueError(f"not the weights of {network}: {names[0]} and the others of its layer differ in shape")
    joined = torch.stack(tensors) if own.ndim == tensors[0].ndim + 1 else tensors[0]
    return joined.flatten(1) if own.ndim == 2 and set(joined.shape[2:]) == {1} else joined
