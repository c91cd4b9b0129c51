"""A decoder whose levels are attended, and whose skips may pass an attention gate."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nnunet_ext.architectures.blocks.attended_stage import attended_stage
from nnunet_ext.architectures.blocks.attention.attention_gate import AttentionGate
from nnunet_ext.architectures.blocks.attention.plan import AttentionPlan
from nnunet_ext.architectures.blocks.deep_supervision import DeepSupervisionDecoder
from nnunet_ext.architectures.blocks.recompute import recomputed, repeatable


def skip_gates(plan: AttentionPlan) -> nn.ModuleList:
    """A gate for every skip, coarsest first; none where the plan wants none."""
    topology = plan.topology
    levels = range(topology.n_stages - 2, -1, -1) if plan.gate else ()
    return nn.ModuleList(
        AttentionGate(
            topology.layers, topology.features[level], topology.features[level + 1], topology.strides[level + 1]
        )
        for level in levels
    )


class GatedSkips(DeepSupervisionDecoder):
    """Base of decoders with a gate, or none, on every skip.

    Args:
        plan: of the network.
        recompute: repeat the gates in the backward pass, instead of keeping what they computed.
    """

    def __init__(self, plan: AttentionPlan, recompute: bool) -> None:
        topology = plan.topology
        super().__init__(
            topology.layers.conv_op, topology.features[-2::-1], topology.num_classes, topology.deep_supervision
        )
        self.gates = skip_gates(plan)
        self.recompute_gates = recompute and repeatable(self.gates)

    def gated(self, level: int, skip: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
        """The skip of a level, counted from the coarsest, as the coarser map lets it through."""
        if not len(self.gates):
            return skip
        again = self.recompute_gates and self.training
        passed: torch.Tensor = recomputed(self.gates[level], skip, coarse, enabled=again)
        return passed


class AttendedDecoder(GatedSkips):
    """nnU-Net's decoder: transposed convolution, the skip in front of what it gives, an attended stage.

    Args:
        plan: of the network.
        recompute: as of stages and gates.
    """

    def __init__(self, plan: AttentionPlan, recompute: bool = True) -> None:
        super().__init__(plan, recompute)
        topology = plan.topology
        features, strides = topology.features, topology.strides
        levels = range(topology.n_stages - 2, -1, -1)
        self.transpconvs = nn.ModuleList(
            topology.layers.transposed_conv(
                features[level + 1], features[level], strides[level + 1], strides[level + 1]
            )
            for level in levels
        )
        self.stages = nn.ModuleList(
            attended_stage(plan, level, max(1, count), 2 * features[level], recompute=recompute)
            for level, count in zip(levels, topology.decoder_convs, strict=True)
        )

    def forward(self, maps: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Maps of the encoder's stages, finest first."""
        *skips, x = maps
        levels = []
        for level, (up, stage, skip) in enumerate(zip(self.transpconvs, self.stages, reversed(skips), strict=True)):
            skip = self.gated(level, skip, x)
            x = stage(torch.cat((skip, up(x)), dim=1))
            levels.append(x)
        return self.segment(levels)
