"""Published weights of CFNet and ResNet-50 under the names of ``cfnet_reference.CFNetReference``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

StateDict = Mapping[str, torch.Tensor]

# Built by the reference implementation and never used by its forward pass.
DEAD_PREFIXES: tuple[str, ...] = (
    "encoder_two_conv1.",
    "encoder_two_bn1.",
    "encoder_one_layer4.",
    "encoder_two_layer4.",
    *(f"conv{i}." for i in range(5)),
    *(f"encoder_downsampling{i}." for i in range(1, 5)),
    *(f"{where}_att{i}." for where in ("local", "global") for i in range(5)),
    "aspp2.",
    "aspp3.ln.",
    *(f"fusion_layer{i}." for i in range(4)),
    *(f"multi_modal_process{i}.final_conv_bn." for i in (1, 2, 3)),
)
RESNET_UNUSED = ("layer4.", "fc.")


def published_prefixes() -> dict[str, str]:
    """Own key prefix -> published prefix; what follows it is the same in both."""
    prefixes = {
        "project.": "conv_2_3.",
        "stem_conv.": "encoder_one_conv1.",
        "stem_norm.": "encoder_one_bn1.",
        "context.reduce.": "aspp3.conv1.",
        "context.expand.": "aspp3.conv2.",
        "head.0.": "finaldeconv1.",
        "head.2.": "finalconv2.",
        "head.seg_layers.0.": "finalconv3.",
    }
    for stream in ("one", "two"):
        prefixes |= {f"stages_{stream}.{s}.": f"encoder_{stream}_layer{s + 1}." for s in range(3)}
    for i in range(4):
        fusion, published = f"fusions.{i}", f"modules.{i}"
        for s in range(2):
            prefixes[f"{fusion}.queries.{s}."] = f"{published}.cross.channel_proj{s + 1}."
            prefixes[f"{fusion}.keys_values.{s}."] = f"{published}.cross.cross_attn.kv{s + 1}."
        prefixes[f"{fusion}.project."] = f"{published}.cross.end_proj."
        prefixes[f"{fusion}.norm."] = f"{published}.cross.norm."
        prefixes[f"{fusion}.residual."] = f"{published}.channel_emb.residual."
        prefixes[f"{fusion}.embed."] = f"{published}.channel_emb.channel_embed.0."
        prefixes[f"{fusion}.embed_norm."] = f"{published}.channel_emb.channel_embed.2."
        prefixes[f"{fusion}.out_norm."] = f"{published}.channel_emb.norm."
        prefixes[f"context.branches.{i}."] = f"aspp3.context{i + 1}."
        prefixes[f"context.weights.maps.{i}."] = f"aspp3.fc{i + 1}."
    for i in range(3):
        communication, published = f"communications.{i}", f"multi_modal_process{i + 1}"
        prefixes[f"{communication}.skip."] = f"{published}.shallow_fusion_conv."
        prefixes[f"{communication}.deep."] = f"{published}.deep_fusion_conv."
        prefixes[f"{communication}.gate."] = f"{published}.attention_conv_bn_relu."
        prefixes[f"{communication}.output."] = f"{published}.fusion_conv."
        parts = {0: "conv1", 1: "norm1", 3: "deconv2", 4: "norm2", 6: "conv3", 7: "norm3"}
        prefixes |= {f"ups.{i}.{part}.": f"decoder{3 - i}.{name}." for part, name in parts.items()}
    return prefixes


def published_names(own_keys: Iterable[str]) -> dict[str, str]:
    """Own key -> published key."""
    prefixes = published_prefixes()
    names = {}
    for key in own_keys:
        prefix = next(prefix for prefix in prefixes if key.startswith(prefix))
        names[key] = prefixes[prefix] + key.removeprefix(prefix)
    return names


def from_published(state_dict: StateDict, own: StateDict) -> dict[str, torch.Tensor]:
    """The entries of ``own`` from a published state dict, which may hold the dead parts too.

    Raises:
        ValueError: a key is missing or unknown.
    """
    names = published_names(own)
    live = {key for key in state_dict if not key.startswith(DEAD_PREFIXES)}
    _refuse_difference("CFNet", missing=set(names.values()) - live, unknown=live - set(names.values()))
    return {key: state_dict[name] for key, name in names.items()}


def from_resnet50(state_dict: StateDict, own: StateDict) -> dict[str, torch.Tensor]:
    """The entries of ``own`` that a ResNet-50 has: the stem and stages 1-3, these for each stream.

    Raises:
        ValueError: a key is missing or unknown; counters of batches may be missing, as in old files.
    """
    names = {}
    for key in own:
        part, _, rest = key.partition(".")
        if part in ("stages_one", "stages_two"):
            stage, _, rest = rest.partition(".")
            names[key] = f"layer{int(stage) + 1}.{rest}"
        elif part in ("stem_conv", "stem_norm"):
            names[key] = {"stem_conv": "conv1.", "stem_norm": "bn1."}[part] + rest
    wanted = set(names.values())
    found = {key for key in state_dict if not key.startswith(RESNET_UNUSED)}
    missing = {key for key in wanted - found if not key.endswith("num_batches_tracked")}
    _refuse_difference("ResNet-50", missing=missing, unknown=found - wanted)
    return {key: state_dict[name] for key, name in names.items() if name in found}


def _refuse_difference(network: str, missing: set[str], unknown: set[str]) -> None:
    for what, keys in (("missing", missing), ("unknown", unknown)):
        if keys:
            examples = ", ".join(sorted(keys)[:3])
            raise ValueError(f"not the weights of {network}: {len(keys)} keys {what}, such as {examples}")
