"""Parts of a network that are run again in the backward pass, instead of keeping what they computed.

T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174, by PyTorch's checkpoint without
reentrance. Results and gradients are those of the part run once.

A part that ends with a convolution never computes it twice: what stands in front of it (normalisation, activation,
concatenation) is repeated, the costly step is not. PyTorch stops running a part again once all that its backward pass
asks for is there, and a convolution asks for its input alone; where a network is compiled, the compiler is told to keep
the result. A part that draws random numbers is the exception: outside the compiler it is repeated to its end.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint, set_checkpoint_early_stop

try:
    from torch.utils.checkpoint import create_selective_checkpoint_contexts
except ImportError:  # before torch 2.5: a compiled network repeats these convolutions
    create_selective_checkpoint_contexts = None  # type: ignore[assignment]

#: runs a part that would be recomputed: called with the part and its inputs, returns its outputs
Observer = Callable[[Callable[..., Any], Sequence[Any]], Any]
_KEEP_CONVOLUTIONS = partial(create_selective_checkpoint_contexts, [torch.ops.aten.convolution.default])
_RANDOM = (nn.RReLU, nn.modules.dropout._DropoutNd)


class _Observers(threading.local):
    def __init__(self) -> None:
        self.stack: list[Observer] = []


_observers = _Observers()


def recomputed(
    part: Callable[..., Any],
    *inputs: Any,
    enabled: bool = True,
    random: bool = False,
    ends_with_convolution: bool = False,
) -> Any:
    """``part(*inputs)``, of which autograd keeps the inputs and nothing else.

    Args:
        part: gives the same results whenever it is called with the same inputs; it changes no input in place.
        inputs: tensors and other values. Tensors that ``part`` reaches in another way are not counted as kept.
        enabled: False runs ``part`` as it is.
        random: ``part`` draws random numbers, which must be the same the second time. It is then repeated to its end.
        ends_with_convolution: the last step, and no other, is a convolution.
    """
    if not enabled or not torch.is_grad_enabled():
        return part(*inputs)
    options: dict[str, Any] = {}
    if torch.compiler.is_compiling():
        if ends_with_convolution and create_selective_checkpoint_contexts is not None:
            options["context_fn"] = _KEEP_CONVOLUTIONS
        return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=random, **options)
    if _observers.stack:
        return _observers.stack[-1](part, inputs)
    # RReLU asks for the numbers that it has yet to draw: a repetition that stops there would leave them undrawn.
    with set_checkpoint_early_stop(False) if random else nullcontext():
        return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=random)


def repeatable(module: nn.Module) -> bool:
    """Whether a second run of ``module`` in training leaves no trace: no norm in it counts its runs, as batch norm
    does."""
    return not any(getattr(part, "track_running_stats", False) for part in module.modules())


def makes_new_tensor(norm: nn.Module | None) -> bool:
    """Whether there is a norm. Without one, a nonlinearity that acts in place changes what it is given: a part that
    begins so would change its own input, and cannot be repeated."""
    return norm is not None and not isinstance(norm, nn.Identity)


def draws_random_numbers(module: nn.Module) -> bool:
    """Whether a layer of ``module`` does so in training, as dropout does."""
    return any(isinstance(part, _RANDOM) for part in module.modules())


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Within it, in this thread, nothing is recomputed; ``observer`` runs each part instead. For measuring."""
    _observers.stack.append(observer)
    try:
        yield
    finally:
        _observers.stack.pop()
