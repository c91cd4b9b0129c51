"""CFNet as published: 2D, four image channels, two ResNet-50 style streams.

Y. Cheng, Y. Zheng, J. Wang, "CFNet: Automatic multi-modal brain tumor segmentation through hierarchical coarse-to-fine
fusion and feature communication", Biomedical Signal Processing and Control 2025, 106876, doi
10.1016/j.bspc.2024.106876. Reference implementation: YaruC/CFNet on GitHub, which names no licence; written anew here,
none of its code is used. The paper's full text was not at hand: this file follows what the implementation does.

Differences from the reference:
    - the parts that its forward pass never reaches (84 % of its parameters) are not built;
    - one tensor (B, 4, H, W) instead of a list of four (B, 1, H, W);
    - its list of fusion modules is called ``modules`` there, a name that ``nn.Module`` itself needs, so that its
      forward pass raises; here it is ``fusions``;
    - weights start at random; ImageNet weights come from a file of the user (``load_resnet50``), never by download;
    - sizes that 16 does not divide are refused, also 16k - 1, which would run and return 16k;
    - the attention context is computed in float32 under autocast.

Kept, since they are the architecture: one stem for both streams (so its running statistics move twice a training step),
token sums without normalisation, a gate that cannot close, a softmax over branches and channels jointly, dropout 0.5
behind the context module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures import pretrained
from nnunet_ext.architectures.blocks.bottleneck_up import BottleneckUp
from nnunet_ext.architectures.blocks.gated_communication import GatedCommunication
from nnunet_ext.architectures.blocks.initialization import he_fan_out, truncated_normal
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.modality_fusion import STREAMS, ModalityFusion
from nnunet_ext.architectures.blocks.multi_scale_context import MultiScaleContext
from nnunet_ext.architectures.blocks.streams import checked_streams, take_channels
from nnunet_ext.architectures.cfnet_weights import RESNET_UNUSED, from_published, from_resnet50

STEM_CHANNELS = 64
STAGES = ((256, 3, 1), (512, 4, 2), (1024, 6, 2))  # channels, bottlenecks, stride of the first
HEADS = (1, 2, 4, 8)
HEAD_CHANNELS = 32
IMAGE_CHANNELS = 4
DIVISOR = 16  # of height and width
LAYERS = LayerPlan(
    conv_op=nn.Conv2d,
    conv_bias=True,
    norm_op=nn.BatchNorm2d,
    dropout_op=nn.Dropout,
    dropout_op_kwargs={"p": 0.5},
    nonlin=nn.ReLU,
    nonlin_kwargs={"inplace": True},
)


class CFNetReference(nn.Module):
    """Input: (B, 4, H, W), H and W multiples of 16. Output: logits (B, num_classes, H, W).

    Args:
        num_classes: output channels.
        stream_channels: image channels of stream one and two, two each.

    Raises:
        ValueError: streams that are not two pairs of the four channels; in ``forward``, any other input.
    """

    def __init__(self, num_classes: int = 4, stream_channels: Sequence[Sequence[int]] = ((0, 1), (2, 3))) -> None:
        super().__init__()
        self.stream_channels = checked_streams(stream_channels, IMAGE_CHANNELS)
        pair = IMAGE_CHANNELS // STREAMS
        if any(len(channels) != pair for channels in self.stream_channels):
            raise ValueError(f"each stream of the published CFNet takes two channels; got {self.stream_channels}")
        self.project = nn.Conv2d(pair, 3, 1)
        self.stem_conv = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.stem_norm = nn.BatchNorm2d(STEM_CHANNELS)
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.stages_one = _residual_stages()
        self.stages_two = _residual_stages()

        widths = (STEM_CHANNELS, *(channels for channels, _, _ in STAGES))
        self.fusions = nn.ModuleList(
            ModalityFusion(LAYERS, width, width, heads, token_sum=True)
            for width, heads in zip(widths, HEADS, strict=True)
        )
        self.context = MultiScaleContext(LAYERS, widths[-1], kernel_size=3, joint_softmax=True)
        levels = tuple(zip(widths[-2::-1], widths[:0:-1], strict=True))  # (skip, deep) channels, coarsest first
        self.communications = nn.ModuleList(
            GatedCommunication(LAYERS, skip, deep, kernel_size=3, rectified_gate=True) for skip, deep in levels
        )
        self.ups = nn.ModuleList(BottleneckUp(LAYERS, deep, skip, stride=2, overlapping=True) for skip, deep in levels)
        self.head = nn.Sequential(
            nn.ConvTranspose2d(STEM_CHANNELS, HEAD_CHANNELS, 3, stride=2),
            nn.ReLU(),
            nn.Conv2d(HEAD_CHANNELS, HEAD_CHANNELS, 3),
            nn.ReLU(),
        )
        # nnU-Net's -pretrained_weights passes over this name, so that another number of classes can start from it
        self.head.add_module("seg_layers", nn.Sequential(nn.Conv2d(HEAD_CHANNELS, num_classes, 2, padding=1)))
        self._initialize()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _check_input(x)
        one, two = (self._stem(take_channels(x, channels)) for channels in self.stream_channels)
        fused = [self.fusions[0](one, two)]
        one, two = self.pool(one), self.pool(two)
        for stage_one, stage_two, fuse in zip(self.stages_one, self.stages_two, self.fusions[1:], strict=True):
            one, two = stage_one(one), stage_two(two)
            fused.append(fuse(one, two))
        x = self.context(fused.pop())
        for communicate, up, skip in zip(self.communications, self.ups, reversed(fused), strict=True):
            x = up(x) + communicate(skip, x)
        return self.head(x)

    def _stem(self, pair: torch.Tensor) -> torch.Tensor:
        return functional.relu(self.stem_norm(self.stem_conv(self.project(pair))), inplace=True)

    def load_reference_state_dict(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Loads weights under the published key names: the 853 live entries, or all 1,300, whose dead ones are dropped.

        Raises:
            ValueError: a key is missing or unknown.
            RuntimeError: a tensor has another shape, for instance another number of classes.
        """
        self.load_state_dict(from_published(state_dict, self.state_dict()))

    def load_pretrained(self, part: str, weights: Mapping[str, torch.Tensor]) -> pretrained.Report:
        """Starts the stem and both streams (``"cnn"``) from a ResNet-50.

        Raises:
            ValueError: another part, or a key is missing or unknown.
            RuntimeError: a tensor has another shape.
        """
        if part != "cnn":
            raise ValueError(f"CFNet has no {part}")
        before = set(from_resnet50(weights, self.state_dict()))
        self.load_resnet50(weights)
        numbers = sum(value.numel() for key, value in self.state_dict().items() if key in before)
        skipped = sorted(key for key in weights if key.startswith(RESNET_UNUSED))
        return pretrained.Report(loaded=sorted(before), skipped=skipped, parameters=numbers)

    def load_resnet50(self, state_dict: Mapping[str, torch.Tensor]) -> None:
        """Starts the stem and both streams from a ResNet-50's weights under torchvision's key names.

        ``layer4`` and ``fc`` have no counterpart and are left out; everything else of this network stays as it is.

        Raises:
            ValueError: a key is missing or unknown.
            RuntimeError: a tensor has another shape.
        """
        self.load_state_dict({**self.state_dict(), **from_resnet50(state_dict, self.state_dict())})

    def _initialize(self) -> None:
        """As coded: convolutions of stem, stages and fusions normal by fan out, linear maps truncated normal."""
        parts = (self.stem_conv, self.stages_one, self.stages_two, self.fusions)
        for module in (module for part in parts for module in part.modules()):
            he_fan_out(module)
            truncated_normal(module)


class Bottleneck(nn.Module):
    """ResNet-50's block with the stride in the 3x3 convolution ("v1.5"); modules carry torchvision's names."""

    expansion = 4

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        middle = out_channels // self.expansion
        self.conv1 = nn.Conv2d(channels, middle, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if channels != out_channels or stride != 1:
            self.downsample = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride=stride, bias=False), nn.BatchNorm2d(out_channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        y = functional.relu(self.bn2(self.conv2(y)), inplace=True)
        return functional.relu(self.bn3(self.conv3(y)) + self.downsample(x), inplace=True)


def _residual_stages() -> nn.ModuleList:
    stages = nn.ModuleList()
    channels = STEM_CHANNELS
    for out_channels, blocks, stride in STAGES:
        first = Bottleneck(channels, out_channels, stride)
        stages.append(nn.Sequential(first, *(Bottleneck(out_channels, out_channels, 1) for _ in range(blocks - 1))))
        channels = out_channels
    return stages


def _check_input(x: torch.Tensor) -> None:
    legal = x.ndim == 4 and x.shape[1] == IMAGE_CHANNELS and not any(size % DIVISOR for size in x.shape[2:])
    if not legal:
        raise ValueError(
            f"the published CFNet takes (B, {IMAGE_CHANNELS}, H, W) with H and W multiples of {DIVISOR}; got "
            f"{tuple(x.shape)}. The self-configuring CFNet takes other sizes, channel counts and 3D."
        )
