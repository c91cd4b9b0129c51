"""What CUDA would do to tensors without data: autocast's choice of precision, and attention that keeps no matrix.

On the meta device ``torch.autocast`` has no effect, and attention takes its mathematical path. Both would make a
measurement of memory (``memory.py``) tell of another machine. The lists below follow PyTorch's documentation of
autocast on CUDA (operations that go to float16, to float32, to the widest type of their inputs); a test compares them
with the rules that PyTorch itself applies to CUDA tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


def _names(text: str) -> frozenset[str]:
    """Names of functions and methods, as the mode sees them."""
    return frozenset(text.split())


HALF = _names(
    """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc linear bilinear matmul
    __matmul__ __rmatmul__ mm mv bmm addmm addmv addr addbmm baddbmm chain_matmul multi_dot einsum prelu
    scaled_dot_product_attention multi_head_attention_forward gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell"""
)
FULL = _names(
    """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow __pow__ __rpow__ __rtruediv__
    __rdiv__ softplus layer_norm group_norm norm nuclear_norm frobenius_norm cosine_similarity cosine_embedding_loss
    cdist pdist dist renorm normalize softmax log_softmax softmin gumbel_softmax sum nansum prod cumsum cumprod
    logsumexp interpolate upsample cross_entropy nll_loss poisson_nll_loss gaussian_nll_loss kl_div l1_loss
    smooth_l1_loss huber_loss mse_loss margin_ranking_loss hinge_embedding_loss multilabel_margin_loss
    multi_margin_loss soft_margin_loss triplet_margin_loss binary_cross_entropy_with_logits"""
)
WIDEST = _names(
    """cat concat concatenate stack hstack vstack dstack addcdiv addcmul atan2 cross dot vdot grid_sample index_put
    scatter_add tensordot"""
)
_WEIGHTS = (torch.float16, torch.bfloat16, torch.float32)


class CudaRules(TorchFunctionMode):
    """Applies the rules to every torch function within its context.

    Args:
        dtype: half precision of autocast; None for none.

    Attributes:
        copies: the half-precision copies of parameters, one each, that autocast keeps.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        super().__init__()
        self.dtype = dtype
        self.copies: dict[int, torch.Tensor] = {}
        # A mere flag: it does nothing to tensors without data, and a network that switches autocast off for a part of
        # its forward pass clears it there.
        self._flag = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None)

    def __enter__(self) -> CudaRules:
        self._flag.__enter__()
        super().__enter__()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._flag.__exit__(*exception)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if self.dtype is not None and torch.is_autocast_enabled("cpu"):
            if name in HALF:
                args, kwargs = _map((args, kwargs), self._half)
            elif name in FULL:
                args, kwargs = _map((args, kwargs), _full)
            elif name in WIDEST:
                widest = _widest(_tensors((args, kwargs)))
                args, kwargs = _map((args, kwargs), lambda x: x.to(widest) if x.dtype in _WEIGHTS else x)
        if name == "scaled_dot_product_attention":
            fused = _fused_attention(*args, **kwargs)
            if fused is not None:
                return fused
        return func(*args, **kwargs)

    def _half(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype not in _WEIGHTS or x.dtype == self.dtype:
            return x
        if not (x.is_leaf and x.requires_grad):
            return x.to(self.dtype)
        if id(x) not in self.copies:
            self.copies[id(x)] = x.to(self.dtype)
        return self.copies[id(x)]


def _full(x: torch.Tensor) -> torch.Tensor:
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _widest(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    dtype = torch.float16
    for tensor in tensors:
        if tensor.dtype in (*_WEIGHTS, torch.float64):
            dtype = tensor.dtype if dtype == torch.float16 else torch.promote_types(dtype, tensor.dtype)
    return dtype


def _tensors(value: Any) -> Iterable[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from _tensors(entry)
    elif isinstance(value, dict):
        yield from _tensors(list(value.values()))


def _map(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(entry, change) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_map(entry, change) for entry in value)
    return value


class _Attention(torch.autograd.Function):
    """Shape and kept tensors of a fused kernel: query, key, value, output and one float32 number a row; no matrix."""

    @staticmethod
    def forward(
        context: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        rows = query.new_empty(query.shape[:-1], dtype=torch.float32)
        context.save_for_backward(query, key, value, output, rows, *([] if mask is None else [mask]))
        return output

    @staticmethod
    def backward(context: Any, *gradients: torch.Tensor) -> Any:
        raise NotImplementedError("only measured, never trained")


def _fused_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    **_: Any,
) -> torch.Tensor | None:
    """What a fused kernel keeps; None where a learned bias or dropout makes that doubtful: then the whole matrix."""
    if query.device.type != "meta" or dropout_p or (attn_mask is not None and attn_mask.requires_grad):
        return None
    return _Attention.apply(query, key, value, attn_mask)
