"""Parts of a network that are run again in the backward pass, instead of keeping what they computed.

T. Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv 1604.06174, by PyTorch's checkpoint without
reentrance. Results and gradients are those of the part run once.

PyTorch stops running a part again once all that its backward pass asks for is there. A convolution asks for its input
alone, so a part that ends with a convolution never computes it twice: normalisation, activation and concatenation in
front of it are repeated, the costly step is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

#: called with the inputs of a part that would be recomputed; the part runs once within the context that it returns
Observer = Callable[[Sequence[Any]], AbstractContextManager[None]]
_observers: list[Observer] = []


def recomputed(part: Callable[..., Any], *inputs: Any, enabled: bool = True, random: bool = False) -> Any:
    """``part(*inputs)``, of which autograd keeps the inputs and nothing else.

    Args:
        part: gives the same results whenever it is called with the same inputs; it changes no input in place.
        inputs: tensors and other values. Tensors that ``part`` reaches in another way are not counted as kept.
        enabled: False runs ``part`` as it is.
        random: ``part`` draws random numbers, which must be the same the second time.
    """
    if not enabled or not torch.is_grad_enabled():
        return part(*inputs)
    if _observers and not torch.compiler.is_compiling():
        with _observers[-1](inputs):
            return part(*inputs)
    return checkpoint(part, *inputs, use_reentrant=False, preserve_rng_state=random)


def repeatable(module: nn.Module) -> bool:
    """Whether a second run of ``module`` in training leaves no trace: no norm in it counts its runs, as batch norm
    does."""
    return not any(getattr(part, "track_running_stats", False) for part in module.modules())


@contextmanager
def observed(observer: Observer) -> Iterator[None]:
    """Within it nothing is recomputed; ``observer`` is told of each part instead. For measuring what a part keeps."""
    _observers.append(observer)
    try:
        yield
    finally:
        _observers.pop()
