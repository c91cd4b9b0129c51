"""A decoder level's skip and the coarser map, compared by a gate before they are added.

After the multi-modal process of CFNet's reference implementation (YaruC/CFNet; doi 10.1016/j.bspc.2024.106876).

Differences from the reference, each undone by an argument:
    - the gate is the sigmoid of the norm's output; a ReLU in between keeps the published one at 0.5 and above, so that
      it cannot close: ``rectified_gate=True``.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, resize_to


class GatedCommunication(nn.Module):
    """Input: skip (B, C, *spatial) and deep (B, D, *coarser). Output: (B, C, *spatial).

    Args:
        layers: convolution, bias, norm and nonlinearity.
        skip_channels: C.
        deep_channels: D.
        kernel_size: of the gate's and the output's convolution; the other two are 1x1.
        rectified_gate: the published gate.
    """

    def __init__(
        self,
        layers: LayerPlan,
        skip_channels: int,
        deep_channels: int,
        kernel_size: PerAxis,
        rectified_gate: bool = False,
    ) -> None:
        super().__init__()
        self.rectified_gate = rectified_gate
        self.skip = layers.conv_norm(skip_channels, skip_channels, 1)
        self.deep = layers.conv_norm(deep_channels, skip_channels, 1)
        self.activation = layers.activation()
        self.gate = layers.conv_norm(2 * skip_channels, skip_channels, kernel_size)
        self.output = layers.conv_norm(skip_channels, skip_channels, kernel_size)

    def forward(self, skip: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        skip = self.skip(skip)
        deep = resize_to(self.deep(deep), skip.shape[2:])
        gate = self.gate(self.activation(torch.cat((skip, deep), dim=1)))
        if self.rectified_gate:
            gate = functional.relu(gate)
        return deep + self.output(skip * gate.sigmoid())
