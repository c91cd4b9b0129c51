"""Published weights of encoders brought to the names, channels and strictness of this plugin's networks.

Only mappings from state dict to state dict are here; where the weights come from is the caller's business. Formats:
ResNet of timm and torchvision; Swin V2 of timm, also as written with ``features_only``, of its authors' own code, and
of torchvision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch

StateDict = Mapping[str, torch.Tensor]

# recomputed from sizes; present in the authors' own files
_SWIN_RECOMPUTED = ("relative_coords_table", "relative_position_index", "attn_mask", "k_bias")
_SWIN_UNUSED = ("norm.", "head.")
_RESNET_UNUSED = ("fc.",)
#: first layers, whose input channels are adapted
_FIRST = ("conv1.weight", "patch_embed.proj.weight")


@dataclass
class Report:
    """What became of a file's entries.

    Attributes:
        loaded: keys of the network.
        reshaped: keys of the network whose input channels were adapted, with the shapes of file and network.
        skipped: keys of the file that the network has no use for.
        parameters: numbers loaded, running statistics not counted.
        windows: of a transformer's training, as kept with the network.
    """

    loaded: list[str] = field(default_factory=list)
    reshaped: list[tuple[str, tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    parameters: int = 0
    windows: list[tuple[int, ...]] = field(default_factory=list)

    def as_text(self) -> str:
        lines = [f"{len(self.loaded)} tensors loaded, {self.parameters:,} parameters"]
        lines += [f"  {key}: {before} made {after}" for key, before, after in self.reshaped]
        if self.skipped:
            lines.append(
                f"{len(self.skipped)} tensors of the file have no place in this network: {', '.join(self.skipped)}"
            )
        if self.windows:
            shown = ", ".join("x".join(map(str, window)) for window in self.windows)
            lines.append(f"windows of training, one a stage: {shown}")
        return "\n".join(lines)


def into(own: StateDict, prefix: str, weights: StateDict, what: str, unused: Sequence[str] = ()) -> tuple[dict, Report]:
    """The entries of ``own`` under ``prefix`` from ``weights``, strictly.

    Args:
        own: state dict of the network.
        prefix: of the encoder in it, with its dot.
        weights: under the encoder's own names.
        what: name of the encoder, for messages.
        unused: beginnings of keys of ``weights`` that are left out.

    Returns:
        New entries under the names of ``own``, and the report.

    Raises:
        ValueError: a key is missing or unknown, or a shape differs in more than the channels of the image.
    """
    report = Report(skipped=sorted(key for key in weights if key.startswith(tuple(unused))))
    found = {key: value for key, value in weights.items() if key not in set(report.skipped)}
    wanted = {
        key.removeprefix(prefix): value
        for key, value in own.items()
        if key.startswith(prefix) and not key.endswith("_extra_state")
    }
    # counters of batches, which old files lack
    missing = sorted(key for key in wanted if key not in found and not key.endswith("num_batches_tracked"))
    unknown = sorted(set(found) - set(wanted))
    for kind, keys in (("missing", missing), ("unknown", unknown)):
        if keys:
            raise ValueError(f"not the weights of this {what}: {len(keys)} keys {kind}, such as {', '.join(keys[:3])}")
    entries = {}
    for key in (key for key in wanted if key in found):
        value, target = found[key], wanted[key]
        if key in _FIRST and value.shape != target.shape and value.ndim == target.ndim:
            before = tuple(value.shape)
            value = with_channels(value, target.shape[1])
            report.reshaped.append((prefix + key, before, tuple(value.shape)))
        if value.shape != target.shape:
            raise ValueError(
                f"not the weights of this {what}: {key} has shape {tuple(value.shape)} instead of {tuple(target.shape)}"
            )
        entries[prefix + key] = value.to(target.dtype)
        report.loaded.append(prefix + key)
        if not key.endswith(("running_mean", "running_var", "num_batches_tracked")):
            report.parameters += value.numel()
    return entries, report


def resnet(own: StateDict, prefix: str, weights: StateDict) -> tuple[dict, Report]:
    """timm's or torchvision's ResNet with basic blocks."""
    return into(own, prefix, weights, "ResNet", _RESNET_UNUSED)


def swin_v2(own: StateDict, prefix: str, weights: StateDict) -> tuple[dict, Report]:
    """timm's SwinTransformerV2 in any of its spellings, or torchvision's."""
    stacked = any(key.startswith(prefix) and key.endswith("attn.qkv.bias") for key in own)
    named = stacked_biases(swin_names(weights)) if stacked else split_biases(swin_names(weights))
    recomputed = [key for key in named if key.endswith(_SWIN_RECOMPUTED)]
    return into(own, prefix, named, "Swin V2", (*_SWIN_UNUSED, *recomputed))


def swin_names(weights: StateDict) -> dict[str, torch.Tensor]:
    """timm's names for all spellings: ``layers_0.`` of feature extractors, merging at the end of a stage, where the
    authors' code has it, and torchvision's ``features``. Biases of attention stay as they are."""
    if any(key.startswith("features.") for key in weights):
        return {torchvision_name(key): value for key, value in weights.items()}
    named = {re.sub(r"^layers_(\d+)\.", r"layers.\1.", key): value for key, value in weights.items()}
    if any(key.startswith("layers.0.downsample.") for key in named):
        named = {
            re.sub(r"^layers\.(\d+)\.downsample\.", lambda found: f"layers.{int(found[1]) + 1}.downsample.", key): value
            for key, value in named.items()
        }
    return named


def torchvision_name(key: str) -> str:
    """timm's name for a key of torchvision's ``SwinTransformer`` (V2): its ``features`` are the patch embedding, then
    stages and mergings in turn."""
    found = re.match(r"features\.(\d+)\.(.*)", key)
    if not found:
        return key
    position, rest = int(found[1]), found[2]
    if position == 0:
        return "patch_embed." + re.sub(r"^2\.", "norm.", re.sub(r"^0\.", "proj.", rest))
    if position % 2 == 0:
        return f"layers.{position // 2}.downsample.{rest}"
    rest = re.sub(r"^(\d+\.mlp)\.0\.", r"\1.fc1.", rest)
    return f"layers.{position // 2}.blocks." + re.sub(r"^(\d+\.mlp)\.3\.", r"\1.fc2.", rest)


def split_biases(weights: StateDict) -> dict[str, torch.Tensor]:
    """Biases of query and value as two tensors, as timm has them; that of the key, which is never used, is left out."""
    split = {}
    for key, value in weights.items():
        if key.endswith("attn.qkv.bias"):
            attn = key.removesuffix("qkv.bias")
            split[f"{attn}q_bias"], _, split[f"{attn}v_bias"] = value.chunk(3)
        else:
            split[key] = value
    return split


def stacked_biases(weights: StateDict) -> dict[str, torch.Tensor]:
    """Biases of query, key and value as one tensor, as torchvision has them; that of the key, where there is none, is
    zero."""
    stacked = {key: value for key, value in weights.items() if not key.endswith(("attn.q_bias", "attn.v_bias"))}
    for key, query in weights.items():
        value_key = key.removesuffix("q_bias") + "v_bias"
        if key.endswith("attn.q_bias") and value_key in weights:
            stacked[key.removesuffix("q_bias") + "qkv.bias"] = torch.cat(
                (query, torch.zeros_like(query), weights[value_key])
            )
    return stacked


def swin_windows(weights: StateDict) -> list[tuple[int, ...]] | None:
    """The window of each stage, from the tables in torchvision's files and in those of Swin V2's authors; None where
    there are none."""
    windows: dict[int, tuple[int, ...]] = {}
    for key, value in swin_names(weights).items():
        found = re.match(r"layers\.(\d+)\.blocks\.0\.attn\.relative_coords_table$", key)
        if found:
            # Not the size of the table, which is that of the last window: its scale is that of the first training. Its
            # largest value is log2(1 + 8 (w - 1) / (trained - 1)) / 3.
            axes = range(value.shape[-1])
            largest = [float(value[..., axis].max()) for axis in axes]
            edges = [(edge - 1) // 2 for edge in value.shape[1:-1]]
            windows[int(found[1])] = tuple(
                round(1 + 8 * edge / (2 ** (3 * most) - 1)) for edge, most in zip(edges, largest, strict=True)
            )
    return [windows[stage] for stage in sorted(windows)] or None


class UnknownWindowsError(ValueError):
    """Weights that do not tell the windows that they were trained with, and nobody named them."""

    def __init__(self) -> None:
        super().__init__(
            "the weights do not tell the windows that they were trained with; give load_pretrained 'windows': 8 for "
            "swinv2_tiny_window8_256, or a window for each stage"
        )


def windows_of_training(
    weights: StateDict, windows: int | Sequence[Sequence[int]] | None
) -> int | Sequence[Sequence[int]]:
    """``windows`` where they are named, else those that the weights tell.

    Raises:
        UnknownWindowsError: neither.
    """
    found = swin_windows(weights) if windows is None else windows
    if found is None:
        raise UnknownWindowsError
    return found


def with_channels(weight: torch.Tensor, channels: int) -> torch.Tensor:
    """The first convolution's weight (out, in, *kernel) for another number of image channels, as timm does it: one
    channel gets the sum; more get copies in turn, scaled by the number before over the number now."""
    before = weight.shape[1]
    if channels == 1:
        return weight.sum(1, keepdim=True)
    copies = -(-channels // before)
    return weight.repeat(1, copies, *[1] * (weight.ndim - 2))[:, :channels] * (before / channels)
