"""The peak of memory while a network predicts, found on tensors without data."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnunet_ext.planning.cuda_rules import CudaRules, tensors_in


def forward_peak(network: nn.Module, input_shape: Sequence[int], dtype: torch.dtype | None = None) -> int:
    """Most bytes alive at once during a forward pass without gradient: activations, the input, copies of weights.

    Results of single functions are counted, not what a function needs inside.

    Args:
        network: built within ``torch.device("meta")``.
        input_shape: batch first; float32.
        dtype: half precision of autocast, or None.
    """
    image = torch.empty(tuple(input_shape), device="meta")
    living = _Living({id(parameter.untyped_storage()) for parameter in network.parameters()})
    with torch.no_grad(), living, CudaRules(dtype):
        living.add(image)
        outputs = network(image)
        del outputs
    return living.peak


class _Living(TorchFunctionMode):
    """Adds up the storages that functions return, until the last tensor of each is gone."""

    def __init__(self, ignored: set[int]) -> None:
        super().__init__()
        self._known = set(ignored)
        self.now = self.peak = 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tensors_in(result):
            self.add(tensor)
        return result

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = id(storage), storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size
