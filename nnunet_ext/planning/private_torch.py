"""What this plugin knows of the inside of PyTorch, which no release promises to keep. Read in torch 2.15.0.

``tests/planning/test_private_torch.py`` fails where a release has changed it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any, TypeGuard

import torch
from torch import nn
from torch.nn import functional


def is_composed(func: Callable[..., Any]) -> TypeGuard[FunctionType]:
    """Whether a function of ``torch.nn.functional`` is written in Python and made of other functions of torch, as
    ``normalize`` is of a norm and a division.

    Functions with a closure, such as ``max_pool2d``, are left out: they only choose between two others, one that
    returns indices and one that does not.
    """
    return isinstance(func, FunctionType) and func.__module__ == functional.__name__ and not func.__closure__


@cache
def piece_by_piece(func: FunctionType) -> FunctionType:
    """The same function, whose pieces a ``TorchFunctionMode`` gets to see one by one.

    As it stands, a function of ``torch.nn.functional`` hands itself to the mode as a whole. Autocast, however, decides
    on the pieces: of ``normalize`` the norm runs in float32. The code of the function is therefore run with the
    checks (``has_torch_function...``) that hand it over answering no.
    """
    opened = FunctionType(func.__code__, _globals_without_dispatch(), func.__name__, func.__defaults__)
    opened.__kwdefaults__ = func.__kwdefaults__
    return opened


@cache
def _globals_without_dispatch() -> dict[str, Any]:
    never = {name: lambda *_: False for name in vars(functional) if name.startswith("has_torch_function")}
    return {**vars(functional), **never}


@cache
def warn_of_unknown_autocast() -> None:
    """Warn, once, where a release of PyTorch has changed what ``piece_by_piece`` relies on. Called while the rules of
    autocast on CUDA are on."""
    half = torch.empty(2, 4, dtype=torch.float16, device="meta")
    if functional.normalize(half).dtype != torch.float32 or functional.gelu(half).dtype != torch.float16:
        warnings.warn(
            f"torch {torch.__version__} applies autocast in a way that this plugin does not know: estimates of memory "
            "under autocast may be wrong",
            stacklevel=3,
        )


def uncompiled(network: nn.Module) -> nn.Module:
    """The network inside what ``torch.compile`` made of it, or the network itself if it is not compiled."""
    inner = getattr(network, "_orig_mod", network)
    return inner if isinstance(inner, nn.Module) else network
