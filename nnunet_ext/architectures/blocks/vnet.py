"""Stages of a V-Net from a plan's layers: residual blocks over several convolutions, with attention behind them.

After F. Milletari et al., "V-Net", 3DV 2016, arXiv 1606.04797, as the networks of the Progressive Attention Module have
it (doi 10.1002/mp.15369): the identity is added in front of the last nonlinearity.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attended_decoder import GatedSkips
from nnunet_ext.architectures.blocks.attention.plan import AttentionPlan
from nnunet_ext.architectures.blocks.layers import LayerPlan
from nnunet_ext.architectures.blocks.recompute import (
    draws_random_numbers,
    makes_new_tensor,
    recomputed,
    repeatable,
)


class Unit(nn.Module):
    """A convolution, dropout, norm and nonlinearity; ``activated=False`` has no nonlinearity."""

    def __init__(self, layers: LayerPlan, conv: nn.Module, channels: int, activated: bool = True) -> None:
        super().__init__()
        self.conv = conv
        self.dropout = layers.dropout()
        self.norm = layers.norm(channels)
        self.activation = layers.activation() if activated else nn.Identity()

    def behind_convolution(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.activation(self.norm(self.dropout(x)))
        return y

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.behind_convolution(self.conv(x))


class ResidualConvs(nn.Module):
    """Convolutions, the identity added to what the last norm gives, nonlinearity, attention.

    The identity is the input, through a projection where its width differs, or another map of ``out_channels``.

    Args:
        layers: layer types.
        count: convolutions.
        channels, out_channels: in and out.
        kernel: of all convolutions.
        project: the identity passes a 1x1 convolution with a norm.
        attention: keeps the shape; None is none.
        recompute: keep what the convolutions give in training, and repeat what lies between and behind them in the
            backward pass; the projection is repeated, too.
    """

    def __init__(
        self,
        layers: LayerPlan,
        count: int,
        channels: int,
        out_channels: int,
        kernel: Sequence[int],
        project: bool = False,
        attention: nn.Module | None = None,
        recompute: bool = True,
    ) -> None:
        super().__init__()
        self.units = nn.ModuleList(
            Unit(
                layers,
                layers.conv(channels if index == 0 else out_channels, out_channels, kernel),
                out_channels,
                activated=index < count - 1,
            )
            for index in range(max(1, count))
        )
        self.projection = layers.conv_norm(channels, out_channels, 1) if project else nn.Identity()
        self.activation = layers.activation()
        self.attention = nn.Identity() if attention is None else attention
        self.recompute = recompute and makes_new_tensor(self.units[0].get_submodule("norm")) and repeatable(self)
        self.random = draws_random_numbers(self)

    def forward(self, x: torch.Tensor, identity: torch.Tensor | None = None) -> torch.Tensor:
        """``x`` alone, or with its identity."""
        return self.from_first_convolution(self.units[0].get_submodule("conv")(x), x if identity is None else identity)

    def from_first_convolution(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        """All that follows the first convolution."""
        again = self.recompute and self.training
        for index in range(1, len(self.units)):
            x = recomputed(
                self._to_next_convolution, index, x, enabled=again, random=self.random, ends_with_convolution=True
            )
        attended: torch.Tensor = recomputed(self._behind_convolutions, x, identity, enabled=again, random=self.random)
        return attended

    def _to_next_convolution(self, index: int, x: torch.Tensor) -> torch.Tensor:
        before, unit = self.units[index - 1], self.units[index]
        assert isinstance(before, Unit)
        y: torch.Tensor = unit.get_submodule("conv")(before.behind_convolution(x))
        return y

    def _behind_convolutions(self, x: torch.Tensor, identity: torch.Tensor) -> torch.Tensor:
        last = self.units[-1]
        assert isinstance(last, Unit)
        attended: torch.Tensor = self.attention(self.activation(last.behind_convolution(x) + self.projection(identity)))
        return attended


class VNetDecoder(GatedSkips):
    """Transposed convolution with norm and nonlinearity, the skip in front of what it gives, residual convolutions with
    the up-sampled map as identity.

    Args:
        plan: of the network.
        recompute: of residual convolutions, gates, and the concatenation.
    """

    def __init__(self, plan: AttentionPlan, recompute: bool = True) -> None:
        super().__init__(plan, recompute)
        topology = plan.topology
        layers, features, strides = topology.layers, topology.features, topology.strides
        levels = range(topology.n_stages - 2, -1, -1)
        self.ups = nn.ModuleList(
            Unit(
                layers,
                layers.transposed_conv(features[level + 1], features[level], strides[level + 1], strides[level + 1]),
                features[level],
            )
            for level in levels
        )
        self.stages = nn.ModuleList(
            ResidualConvs(
                layers,
                count,
                2 * features[level],
                features[level],
                topology.kernels[level],
                attention=plan.behind(level),
                recompute=recompute,
            )
            for level, count in zip(levels, topology.decoder_convs, strict=True)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Maps of the encoder's stages, finest first."""
        *skips, x = maps
        levels = []
        for level, (up, stage, skip) in enumerate(zip(self.ups, self.stages, reversed(skips), strict=True)):
            assert isinstance(stage, ResidualConvs)
            skip = self.gated(level, skip, x)
            x = up(x)
            first = stage.units[0].get_submodule("conv")
            again = stage.recompute and self.training
            joined = recomputed(
                lambda skip, x, first=first: first(torch.cat((skip, x), dim=1)),
                skip,
                x,
                enabled=again,
                ends_with_convolution=True,
            )
            x = stage.from_first_convolution(joined, x)
            levels.append(x)
        return self.segment(levels)
