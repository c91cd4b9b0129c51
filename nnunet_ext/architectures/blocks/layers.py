"""What a plans file says of layers, as one object that builds them, in 2D and in 3D."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from dynamic_network_architectures.building_blocks.helper import convert_conv_op_to_dim, get_matching_convtransp
from dynamic_network_architectures.building_blocks.simple_conv_blocks import StackedConvBlocks
from torch import nn
from torch.nn import functional

PerAxis = int | Sequence[int]
LINEAR_MODES = {1: "linear", 2: "bilinear", 3: "trilinear"}


@dataclass(frozen=True)
class LayerPlan:
    """Layer types and their arguments under the names of nnU-Net's plans; ``conv_op`` alone decides the dimension."""

    conv_op: type[nn.Module]
    conv_bias: bool = False
    norm_op: type[nn.Module] | None = None
    norm_op_kwargs: Mapping[str, Any] | None = None
    dropout_op: type[nn.Module] | None = None
    dropout_op_kwargs: Mapping[str, Any] | None = None
    nonlin: type[nn.Module] | None = None
    nonlin_kwargs: Mapping[str, Any] | None = None

    @property
    def dimension(self) -> int:
        return convert_conv_op_to_dim(self.conv_op)

    def arguments(self) -> dict[str, Any]:
        """The keyword arguments that every block of dynamic-network-architectures takes."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}

    def conv(
        self, channels: int, out_channels: int, kernel_size: PerAxis, dilation: PerAxis = 1, bias: bool | None = None
    ) -> nn.Module:
        """Convolution that keeps the size (odd kernels); ``bias`` is the plan's unless given."""
        kernel, dilations = per_axis(kernel_size, self.dimension), per_axis(dilation, self.dimension)
        return self.conv_op(
            channels,
            out_channels,
            kernel,
            padding=tuple(d * (k - 1) // 2 for k, d in zip(kernel, dilations, strict=True)),
            dilation=dilations,
            bias=self.conv_bias if bias is None else bias,
        )

    def transposed_conv(
        self, channels: int, out_channels: int, kernel_size: PerAxis, stride: PerAxis, **padding: PerAxis
    ) -> nn.Module:
        """Transposed convolution; ``padding`` and ``output_padding`` as torch names them."""
        operation = get_matching_convtransp(self.conv_op)
        return operation(
            channels,
            out_channels,
            per_axis(kernel_size, self.dimension),
            per_axis(stride, self.dimension),
            bias=self.conv_bias,
            **padding,
        )

    def norm(self, channels: int) -> nn.Module:
        return nn.Identity() if self.norm_op is None else self.norm_op(channels, **(self.norm_op_kwargs or {}))

    def activation(self) -> nn.Module:
        """The nonlinearity; it may act in place, so give it a tensor that nothing else needs."""
        return nn.Identity() if self.nonlin is None else self.nonlin(**(self.nonlin_kwargs or {}))

    def dropout(self) -> nn.Module:
        return nn.Identity() if self.dropout_op is None else self.dropout_op(**(self.dropout_op_kwargs or {}))

    def conv_blocks(
        self, count: int, channels: int, out_channels: int | Sequence[int], kernel_size: PerAxis
    ) -> nn.Module:
        """``count`` of nnU-Net's blocks (convolution, dropout, norm, nonlinearity), with one width for all or one each;
        none for 0 or fewer."""
        if count < 1:
            return nn.Identity()
        return StackedConvBlocks(
            count,
            input_channels=channels,
            output_channels=out_channels,
            kernel_size=per_axis(kernel_size, self.dimension),
            initial_stride=1,
            **self.arguments(),
        )

    def conv_norm(self, channels: int, out_channels: int, kernel_size: PerAxis) -> nn.Sequential:
        return nn.Sequential(self.conv(channels, out_channels, kernel_size), self.norm(out_channels))


def per_axis(value: PerAxis, dimension: int) -> tuple[int, ...]:
    """One entry an axis: a number is repeated.

    Raises:
        ValueError: a sequence of another length.
    """
    if isinstance(value, int):
        return (value,) * dimension
    if len(value) != dimension:
        raise ValueError(f"expected one number or {dimension}, one an axis; got {list(value)}")
    return tuple(int(entry) for entry in value)


def per_stage(name: str, value: Any, n_stages: int) -> list[Any]:
    """One entry a stage: a number is repeated; entries may be numbers or one number an axis.

    Raises:
        ValueError: a sequence of another length; the text calls it ``name``.
    """
    if isinstance(value, int):
        return [value] * n_stages
    if len(value) != n_stages:
        raise ValueError(f"{name} needs {n_stages} entries; got {len(value)}: {list(value)}")
    return list(value)


def resize_to(x: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Linear resize of (B, C, *spatial) to the spatial ``size``, corners not aligned, in the precision of ``x``."""
    resized = functional.interpolate(x, size=tuple(size), mode=LINEAR_MODES[x.ndim - 2], align_corners=False)
    # Autocast returns float32, and what is joined with it would be kept for the backward pass in float32 too.
    return resized.to(x.dtype)
