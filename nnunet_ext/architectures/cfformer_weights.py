"""Weights of the published CFFormer under the names of ``cfformer_reference.CFFormerReference``.

The authors' module registers the layers of its encoders twice, so that most tensors of their checkpoints have two
names. Only mappings from state dict to state dict are here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import torch

from nnunet_ext.architectures.pretrained import swin_names

StateDict = Mapping[str, torch.Tensor]

ENCODERS = {"cnn": "encoder.cnn.", "transformer": "encoder.transformer."}
#: second name of a layer -> its first
ALIASES = {
    "encoder.cnn_layer0.0.": "encoder.cnn.conv1.",
    "encoder.cnn_layer0.1.": "encoder.cnn.bn1.",
    "encoder.cnn_layer1.1.": "encoder.cnn.layer1.",
    **{f"encoder.cnn_layer{i}.": f"encoder.cnn.layer{i}." for i in (2, 3, 4)},
    **{
        f"encoder.transformer_layer{i}.{part}.": f"encoder.transformer.features.{2 * (i - 1) + part}."
        for i in (1, 2, 3, 4)
        for part in (0, 1)
    },
}
# Built and never reached by the forward pass, or recomputed from sizes here.
_DEAD = ("encoder.cnn.fc.", "encoder.transformer.norm.", "encoder.transformer.head.")
_RECOMPUTED = ("relative_coords_table", "relative_position_index")
_EXCHANGE = {
    "channel_self_attn1.linear1": "v_compress",
    "channel_self_attn1.linear2": "v_expand",
    "channel_self_attn2.linear1": "u_expand",
    "channel_self_attn2.linear2": "u_compress",
}
_FUSION = {"cnn_conv": "u_to_v", "trans_conv": "v_to_u", "out": "out"}
# position in a step of the decoder -> names here; nnU-Net's blocks register each layer twice as well
_STEP = {
    0: ("convs.0.conv", "convs.0.all_modules.0"),
    1: ("convs.0.norm", "convs.0.all_modules.1"),
    3: ("convs.1.conv", "convs.1.all_modules.0"),
    4: ("convs.1.norm", "convs.1.all_modules.1"),
}

EARLIER_COMPOSITION = (
    "these are weights of the network that nnUNetTrainerCFFormer_paper of nnunet_ext 0.1.0 trained: a composition of "
    "ours from a description, not the authors' network, which it trains now"
)
EARLIER_REMEDY = "predict with nnunet_ext 0.1.0, or train anew"


def encoder_of(state_dict: Iterable[str]) -> str | None:
    """``"cnn"`` or ``"transformer"`` for the keys of a ResNet or a Swin V2 alone, else None."""
    keys = set(state_dict)
    if "layer1.0.conv1.weight" in keys:
        return "cnn"
    first = ("patch_embed.proj.weight", "features.0.0.weight")
    return "transformer" if keys & set(first) else None


def is_earlier_composition(state_dict: Iterable[str]) -> bool:
    """Whether the keys are those of the network that version 0.1.0 called the published one."""
    return "decoder.stages.0.up.weight" in set(state_dict)


def from_published(state_dict: StateDict) -> dict[str, torch.Tensor]:
    """The weights of an official checkpoint under our names; those that nothing here uses are left out.

    Raises:
        ValueError: two names of one tensor hold different tensors.
    """
    first_names: dict[str, torch.Tensor] = {}
    for key, value in state_dict.items():
        name = first_name(key)
        if name in first_names and not torch.equal(first_names[name], value):
            raise ValueError(f"not the weights of the published CFFormer: {key} and {name} are one tensor there")
        first_names[name] = value
    transformer, named = {}, {}
    for key, value in first_names.items():
        if key.startswith(_DEAD) or key.endswith(_RECOMPUTED):
            continue
        if key.startswith(ENCODERS["transformer"]):
            transformer[key.removeprefix(ENCODERS["transformer"])] = value
            continue
        for own in own_names(key):
            named[own] = v_first(value) if own.endswith("xff.out.weight") else value
    return {**named, **{f"transformer.{key}": value for key, value in swin_names(transformer).items()}}


def first_name(key: str) -> str:
    """The name that comes first of the two that a layer of an encoder has."""
    for alias, name in ALIASES.items():
        if key.startswith(alias):
            return name + key.removeprefix(alias)
    return key


def own_names(key: str) -> list[str]:
    """Names here of an official key outside the transformer; an unknown one stays as it is."""
    if key.startswith(ENCODERS["cnn"]):
        return [key.removeprefix("encoder.")]
    if found := re.fullmatch(r"encoder\.cdca(\d)\.(channel_self_attn\d\.linear\d)\.(\w+)", key):
        return [f"fusion.{int(found[1]) - 1}.cfca.{_EXCHANGE.get(found[2], found[2])}.{found[3]}"]
    if found := re.fullmatch(r"encoder\.X_spatial_(\d)\.(\w+)\.(\w+)", key):
        return [f"fusion.{int(found[1]) - 1}.xff.{_FUSION.get(found[2], found[2])}.{found[3]}"]
    if found := re.fullmatch(r"decoder\.(?:upconv(\d)|out)\.(\d)\.(\w+)", key):
        step, position, tail = 5 - int(found[1] or 0), int(found[2]), found[3]
        if position in _STEP:
            return [f"decoder.stages.{step}.{name}.{tail}" for name in _STEP[position]]
        if position == 6:
            return [f"decoder.transpconvs.{step}.{tail}" if found[1] else f"decoder.seg_layers.0.{tail}"]
    return [key]


def v_first(weight: torch.Tensor) -> torch.Tensor:
    """The last convolution of the spatial fusion, (Ct, Cc + Ct, 3, 3): its columns for the transformer's map, of Ct
    channels, before those for the CNN's."""
    cnn = weight.shape[1] - weight.shape[0]
    return torch.cat((weight[:, cnn:], weight[:, :cnn]), dim=1)
