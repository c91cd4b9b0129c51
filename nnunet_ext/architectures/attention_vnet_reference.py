"""The V-Nets of the Progressive Attention Module as published: 3D, four levels and a bottleneck, residual blocks.

Medical Physics, doi 10.1002/mp.15369. Reference implementation: Puzzled-Hui/AttentionBased-MIS on GitHub, which names
no licence; written anew here, none of its code is used. The paper's full text was not at hand: this file follows what
the implementation does. What differs from it, and what is kept, is told in ``attention_unet_reference.py``; besides, an
input of neither one channel nor half the width is refused when the network is built.

Kept here: one convolution at the bottleneck, whatever number it is built with; the input of the first level, one
channel of it added to all; biases of convolutions in front of a norm.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from nnunet_ext.architectures.attention_unet_reference import published_attention
from nnunet_ext.architectures.attention_weights import VNET, fit_depth, from_published
from nnunet_ext.architectures.blocks.attention.descriptors import Pooling
from nnunet_ext.architectures.blocks.attention.squeeze_excite import SqueezeExcite
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layer_order import activation_of, check_order, ordered_layers

REPETITIONS = (1, 2, 3, 3)
DIVISORS = (16, 16, 16)
NORM_GROUPS = 8
KERNEL = 5
#: class of the reference -> attention, and its channel reduction unless given
VNETS = {
    "VNet": ("none", 8),
    "cSEVNet": ("se", 8),
    "csSEVNet": ("csa", 4),
    "scSEVNet": ("sca", 4),
    "agscSEVNet": ("pam", 4),
}


class AttentionVNetReference(nn.Module):
    """Input: (B, in_channels, D, H, W), sizes multiples of 16. Output: logits (B, num_classes, D, H, W).

    Args:
        network: class of the reference, a key of ``VNETS``.
        in_channels: 1 or half the width.
        num_classes: channels out.
        width: twice the channels of the first level; each further level has twice as many.
        depth: D that slice attention is made for; other depths are interpolated.
        order: layers of a unit (``blocks/layer_order.py``).
        channel_reduction, slice_reduction: channels, slices over the hidden widths; the reference's unless given.
        channel_pooling, slice_pooling: what the channel and the slice weights read.

    Raises:
        ValueError: no such network or order, or another number of channels; in ``forward``, any other input.
    """

    def __init__(
        self,
        network: str = "agscSEVNet",
        in_channels: int = 1,
        num_classes: int = 11,
        width: int = 16,
        depth: int = 144,
        order: str = "cpi",
        channel_reduction: int | None = None,
        slice_reduction: int = 8,
        channel_pooling: Pooling = "avg",
        slice_pooling: Pooling = "avg",
    ) -> None:
        super().__init__()
        if network not in VNETS:
            raise ValueError(f"there is no published V-Net {network!r}; choose one of {', '.join(VNETS)}")
        if in_channels not in (1, width // 2):
            raise ValueError(
                f"the published V-Net adds its input to its first level: it takes 1 channel, or half the width, which "
                f"is {width // 2}; got {in_channels}"
            )
        check_order(order)
        self.network = network
        self.in_channels = in_channels
        name, reduction = VNETS[network]
        reduction = channel_reduction or reduction
        widths = [width // 2 * 2**level for level in range(len(REPETITIONS) + 1)]

        def attention(level: int) -> nn.Module:
            if name == "none":
                return nn.Identity()
            return published_attention(
                name, widths[level], depth // 2**level, reduction, slice_reduction, channel_pooling, slice_pooling
            )

        self.encoders = nn.ModuleList()
        for level, repetitions in enumerate(REPETITIONS):
            here, below = widths[level], widths[level + 1]
            block = ResidualBlock(here if level else in_channels, here, repetitions, order)
            self.encoders.append(EncoderLevel(block, attention(level), _down(here, below, order)))
        self.bottleneck = nn.Sequential(
            ordered_layers(order, lambda bias: _same(widths[-1], widths[-1], bias), widths[-1], NORM_GROUPS)
        )
        self.bottleneck_attention = (
            nn.Identity()
            if name == "none"
            else SqueezeExcite(widths[-1], reduction, channel_pooling, uniform_bias=True)
        )
        self.decoders = nn.ModuleList()
        for level in reversed(range(len(REPETITIONS))):
            here, below = widths[level], widths[level + 1]
            block = ResidualBlock(below, here, REPETITIONS[level], order)
            self.decoders.append(DecoderLevel(_up(below, here, order), block, attention(level)))
        self.head = nn.Sequential()
        # nnU-Net's -pretrained_weights passes over this name, so that another number of classes can start from it
        self.head.add_module("seg_layers", nn.Sequential(nn.Conv3d(widths[0], num_classes, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        check_input(x, self.in_channels, DIVISORS)
        skips = []
        for encode in self.encoders:
            x, skip = encode(x)
            skips.append(skip)
        x = self.bottleneck_attention(self.bottleneck(x))
        for decode, skip in zip(self.decoders, reversed(skips), strict=True):
            x = decode(x, skip)
        logits: torch.Tensor = self.head(x)
        return logits

    def fit_depth(self, loaded: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], list[str]]:
        """``attention_weights.fit_depth`` for this network."""
        return fit_depth(loaded, self.state_dict())

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads weights under the published key names.

        Raises:
            ValueError: a key is missing or unknown.
            RuntimeError: a tensor has another shape, for instance another number of classes.
        """
        self.load_state_dict(from_published(self.network, VNET, state_dict, self.state_dict()))


class ResidualBlock(nn.Module):
    """Units of an order, the last without its nonlinearity, which follows when the identity has been added."""

    def __init__(self, channels: int, out_channels: int, repetitions: int, order: str) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for repetition in range(repetitions):
            entering = out_channels if repetition else channels
            layers += ordered_layers(
                order,
                lambda bias, entering=entering: _same(entering, out_channels, bias),  # type: ignore[misc]
                out_channels,
                NORM_GROUPS,
                with_activation=repetition < repetitions - 1,
            ).values()
        self.layers = nn.Sequential(*layers)
        self.activation = activation_of(order, out_channels)

    def forward(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.activation(self.layers(x) + identity)
        return y


class EncoderLevel(nn.Module):
    """The map of the next level, and the skip."""

    def __init__(self, block: ResidualBlock, attention: nn.Module, down: nn.Sequential) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.down = down

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.attention(self.block(x, x))
        return self.down(x), x


class DecoderLevel(nn.Module):
    """The coarser map up-sampled, beside the skip."""

    def __init__(self, up: nn.Sequential, block: ResidualBlock, attention: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.block = block
        self.attention = attention

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        up = self.up(x)
        y: torch.Tensor = self.attention(self.block(torch.cat((skip, up), dim=1), up))
        return y


def _same(channels: int, out_channels: int, bias: bool) -> nn.Module:
    return nn.Conv3d(channels, out_channels, KERNEL, padding=KERNEL // 2, bias=bias)


def _down(channels: int, out_channels: int, order: str) -> nn.Sequential:
    return nn.Sequential(
        ordered_layers(
            order, lambda bias: nn.Conv3d(channels, out_channels, 2, stride=2, bias=bias), out_channels, NORM_GROUPS
        )
    )


def _up(channels: int, out_channels: int, order: str) -> nn.Sequential:
    return nn.Sequential(
        ordered_layers(
            order,
            lambda bias: nn.ConvTranspose3d(channels, out_channels, 2, stride=2, bias=bias),
            out_channels,
            NORM_GROUPS,
            convolution_name="convtranspose3d",
        )
    )
