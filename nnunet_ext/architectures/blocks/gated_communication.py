"""A decoder level's skip and the coarser map, compared by a gate before they are added.

After the multi-modal process of CFNet's reference implementation (YaruC/CFNet; doi 10.1016/j.bspc.2024.106876).

Differences from the reference, each undone by an argument:
    - the gate is the sigmoid of the norm's output; a ReLU in between keeps the published one at 0.5 and above, so that
      it cannot close: ``rectified_gate=True``.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.layers import LayerPlan, PerAxis, resize_to
from nnunet_ext.architectures.blocks.recompute import draws_random_numbers, recomputed, repeatable


class GatedCommunication(nn.Module):
    """Input: skip (B, C, *spatial) and deep (B, D, *coarser). Output: (B, C, *spatial).

    Args:
        layers: convolution, bias, norm and nonlinearity.
        skip_channels: C.
        deep_channels: D.
        kernel_size: of the gate's and the output's convolution; the other two are 1x1.
        rectified_gate: the published gate.
        recompute: keep what the convolutions give in training, and repeat what lies between them in the backward pass.
    """

    def __init__(
        self,
        layers: LayerPlan,
        skip_channels: int,
        deep_channels: int,
        kernel_size: PerAxis,
        rectified_gate: bool = False,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        self.rectified_gate = rectified_gate
        self.skip = layers.conv_norm(skip_channels, skip_channels, 1)
        self.deep = layers.conv_norm(deep_channels, skip_channels, 1)
        self.activation = layers.activation()
        self.gate = layers.conv_norm(2 * skip_channels, skip_channels, kernel_size)
        self.output = layers.conv_norm(skip_channels, skip_channels, kernel_size)
        self.recompute = recompute and repeatable(self)
        self.random = draws_random_numbers(self)

    def forward(self, skip: torch.Tensor, deep: torch.Tensor) -> torch.Tensor:
        run = partial(
            recomputed, enabled=self.recompute and self.training, random=self.random, ends_with_convolution=True
        )
        skip, deep, gate = run(self._to_gate_convolution, self.skip[0](skip), self.deep(deep))
        return deep + self.output[1](run(self._to_output_convolution, skip, gate))

    def _to_gate_convolution(
        self, skip: torch.Tensor, deep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The skip normalised, the deep map at its size, and the gate's convolution of both."""
        skip = self.skip[1](skip)
        deep = resize_to(deep, skip.shape[2:])
        return skip, deep, self.gate[0](self.activation(torch.cat((skip, deep), dim=1)))

    def _to_output_convolution(self, skip: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
        """The output's convolution of the gated skip."""
        return self.output[0](skip * self.gate_map(gate))

    def gate_map(self, gate: torch.Tensor) -> torch.Tensor:
        """What the skip is multiplied by, (B, C, *spatial) within (0, 1), from the gate's convolution."""
        gate = self.gate[1](gate)
        if self.rectified_gate:
            gate = functional.relu(gate)
        return gate.sigmoid()
