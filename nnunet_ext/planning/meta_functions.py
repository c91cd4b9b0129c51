"""Functions of tensors without data: the shape of the result, and the tensors that autograd keeps, and nothing else.

Attention and dropout keep on the meta device what no GPU keeps: there PyTorch takes them apart into steps. Norms,
leaky ReLU, sums and resizing keep the right tensors there, but take milliseconds, since they are taken apart in Python;
a planner measures thousands of them.

Each function here returns None where it does not know what would be kept: the caller then asks PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Measured(torch.autograd.Function):
    """A step that is measured and never trained."""

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> Any:
        raise NotImplementedError("only measured, never trained")


class _Attention(_Measured):
    """A fused kernel keeps query, key, value, output and one float32 number a row; no matrix."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        # in the order of the query's axes, as the kernels leave it: mostly, to merge the heads then takes no copy
        same = query.shape[-1] == value.shape[-1]
        output = torch.empty_like(query) if same else query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        context.save_for_backward(query, key, value, output, rows, *([] if mask is None else [mask]))
        return output


def attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> torch.Tensor | None:
    """Of a fused kernel; None where a learned bias or dropout makes that doubtful: then the whole matrix is kept."""
    if query.device.type != "meta" or dropout_p or (attn_mask is not None and attn_mask.requires_grad):
        return None
    return _Attention.apply(query, key, value, attn_mask)


def dropout(input: torch.Tensor, p: float = 0.5, training: bool = True, *_: Any) -> torch.Tensor | None:
    """CUDA's kernel keeps one byte an element; the mathematical path keeps a mask in the type of the input."""
    if input.device.type != "meta" or not training or not p:
        return None
    return torch.native_dropout(input, p, training)[0]


class _InstanceNorm(_Measured):
    """Keeps its input, the weight once a sample, and mean and deviation of every channel of every sample."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, weight: torch.Tensor | None, bias: torch.Tensor | None) -> torch.Tensor:
        rows = x.shape[0] * x.shape[1]
        statistic = torch.promote_types(x.dtype, torch.float32)
        kept = [x, *(x.new_empty(rows, dtype=statistic) for _ in range(2))]
        if weight is not None:
            kept.append(weight.new_empty(rows))
        context.save_for_backward(*kept)
        return torch.empty_like(x)


def instance_norm(
    input: torch.Tensor,
    weight: torch.Tensor | None,
    bias: torch.Tensor | None,
    running_mean: torch.Tensor | None,
    running_var: torch.Tensor | None,
    use_input_stats: bool,
    *_: Any,
    **__: Any,
) -> torch.Tensor | None:
    """Without running statistics, and with one weight and bias a channel."""
    wrong = any(x is not None and x.shape != input.shape[1:2] for x in (weight, bias))
    if wrong or not use_input_stats or running_mean is not None or running_var is not None:
        return None
    return _InstanceNorm.apply(input.contiguous(), weight, bias) if input.device.type == "meta" else None


class _LayerNorm(_Measured):
    """Keeps its input, and mean and deviation of every row."""

    @staticmethod
    def forward(
        context: Any, x: torch.Tensor, axes: int, weight: torch.Tensor | None, bias: torch.Tensor | None
    ) -> torch.Tensor:
        statistic = torch.promote_types(x.dtype, torch.float32)
        context.save_for_backward(x, *(x.new_empty(x.shape[:-axes], dtype=statistic) for _ in range(2)))
        return torch.empty_like(x, memory_format=torch.contiguous_format)


def layer_norm(
    input: torch.Tensor,
    normalized_shape: Sequence[int],
    weight: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
    *_: Any,
    **__: Any,
) -> torch.Tensor | None:
    """Of the last axes, with weight and bias of their shape."""
    axes = len(normalized_shape)
    shapes = [tuple(input.shape[-axes:]), *(tuple(x.shape) for x in (weight, bias) if x is not None)]
    if input.device.type != "meta" or not axes or any(shape != tuple(normalized_shape) for shape in shapes):
        return None
    return _LayerNorm.apply(input, axes, weight, bias)


class _LeakyRelu(_Measured):
    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.save_for_backward(x)
        return torch.empty_like(x)


class _LeakyReluInPlace(_Measured):
    """Keeps its result, which is its input's storage."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor) -> torch.Tensor:
        context.mark_dirty(x)
        context.save_for_backward(x)
        return x


def leaky_relu(input: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor | None:
    return _LeakyRelu.apply(input) if input.device.type == "meta" else None


def leaky_relu_in_place(input: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor | None:
    return _LeakyReluInPlace.apply(input) if input.device.type == "meta" else None


class _Sum(_Measured):
    """Keeps nothing."""

    @staticmethod
    def forward(context: Any, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        return torch.empty_like(one)


def add(input: Any, other: Any, *args: Any, **kwargs: Any) -> torch.Tensor | None:
    """Of two tensors of one kind; anything that broadcasts or casts is left to PyTorch."""
    if args or kwargs or not (isinstance(input, torch.Tensor) and isinstance(other, torch.Tensor)):
        return None
    alike = (input.shape, input.stride(), input.dtype) == (other.shape, other.stride(), other.dtype)
    if not alike or input.device.type != "meta" or other.device.type != "meta" or not input.is_floating_point():
        return None
    return _Sum.apply(input, other)


class _Cast(_Measured):
    """Keeps nothing."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return torch.empty_like(x, dtype=dtype)


def cast(x: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """``x`` itself where it has that type already."""
    if x.dtype == dtype or x.device.type != "meta":
        return x.to(dtype)
    result: torch.Tensor = _Cast.apply(x, dtype)
    return result


class _Resized(_Measured):
    """Keeps nothing: the backward pass asks for sizes alone."""

    @staticmethod
    def forward(context: Any, x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
        return x.new_empty(*x.shape[:2], *size)


def resize(input: torch.Tensor, output_size: Sequence[int] | None, *_: Any, **__: Any) -> torch.Tensor | None:
    """To a given size on all spatial axes."""
    known = output_size is not None and len(output_size) == input.ndim - 2
    if not known or input.device.type != "meta" or not input.is_contiguous():
        return None
    return _Resized.apply(input, tuple(output_size))  # type: ignore[arg-type]


#: by the name under which a torch function mode meets them
BY_NAME: dict[str, Callable[..., torch.Tensor | None]] = {
    "scaled_dot_product_attention": attention,
    "dropout": dropout,
    "instance_norm": instance_norm,
    "layer_norm": layer_norm,
    "leaky_relu": leaky_relu,
    "leaky_relu_": leaky_relu_in_place,
    "add": add,
    "__add__": add,
    "upsample_linear1d": resize,
    "upsample_bilinear2d": resize,
    "upsample_trilinear3d": resize,
}


class WithoutInitialisation(TorchFunctionMode):
    """Leaves out the steps by which ``torch.nn.init`` draws values in place, where there are none to draw. Networks
    spend most of their construction on them.

    Such a step has a tensor of floating point numbers, which asks for no gradient at the moment, and numbers of Python.
    Any other step is taken, so that a constructor that would fail with data fails here too.
    """

    _STEPS = frozenset(("normal_", "uniform_", "fill_", "zero_", "erfinv_", "mul_", "add_", "clamp_"))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if args and getattr(func, "__name__", "") in self._STEPS and not torch.is_grad_enabled():
            drawn, *others = args
            numbers = all(isinstance(x, (int, float, torch.Generator, type(None))) for x in (*others, *kwargs.values()))
            if numbers and drawn.device.type == "meta" and drawn.is_floating_point():
                return drawn
        return func(*args, **kwargs)
