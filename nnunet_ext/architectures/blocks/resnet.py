"""ResNet with basic blocks (ResNet-34 and smaller) under timm's and torchvision's key names, in 2D and 3D.

K. He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, doi 10.1109/CVPR.2016.90.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

_OPERATIONS: dict[int, tuple[Any, Any, Any]] = {
    2: (nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d),
    3: (nn.Conv3d, nn.BatchNorm3d, nn.MaxPool3d),
}


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
        conv, norm, pool = _OPERATIONS[dimension]
        self.conv1 = conv(input_channels, stem, 7, stride=tuple(strides[0]), padding=3, bias=False)
        self.bn1 = norm(stem)
        self.maxpool = pool(3, stride=tuple(strides[1]), padding=1)
        channels = stem
        for number, (width, count) in enumerate(zip(widths, blocks, strict=True), start=1):
            stride = (1,) * dimension if number == 1 else tuple(strides[number])
            stage = [BasicBlock(dimension, channels, width, stride)]
            stage += [BasicBlock(dimension, width, width, (1,) * dimension) for _ in range(count - 1)]
            setattr(self, f"layer{number}", nn.Sequential(*stage))
            channels = width

    @property
    def layers(self) -> list[nn.Module]:
        """The four stages."""
        return [self.get_submodule(f"layer{number}") for number in range(1, 5)]

    def stem(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, *spatial) -> (B, stem, *spatial / stride)."""
        return functional.relu(self.bn1(self.conv1(x)), inplace=True)


class BasicBlock(nn.Module):
    def __init__(self, dimension: int, channels: int, width: int, stride: Sequence[int]) -> None:
        super().__init__()
        conv, norm, _ = _OPERATIONS[dimension]
        self.conv1 = conv(channels, width, 3, stride=tuple(stride), padding=1, bias=False)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1, bias=False)
        self.bn2 = norm(width)
        self.downsample: nn.Module = nn.Identity()
        if channels != width or set(stride) != {1}:
            self.downsample = nn.Sequential(conv(channels, width, 1, stride=tuple(stride), bias=False), norm(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.bn1(self.conv1(x)), inplace=True)
        return functional.relu(self.bn2(self.conv2(y)) + self.downsample(x), inplace=True)
