"""What CUDA would do to tensors without data: above all autocast's choice of precision.

On the meta device ``torch.autocast`` has no effect, and some functions keep other tensors than on a GPU
(``meta_functions.py``). What ``memory.py`` measures there would therefore not be what a GPU needs. The lists below
follow PyTorch's documentation of autocast on CUDA: which operations run in float16, which in float32, and which in the
widest type of their inputs. A test compares them with the rules that PyTorch itself applies to CUDA tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from nnunet_ext.planning.meta_functions import BY_NAME, cast
from nnunet_ext.planning.private_torch import is_composed, piece_by_piece, warn_of_unknown_autocast


def _names(text: str) -> frozenset[str]:
    """Names of functions and methods, as the mode sees them."""
    return frozenset(text.split())


HALF = _names(
    """conv1d conv2d conv3d conv_transpose1d conv_transpose2d conv_transpose3d conv_tbc linear matmul
    __matmul__ __rmatmul__ mm mv bmm addmm addmv addr addbmm baddbmm chain_matmul multi_dot einsum prelu
    scaled_dot_product_attention gru_cell lstm_cell rnn_tanh_cell rnn_relu_cell"""
)
FULL = _names(
    """acos asin cosh erfinv exp expm1 log log10 log2 log1p reciprocal rsqrt sinh tan pow square __pow__ __rpow__
    __rtruediv__ __rdiv__ softplus layer_norm rms_norm group_norm cosine_similarity cosine_embedding_loss cdist pdist
    dist renorm softmax
    log_softmax sum cumsum logsumexp upsample_nearest1d upsample_nearest2d upsample_nearest3d
    _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d upsample_linear1d upsample_bilinear2d
    _upsample_bilinear2d_aa upsample_trilinear3d upsample_bicubic2d _upsample_bicubic2d_aa cross_entropy_loss
    nll_loss nll_loss2d nll_loss_nd poisson_nll_loss kl_div l1_loss smooth_l1_loss huber_loss mse_loss
    margin_ranking_loss hinge_embedding_loss multilabel_margin_loss multi_margin_loss soft_margin_loss
    triplet_margin_loss binary_cross_entropy_with_logits"""
)
# These give float32 of what they get, and keep that as it is.
FULL_RESULT = _names("norm linalg_norm linalg_vector_norm linalg_matrix_norm prod cumprod")
WIDEST = _names(
    """cat concat concatenate stack hstack vstack dstack addcdiv addcmul atan2 bilinear cross dot vdot grid_sample
    grid_sampler index_put scatter_add tensordot"""
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
        # Does nothing to tensors without data. It is here to be asked: a network that switches autocast off for a part
        # of its forward pass switches this off too.
        self._flag = torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is not None)

    def __enter__(self) -> CudaRules:
        self._flag.__enter__()
        super().__enter__()
        if self.dtype == torch.float16:
            warn_of_unknown_autocast()
        return self

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._flag.__exit__(*exception)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if is_composed(func):
            with _RulesForPieces(self):
                return piece_by_piece(func)(*args, **kwargs)
        name = getattr(func, "__name__", "")
        if self.dtype is not None and torch.is_autocast_enabled("cpu"):
            if name in HALF:
                args, kwargs = _map((args, kwargs), self._half)
            elif name in FULL:
                args, kwargs = _map((args, kwargs), _full)
            elif name in FULL_RESULT and args[0].dtype in (torch.float16, torch.bfloat16):
                kwargs = {**kwargs, "dtype": kwargs.get("dtype") or torch.float32}
            elif name in WIDEST:
                widest = _widest(tensors_in((args, kwargs)))
                args, kwargs = _map((args, kwargs), lambda x: cast(x, widest) if x.dtype in _WEIGHTS else x)
        own = BY_NAME.get(name)
        result = None if own is None else own(*args, **kwargs)
        return func(*args, **kwargs) if result is None else result

    def _half(self, x: torch.Tensor) -> torch.Tensor:
        if self.dtype is None or x.dtype not in _WEIGHTS or x.dtype == self.dtype:
            return x
        if not (x.is_leaf and x.requires_grad):
            return cast(x, self.dtype)
        if id(x) not in self.copies:
            self.copies[id(x)] = cast(x, self.dtype)
        return self.copies[id(x)]


class _RulesForPieces(TorchFunctionMode):
    """Applies the rules to the pieces of a function. PyTorch switches a mode off while its own handler runs, so that a
    second mode is needed there."""

    def __init__(self, rules: CudaRules) -> None:
        super().__init__()
        self._rules = rules

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self._rules.__torch_function__(func, types, args, kwargs)


def _full(x: torch.Tensor) -> torch.Tensor:
    return cast(x, torch.float32) if x.dtype in (torch.float16, torch.bfloat16) else x


def _widest(tensors: Iterable[torch.Tensor]) -> torch.dtype:
    dtype = torch.float16
    for tensor in tensors:
        if tensor.dtype in (*_WEIGHTS, torch.float64):
            dtype = tensor.dtype if dtype == torch.float16 else torch.promote_types(dtype, tensor.dtype)
    return dtype


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors of a nested result or argument."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for entry in value:
            yield from tensors_in(entry)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def _map(value: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _map(entry, change) for key, entry in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_map(entry, change) for entry in value)
    return value
