"""The spatial transformer: a map moved, turned and stretched by an affine transform that depends on the image (M.
Jaderberg et al., NeurIPS 2015, arXiv 1506.02025).

It starts as the identity. A network for segmentation must undo the transform on what it returns: ``inverted``.

Differences from the paper: the transform is the identity plus a tenth of what a perceptron makes of the mean of each
channel, where the paper leaves that network open. With ``limit`` no entry differs more than that from the identity's:
at 0.25 every transform can be undone, and the image stays mostly in sight.
"""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from nnunet_ext.architectures.blocks.attention.gate_mlp import GateMLP
from nnunet_ext.architectures.blocks.precision import at_least_float32, exact_mean, without_autocast

STEP = 0.1


class SpatialTransformer(nn.Module):
    """(B, C, *spatial) -> the same shape.

    Args:
        channels: C.
        dimension: 2 or 3 spatial axes.
        hidden: units of the perceptron.
        limit: the largest change of an entry of the transform; None: unbounded.
    """

    def __init__(self, channels: int, dimension: int, hidden: int = 16, limit: float | None = None) -> None:
        super().__init__()
        self.dimension = dimension
        self.limit = limit
        self.mlp = GateMLP(channels, hidden, dimension * (dimension + 1))
        nn.init.zeros_(self.mlp.expand_weight)
        nn.init.zeros_(self.mlp.expand_bias)

    def transform(self, x: torch.Tensor) -> torch.Tensor:
        """(B, n, n + 1), as ``affine_grid`` takes it: from places of the result to places of ``x``."""
        with without_autocast(x):
            change = self.mlp(exact_mean(x.flatten(2), (-1,))).view(-1, self.dimension, self.dimension + 1)
            change = STEP * change if self.limit is None else self.limit * (STEP / self.limit * change).tanh()
            return change + torch.eye(self.dimension, self.dimension + 1, dtype=change.dtype, device=x.device)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return transformed(x, self.transform(x))


def transformed(x: torch.Tensor, transform: torch.Tensor, beyond: str = "zeros") -> torch.Tensor:
    """``x`` (B, C, *spatial) sampled linearly where the transform (B, n, n + 1) says; in its precision.

    Args:
        x, transform: map and transform.
        beyond: what lies outside: ``"zeros"``, or the nearest voxel of the ``"border"``.
    """
    with without_autocast(x):
        grid = functional.affine_grid(transform, list(x.shape), align_corners=False)
        return functional.grid_sample(at_least_float32(x), grid, padding_mode=beyond, align_corners=False).to(x.dtype)


def inverted(transform: torch.Tensor) -> torch.Tensor:
    """The transform (B, n, n + 1) that undoes this one."""
    with without_autocast(transform):
        # inv() would wait for the device to say whether a matrix is singular
        inverse = torch.linalg.inv_ex(transform[..., :-1]).inverse
        return torch.cat((inverse, -inverse @ transform[..., -1:]), dim=-1)
