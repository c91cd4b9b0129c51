"""One segmentation head a decoder level, and the switch nnU-Net sets: base class of decoders."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


class DeepSupervisionDecoder(nn.Module):
    """Holds the heads ``seg_layers.N`` (N = 0 the coarsest level, as in nnU-Net) and the flag ``deep_supervision``.

    All heads are always built, so state dicts are equal whatever the flag says. Built with the flag off, the coarse
    heads are idle and ask for no gradient: DDP refuses parameters that ask for one and get none. Switching off later,
    as nnU-Net does for validation, leaves them trainable; switching on makes them so.

    Args:
        conv_op: convolution type.
        features: channels of the decoder levels, coarsest first.
        num_classes: output channels of every head.
        deep_supervision: whether coarse outputs are wanted.
    """

    def __init__(
        self, conv_op: type[nn.Module], features: Sequence[int], num_classes: int, deep_supervision: bool
    ) -> None:
        super().__init__()
        self.seg_layers = nn.ModuleList(conv_op(channels, num_classes, 1, bias=True) for channels in features)
        self.deep_supervision = deep_supervision
        self._coarse_heads.requires_grad_(deep_supervision)

    @property
    def _coarse_heads(self) -> nn.ModuleList:
        return self.seg_layers[:-1]

    @property
    def deep_supervision(self) -> bool:
        """True: all outputs, finest first. False: the finest alone."""
        return self._deep_supervision

    @deep_supervision.setter
    def deep_supervision(self, enabled: bool) -> None:
        self._deep_supervision = bool(enabled)
        if enabled:
            self._coarse_heads.requires_grad_(True)

    def segment(self, features: Sequence[torch.Tensor]) -> torch.Tensor | list[torch.Tensor]:
        """Logits of the levels' features (coarsest first): a list from fine to coarse, or the finest alone."""
        if not self.deep_supervision:
            return self.seg_layers[-1](features[-1])
        return [head(x) for head, x in zip(self.seg_layers, features, strict=True)][::-1]
