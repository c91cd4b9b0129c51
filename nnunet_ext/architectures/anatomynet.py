"""AnatomyNet, self-configuring: one downsampling, residual squeeze-and-excitation, the image joined at the end.

Idea: W. Zhu et al., "AnatomyNet: Deep learning for fast and fully automated whole-volume segmentation of head and neck
anatomy", Medical Physics 2019, doi 10.1002/mp.13300, arXiv 1808.05238. Reference implementation:
wentaozhu/AnatomyNet-for-anatomical-segmentation on GitHub (Apache-2.0); none of its code is used. The published 3D
network is ``AnatomyNet.reference()`` (``anatomynet_reference.py``), whose widths, number of blocks, reductions and
concatenations are kept here.

Differences from the reference:
    - dimension, norm, nonlinearity and bias of convolutions are the plan's; the one stride is the first of the plan
      that exceeds 1, and the kernels are those of the plan's first stage (full resolution) and of the stage with that
      stride (all else), instead of 3 everywhere;
    - channel weights read the mean of what a nonlinearity makes of the map, and multiply the map, as there. Directly
      behind an instance norm, which nnU-Net plans, the mean is the bias of that norm, whatever the image;
    - the hidden bias of their perceptron starts at 1 (``blocks/attention/gate_mlp.py``);
    - the image has any number of channels;
    - logits instead of a softmax, and deep supervision.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from dynamic_network_architectures.initialization.weight_init import InitWeights_He
from torch import nn

from nnunet_ext.architectures.anatomynet_reference import (
    FULL_WIDTH,
    WIDTHS,
    AnatomyNetReference,
    ProjectedResidual,
    decode,
    encode,
    levels,
)
from nnunet_ext.architectures.blocks.attended_stage import RecomputedResidualSqueezeExcite
from nnunet_ext.architectures.blocks.deep_supervision import DeepSupervisionDecoder
from nnunet_ext.architectures.blocks.input_check import check_input
from nnunet_ext.architectures.blocks.topology import PlanKeywords, Topology, takes_plan

if TYPE_CHECKING:
    from typing_extensions import Unpack


@takes_plan
class AnatomyNet(nn.Module):
    """Input: (B, input_channels, *spatial), each size a multiple of the one stride. Output: logits (B, num_classes,
    *spatial), or with ``decoder.deep_supervision`` a list, finest first: of two, at full resolution and behind the one
    stride; of one where that stride is not the second stage's, or where the plan has two stages, since the targets that
    nnU-Net makes then hold no such second resolution.

    Takes the keyword arguments of a plans file of nnU-Net, for ``PlainConvUNet`` (``n_conv_per_stage``) or
    ``ResidualEncoderUNet`` (``n_blocks_per_stage``). Of its stages it uses the first, and the first whose stride
    exceeds 1; all others, the plan's widths, its numbers of convolutions and of blocks, and its dropout are not used.
    Where these two stages have kernels of one voxel along an axis, as planned for thick slices, no convolution sees
    beyond a slice: channel weights alone do.

    Args:
        recompute: repeat all but convolutions in the backward pass, instead of keeping what they computed
            (``blocks/recompute.py``).

    Raises:
        ValueError: no stride above 1, fewer than two stages, a first stride that is not 1, or lists of the wrong
            length; in ``forward``, an input of other channels or of a size that the stride does not divide.
    """

    def __init__(self, *, recompute: bool = True, **plan: Unpack[PlanKeywords]) -> None:
        super().__init__()
        topology = Topology.from_plan("AnatomyNet", plan)
        layers = topology.layers
        stage = _stage_of_the_stride(topology)
        kernel = topology.kernels[stage]
        self.input_channels = topology.input_channels
        self.divisors = topology.strides[stage]
        self.stem = nn.Sequential(
            layers.conv_op(
                topology.input_channels,
                WIDTHS[0],
                kernel,
                stride=self.divisors,
                padding=tuple((edge - 1) // 2 for edge in kernel),
                bias=layers.conv_bias,
            ),
            layers.norm(WIDTHS[0]),
            layers.activation(),
        )
        self.encoder, decoders = levels(
            lambda channels, out_channels, reduction: RecomputedResidualSqueezeExcite(
                layers, channels, out_channels, kernel, (1,) * layers.dimension, recompute, reduction=reduction
            )
        )
        self.decoder = AnatomyNetDecoder(topology, stage, decoders, recompute)
        self.apply(InitWeights_He(1e-2))

    def forward(self, image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        check_input(image, self.input_channels, self.divisors)
        return self.decoder(encode(self.encoder, self.stem(image)), image)

    @classmethod
    def reference(cls, num_classes: int = 10, in_channels: int = 1) -> AnatomyNetReference:
        """The published network, a class of its own: 3D, batch norm, a stride of 2; logits, without softmax.

        Args:
            num_classes, in_channels: channels out and in.
        """
        return AnatomyNetReference(num_classes, in_channels)


def _stage_of_the_stride(topology: Topology) -> int:
    """The first stage whose stride exceeds 1 along an axis."""
    for stage, stride in enumerate(topology.strides):
        if max(stride) > 1:
            return stage
    raise ValueError(
        f"AnatomyNet works behind the first stride of a plan that exceeds 1, and these {topology.n_stages} stages have "
        f"none: the patch is too small for it"
    )


class AnatomyNetDecoder(DeepSupervisionDecoder):
    """The decoder's levels behind the stride, the transposed convolution that undoes it, and a residual block over what
    it gives and the image.

    Args:
        topology: of the plan.
        stage: of the plan that has the stride.
        stages: the levels behind the stride.
        recompute: of the last block.
    """

    def __init__(self, topology: Topology, stage: int, stages: nn.ModuleList, recompute: bool) -> None:
        layers, kernel, stride = topology.layers, topology.kernels[0], topology.strides[stage]
        # nnU-Net makes a target for every stage but the deepest, and the second one has the second stage's size
        two = stage == 1 and topology.n_stages > 2
        widths = (WIDTHS[0], FULL_WIDTH) if two else (FULL_WIDTH,)
        super().__init__(layers.conv_op, widths, topology.num_classes, topology.deep_supervision)
        self.seg_layers[-1] = layers.conv(FULL_WIDTH, topology.num_classes, kernel, bias=True)
        self.stages = stages
        self.up = layers.transposed_conv(WIDTHS[0], FULL_WIDTH, stride, stride)
        self.last = ProjectedResidual(layers, FULL_WIDTH + topology.input_channels, FULL_WIDTH, kernel, recompute)

    def forward(self, maps: list[torch.Tensor], image: torch.Tensor) -> torch.Tensor | list[torch.Tensor]:
        """Maps of the stem and of the encoder's levels, and the image."""
        coarse = decode(self.stages, maps)
        up = self.up(coarse)
        # Under autocast the image would raise the concatenation to its float32.
        fine = self.last(torch.cat((up, image.to(up.dtype)), dim=1))
        return self.segment([coarse, fine][-len(self.seg_layers) :])
