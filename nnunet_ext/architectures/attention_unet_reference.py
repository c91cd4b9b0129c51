"""The U-Nets of the Progressive Attention Module as published: 3D, four levels, attention behind every level.

Medical Physics, doi 10.1002/mp.15369. Reference implementation: Puzzled-Hui/AttentionBased-MIS on GitHub, which names
no licence; written anew here, none of its code is used. The paper's full text was not at hand: this file follows what
the implementation does.

Differences from the reference:
    - any number of samples a batch; slice attention and the progressive module take one there;
    - the output is logits in evaluation too, without softmax or sigmoid;
    - layer orders that end in a nonlinearity can be trained with slice attention; the input of a slice module is not
      overwritten;
    - nothing is written to files or kept between calls; key slices are not cast to float32.

Kept, since they are the architecture: attention behind a norm in the usual order, where the mean that channel attention
reads is a constant; what ``max`` pools; a descriptor of key slices without gradient; a hidden width of slice attention
that may be 0; a convolution of the gate whose bias the norm takes away.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.attention_weights import DEEP_UNET, UNET, fit_depth, from_published
from nnunet_ext.architectures.blocks.attention import attention_block
from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.descriptors import Pooling
from nnunet_ext.architectures.blocks.layer_order import check_order, ordered_layers
from nnunet_ext.architectures.blocks.layers import LayerPlan, resize_to

LEVELS = 4
GATE_LAYERS = LayerPlan(nn.Conv3d, conv_bias=True, norm_op=nn.InstanceNorm3d, norm_op_kwargs={"affine": True})


class Published(NamedTuple):
    """What tells a class of the reference from the others."""

    attention: str
    linear: bool  # interpolation of the decoder: linear, or the nearest voxel
    channel_reduction: int = 8


#: class of the reference -> what it is here
UNETS = {
    "UNet3D": Published("none", linear=False),
    "cSEUNet3D": Published("se", linear=False),
    "csSEUNet3D": Published("csa", linear=False),
    "scSEUNet3D": Published("sca", linear=False),
    "agscSEUNet3D": Published("pam", linear=True),
    "PEUNet3d": Published("pe", linear=True, channel_reduction=2),
    "DSN_UNet3D": Published("none", linear=True),
}
GATED = "agscSEUNet3D"
DEEP = "DSN_UNet3D"


class AttentionUNetReference(nn.Module):
    """Input: (B, in_channels, D, H, W), sizes of 8 or more. Output: logits (B, num_classes, D, H, W), or three of them
    from the deeply supervised network, the finest level's first.

    Args:
        network: class of the reference, a key of ``UNETS``.
        in_channels, num_classes: channels in and out.
        width: channels of the first level; each further level has twice as many.
        depth: D that slice attention is made for; other depths are interpolated.
        order: layers of a unit (``blocks/layer_order.py``).
        groups: of group norms.
        channel_reduction, slice_reduction: channels, slices over the hidden widths; the reference's unless given.
        channel_pooling, slice_pooling: what the channel and the slice weights read.
        attention_gate: an attention gate on every skip, which one class of the reference offers.

    Raises:
        ValueError: no such network or order, or a gate for a network without.
    """

    def __init__(
        self,
        network: str = GATED,
        in_channels: int = 1,
        num_classes: int = 11,
        width: int = 16,
        depth: int = 144,
        order: str = "cpi",
        groups: int = 2,
        channel_reduction: int | None = None,
        slice_reduction: int = 16,
        channel_pooling: Pooling = "avg",
        slice_pooling: Pooling = "avg",
        attention_gate: bool = False,
    ) -> None:
        super().__init__()
        if network not in UNETS:
            raise ValueError(f"there is no published U-Net {network!r}; choose one of {', '.join(UNETS)}")
        if attention_gate and network != GATED:
            raise ValueError(f"the published {network} has no attention gate; {GATED} has")
        check_order(order)
        self.network = network
        name, self.linear, reduction = UNETS[network]
        widths = [width * 2**level for level in range(LEVELS)]

        def attention(level: int) -> nn.Module | None:
            if name in ("none", "pe"):
                return None
            return published_attention(
                name,
                widths[level],
                depth // 2**level,
                channel_reduction or reduction,
                slice_reduction,
                channel_pooling,
                slice_pooling,
            )

        self.encoders = nn.ModuleList()
        for level, out_channels in enumerate(widths):
            channels = in_channels if level == 0 else widths[level - 1]
            middle = max(out_channels // 2, channels)
            project = None
            if name == "pe":
                options = {"average_profiles": True, "prelu": True, "clamp_hidden": False, "uniform_bias": True}
                project = attention_block(
                    name, {"channels": out_channels}, reduction=channel_reduction or reduction, **options
                )
            convs = _double_conv(channels, middle, out_channels, order, groups)
            self.encoders.append(Level(convs, attention(level), project=project))
        self.decoders = nn.ModuleList()
        for level in reversed(range(LEVELS - 1)):
            skip, deep = widths[level], widths[level + 1]
            gate = AttentionGate(GATE_LAYERS, skip, deep, (2, 2, 2), out_bias=True) if attention_gate else None
            convs = _double_conv(skip + deep, skip, skip, order, groups)
            self.decoders.append(Level(convs, attention(level), gate=gate))
        self.head = _segmentation_layers(nn.Conv3d(width, num_classes, 1))
        if network == DEEP:
            self.coarse_heads = _segmentation_layers(
                *(
                    nn.ConvTranspose3d(channels, num_classes, 3, stride, 1, output_padding=1, dilation=stride // 2)
                    for channels, stride in ((widths[2], 4), (widths[1], 2))
                )
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        maps: list[torch.Tensor] = []
        for encode in self.encoders:
            x = encode(functional.max_pool3d(x, 2) if maps else x)
            maps.append(x)
        decoded = []
        for decode, skip in zip(self.decoders, maps[-2::-1], strict=True):
            size = skip.shape[2:]
            up = resize_to(x, size) if self.linear else functional.interpolate(x, size=size, mode="nearest")
            assert isinstance(decode, Level)
            if decode.gate is not None:
                skip = decode.gate(skip, x)
            x = decode(torch.cat((skip, up), dim=1))
            decoded.append(x)
        logits: torch.Tensor = self.head(x)
        if self.network != DEEP:
            return logits
        heads = self.coarse_heads.get_submodule("seg_layers").children()
        return [logits, *[head(level) for head, level in zip(heads, decoded[:-1], strict=True)][::-1]]

    def fit_depth(self, loaded: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
        """``attention_weights.fit_depth`` for this network."""
        return fit_depth(loaded, self.state_dict())

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads weights under the published key names.

        Raises:
            ValueError: a key is missing or unknown.
            RuntimeError: a tensor has another shape, for instance another number of classes.
        """
        table = DEEP_UNET if self.network == DEEP else UNET
        self.load_state_dict(from_published(self.network, table, state_dict, self.state_dict()))


class Level(nn.Module):
    """Two convolutions and what stands behind them; a decoder level holds the gate of its skip, too."""

    def __init__(
        self,
        convs: nn.Sequential,
        attention: nn.Module | None,
        project: nn.Module | None = None,
        gate: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.convs = convs
        self.attention = attention
        self.project = project
        self.gate = gate

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convs(x)
        for block in (self.attention, self.project):
            if block is not None:
                x = block(x)
        return x


def published_attention(
    name: str,
    channels: int,
    depth: int,
    channel_reduction: int,
    slice_reduction: int,
    channel_pooling: Pooling,
    slice_pooling: Pooling,
) -> nn.Module:
    """``se``, ``csa``, ``sca`` or ``pam`` with all that the published networks do otherwise."""
    place = {"channels": channels, "depth": depth}
    if name == "se":
        return attention_block(name, place, reduction=channel_reduction, pooling=channel_pooling, uniform_bias=True)
    options: dict[str, Any] = {"detach_descriptor": True, "clamp_hidden": False} if name == "pam" else {}
    return attention_block(
        name,
        place,
        channel_reduction=channel_reduction,
        slice_reduction=slice_reduction,
        channel_pooling=channel_pooling,
        slice_pooling=slice_pooling,
        pooling_reference_quirks=True,
        uniform_bias=True,
        **options,
    )


def _double_conv(channels: int, middle: int, out_channels: int, order: str, groups: int) -> nn.Sequential:
    def unit(channels: int, out_channels: int) -> nn.Sequential:
        return nn.Sequential(
            ordered_layers(
                order,
                lambda bias: nn.Conv3d(channels, out_channels, 3, padding=1, bias=bias),
                out_channels,
                groups,
            )
        )

    return nn.Sequential(unit(channels, middle), unit(middle, out_channels))


def _segmentation_layers(*heads: nn.Module) -> nn.Sequential:
    """Heads under the name that nnU-Net's ``-pretrained_weights`` passes over, for another number of classes."""
    layers = nn.Sequential()
    layers.add_module("seg_layers", nn.Sequential(*heads))
    return layers
