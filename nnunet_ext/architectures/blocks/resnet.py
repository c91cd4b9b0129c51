"""ResNet with basic blocks (ResNet-34 and smaller) under timm's and torchvision's key names, in 2D and 3D.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, doi 10.1109/CVPR.2016.90.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.basic_block import PUBLISHED_NAMES, BasicBlock
from nnunet_ext.architectures.blocks.layers import LayerPlan

_RELU: dict[str, Any] = {"nonlin": nn.ReLU, "nonlin_kwargs": {"inplace": True}}
_LAYERS = {
    2: LayerPlan(nn.Conv2d, False, nn.BatchNorm2d, **_RELU),
    3: LayerPlan(nn.Conv3d, False, nn.BatchNorm3d, **_RELU),
}
_POOLS = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


class ResNet(nn.Module):
    """Called in parts: ``stem(x)``, ``maxpool``, then ``layers[i]``.

    Args:
        input_channels: of the image.
        dimension: spatial axes.
        stem: channels of the stem.
        widths, blocks: of the four stages.
        strides: of stem, pooling and the second to fourth stage; one an axis.
    """

    def __init__(
        self,
        input_channels: int,
        dimension: int,
        stem: int,
        widths: Sequence[int],
        blocks: Sequence[int],
        strides: Sequence[Sequence[int]],
    ) -> None:
        super().__init__()
        layers = _LAYERS[dimension]
        self.conv1 = layers.conv_op(input_channels, stem, 7, stride=tuple(strides[0]), padding=3, bias=False)
        self.bn1 = layers.norm(stem)
        self.maxpool = _POOLS[dimension](3, stride=tuple(strides[1]), padding=1)
        kernel, no_stride = (3,) * dimension, (1,) * dimension
        channels = stem
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            stride = no_stride if number == 1 else tuple(strides[number])
            stage = [BasicBlock(layers, channels, width, kernel, stride, PUBLISHED_NAMES)]
            stage += [BasicBlock(layers, width, width, kernel, no_stride, PUBLISHED_NAMES) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            channels = width

    @property
    def layers(self) -> list[nn.Module]:
        """The four stages."""
        return [self.get_submodule(f"layer{number}") for number in range(1, 5)]

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) -> (B, stem, *spatial / stride)."""
        return functional.relu(self.bn1(self.conv1(x)), inplace=True)
