"""AnatomyNet as published: 3D, one downsampling, residual blocks with squeeze-and-excitation at half the resolution.

W. Zhu et al., "AnatomyNet: Deep learning for fast and fully automated whole-volume segmentation of head and neck
anatomy", Medical Physics 2019, doi 10.1002/mp.13300, arXiv 1808.05238. Reference implementation:
wentaozhu/AnatomyNet-for-anatomical-segmentation on GitHub (Apache-2.0); written anew here, none of its code is used.

Differences from the reference:
    - the output is logits; there a softmax over the classes ends the network. Apply ``softmax(1)`` to compare;
    - the image that joins the last level may have any number of channels instead of one;
    - odd sizes are refused in words; there the last concatenation fails.

Kept, since they are the architecture: channel weights that read the map directly behind its norm; a reduction of 16 in
the block that takes the skip and of 15 in all others; no squeeze-and-excitation at full resolution, where the identity
passes a 3x3x3 convolution; a head of 3x3x3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import nn

from nnunet_ext.architectures.attention_weights import from_published
from nnunet_ext.architectures.blocks.attended_stage import RecomputedResidualSqueezeExcite
from nnunet_ext.architectures.blocks.attention.residual_squeeze_excite import ResidualSqueezeExcite
from nnunet_ext.architectures.blocks.initialization import CONVOLUTIONS
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.layers import LayerPlan

#: channels of the stem and of the encoder's levels, all at half the resolution; the decoder goes back through them
WIDTHS = (28, 30, 32, 34)
#: channels at full resolution
FULL_WIDTH = 14
#: channels over the hidden width of squeeze-and-excitation, in the blocks that take a skip and in all others
JOINING_REDUCTION, REDUCTION = 16, 15
DIVISORS = (2, 2, 2)
LAYERS = LayerPlan(
    conv_op=nn.Conv3d,
    conv_bias=False,
    norm_op=nn.BatchNorm3d,
    nonlin=nn.LeakyReLU,
    nonlin_kwargs={"negative_slope": 0.01, "inplace": True},
)
#: own part of the name of a block's layer -> published one
_LAYERS_OF_BLOCK = {"norm1.": "bn1.", "norm2.": "bn2.", "attention.": "se.", "skip.": "downsample.", "": ""}
_BLOCKS = {
    "encoders.{}.{}.": "layer{+}.{}.",
    **{f"decoders.{level}.0.": f"layer{4 + 2 * level}." for level in range(3)},
    **{f"decoders.{level}.1.": f"layer{5 + 2 * level}.0." for level in range(3)},
    "last.": "layer10.",
}
#: own part of the state dict -> published one (``attention_weights.py``)
PUBLISHED_KEYS = {
    "stem.0.": "conv1.",
    "stem.1.": "bn1.",
    **{own + a: published + b for own, published in _BLOCKS.items() for a, b in _LAYERS_OF_BLOCK.items()},
    "up.": "layer10.deconv1.",
    "head.seg_layers.0.": "layer11.0.",
}


class AnatomyNetReference(nn.Module):
    """Input: (B, in_channels, D, H, W), even sizes. Output: logits (B, num_classes, D, H, W), without softmax.

    Args:
        num_classes: channels out; the published network has 10, of nine organs and the background.
        in_channels: channels of the image.

    Raises:
        ValueError: in ``forward``, an image of other channels or of odd sizes.
    """

    def __init__(self, num_classes: int = 10, in_channels: int = 1) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.stem = nn.Sequential(
            nn.Conv3d(in_channels, WIDTHS[0], 3, stride=2, padding=1, bias=False),
            LAYERS.norm(WIDTHS[0]),
            LAYERS.activation(),
        )
        self.encoders, self.decoders = levels(
            lambda channels, out_channels, reduction: ResidualSqueezeExcite(
                LAYERS, channels, out_channels, reduction=reduction, uniform_bias=True
            )
        )
        self.up = nn.ConvTranspose3d(WIDTHS[0], FULL_WIDTH, 2, stride=2)
        self.last = ProjectedResidual(LAYERS, FULL_WIDTH + in_channels, FULL_WIDTH, (3, 3, 3))
        self.head = nn.Sequential()
        # nnU-Net's -pretrained_weights passes over this name, so that another number of classes can start from it
        self.head.add_module("seg_layers", nn.Sequential(nn.Conv3d(FULL_WIDTH, num_classes, 3, padding=1)))
        for module in self.modules():
            if isinstance(module, CONVOLUTIONS):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        check_input(image, self.in_channels, DIVISORS)
        x = decode(self.decoders, encode(self.encoders, self.stem(image)))
        x = self.last(torch.cat((self.up(x), image), dim=1))
        logits: torch.Tensor = self.head(x)
        return logits

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads weights under the published key names.

        Raises:
            ValueError: a key is missing or unknown.
            RuntimeError: a tensor has another shape, for instance another number of classes.
        """
        self.load_state_dict(from_published("AnatomyNet", PUBLISHED_KEYS, state_dict, self.state_dict()))


class ProjectedResidual(RecomputedResidualSqueezeExcite):
    """The residual block at full resolution: no squeeze-and-excitation, and an identity that passes a convolution with
    the kernel of the others: out = act(norm(conv(act(norm(conv(x))))) + norm(conv(x))).

    (B, channels, *spatial) -> (B, out_channels, *spatial).

    Args:
        layers: convolution, bias, norm and nonlinearity.
        channels, out_channels: in and out.
        kernel_size: of all three convolutions.
        recompute: keep what the convolutions give in training, and repeat the rest in the backward pass.
    """

    def __init__(
        self, layers: LayerPlan, channels: int, out_channels: int, kernel_size: Sequence[int], recompute: bool = False
    ) -> None:
        super().__init__(layers, channels, out_channels, kernel_size, (1,) * layers.dimension, recompute)
        self.attention = self.read_activation = nn.Identity()  # type: ignore[assignment]
        self.skip = nn.Sequential(
            layers.conv(channels, out_channels, kernel_size, bias=False), layers.norm(out_channels)
        )

    def _attended(self, h: torch.Tensor) -> torch.Tensor:
        return h


def levels(block: Callable[[int, int, int], nn.Module]) -> tuple[nn.ModuleList, nn.ModuleList]:
    """Levels of the encoder, and of the decoder in the order of its way; two blocks each.

    Args:
        block: makes one from its channels in and out and the reduction of its squeeze-and-excitation.
    """
    encoders = nn.ModuleList(
        nn.Sequential(block(above, here, REDUCTION), block(here, here, REDUCTION)) for above, here in pairwise(WIDTHS)
    )
    decoders = nn.ModuleList(
        nn.Sequential(block(below + skip, skip, JOINING_REDUCTION), block(skip, skip, REDUCTION))
        for below, skip in pairwise(reversed(WIDTHS))
    )
    return encoders, decoders


def encode(encoders: nn.ModuleList, x: torch.Tensor) -> list[torch.Tensor]:
    """The map of the stem (B, 28, *spatial) and those of the encoder's levels, which have its size."""
    maps = [x]
    for level in encoders:
        maps.append(level(maps[-1]))
    return maps


def decode(decoders: nn.ModuleList, maps: list[torch.Tensor]) -> torch.Tensor:
    """Back from the maps of ``encode`` to (B, 28, *spatial); every level takes in one of them, the deepest first."""
    *skips, x = maps
    for level, skip in zip(decoders, reversed(skips), strict=True):
        x = level(torch.cat((x, skip), dim=1))
    return x
