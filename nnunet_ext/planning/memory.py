"""The memory that training a network needs, found without allocating any: what autograd really keeps.

``measure`` runs one forward pass, on the meta device in tenths of a second whatever the size, and counts the distinct
storages that autograd saves for the backward pass, and what parts that are recomputed there add to them. The planner,
``nnunet_ext estimate``, the trainers' first line and ``nnunet_ext list networks`` use this one figure (docs/planning.md
says how far it is true).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnunet_ext.architectures.blocks.recompute import observed
from nnunet_ext.errors import reason_of
from nnunet_ext.planning.cuda_rules import CudaRules, tensors_in
from nnunet_ext.planning.meta_functions import WithoutInitialisation

TOP = "(network)"  # under this name goes what the network itself saves, outside its children

# The gradient of the largest kept activation and a copy of it live at the start of the backward pass. Measured on the
# CPU with PyTorch's profiler, nnU-Net's loss with deep supervision: 2.01 times that activation for PlainConvUNet and
# ResidualEncoderUNet, 2D and 3D (torch 2.15).
BACKWARD_COPIES = 2


@dataclass(frozen=True)
class Memory:
    """What one training-mode forward pass keeps. All in bytes but the counts.

    Attributes:
        parameters, trainable: numbers of parameters.
        activations: kept for the backward pass, without parameters, inputs and copies of weights.
        weight_copies: half-precision copies of weights that autocast keeps; independent of batch and patch.
        inputs, outputs: the inputs kept, and what the network returns.
        transient: what the backward pass needs beyond the kept activations at its peak, gradients of parameters not
            counted: the gradient of the largest activation and a copy of it, or more where a recomputed part needs it.
        parts: activations by child of the network that saved them first.
        multiply_adds: of the forward pass, in convolutions, linear layers, products of matrices and attention.
    """

    parameters: int
    trainable: int
    activations: int
    weight_copies: int
    inputs: int
    outputs: int
    transient: int
    parts: dict[str, int] = field(default_factory=dict)
    multiply_adds: int = 0


def measure(
    network: nn.Module, *input_shapes: Sequence[int], dtype: torch.dtype | None = None, multiply_adds: bool = True
) -> Memory:
    """Measure one forward pass.

    Args:
        network: built within ``torch.device("meta")``, so that nothing is allocated. On another device the pass really
            runs there (which is how the tests tell that the figures are true).
        input_shapes: of the inputs in order, batch first; float32.
        dtype: ``torch.float16`` or ``torch.bfloat16`` for autocast as CUDA does it; None for float32.
        multiply_adds: count them too, in a second pass.

    Raises:
        ValueError: the network needs the values of its input, which tensors without data have not.
    """
    parameters = list(network.parameters())
    device = parameters[0].device if parameters else torch.device("meta")
    inputs = [torch.empty(tuple(shape), device=device) for shape in input_shapes]
    meta = device.type == "meta"
    rules = CudaRules(dtype) if meta else None
    precision: AbstractContextManager[Any] = (
        rules or nullcontext() if meta or dtype is None else torch.autocast(device.type, dtype=dtype)
    )
    ledger = _Ledger(parameters, inputs)
    with ledger.follow(network), observed(ledger.recomputed), torch.enable_grad(), precision:
        try:
            with torch.autograd.graph.saved_tensors_hooks(ledger.save, lambda tensor: tensor):
                outputs = network(*inputs)
        except (RuntimeError, NotImplementedError, TypeError) as error:  # the last from numpy
            if not meta:
                raise
            where = "" if ledger.part == TOP else f", in its part {ledger.part}"
            raise ValueError(
                f"{type(network).__name__} cannot be measured without data{where}: {reason_of(error)}"
            ) from error
    copies = {id(copy.untyped_storage()) for copy in rules.copies.values()} if rules else set()
    activations = {key: entry for key, entry in ledger.kept.items() if key not in copies}
    parts: dict[str, int] = {}
    for storage, part in activations.values():
        parts[part] = parts.get(part, 0) + storage.nbytes()
    return Memory(
        parameters=sum(parameter.numel() for parameter in parameters),
        trainable=sum(parameter.numel() for parameter in parameters if parameter.requires_grad),
        activations=sum(parts.values()),
        weight_copies=sum(storage.nbytes() for key, (storage, _) in ledger.kept.items() if key in copies),
        inputs=sum(storage.nbytes() for storage in ledger.kept_inputs.values()),
        outputs=sum({id(s): s.nbytes() for s in (t.untyped_storage() for t in tensors_in(outputs))}.values()),
        transient=max(
            [BACKWARD_COPIES * max((storage.nbytes() for storage, _ in activations.values()), default=0)]
            + [part.peak(copies) - sum(parts.values()) for part in ledger.again]
        ),
        parts=parts,
        multiply_adds=_multiply_adds(network, inputs) if multiply_adds else 0,
    )


def built_without_data(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that ``build`` makes, on the meta device.

    Raises:
        ValueError: its constructor refuses, or needs the values of tensors.
    """
    try:
        with torch.device("meta"), WithoutInitialisation():
            return build()
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise ValueError(f"the network cannot be built without data: {reason_of(error)}") from error


def measure_sample(
    network: nn.Module, sample_shape: Sequence[int], dtype: torch.dtype | None = None, multiply_adds: bool = True
) -> Memory:
    """One sample's share of a batch, to multiply by the size of any batch but one.

    It is half of what a batch of two keeps. A batch of one would say too little: there a linear layer takes transposed
    tokens as a view, while in every larger batch it copies them (CFNet keeps 3 to 8 % more a sample than a batch of one
    does). What a network keeps once, whatever the batch, is counted for every second sample, which is rather too much.

    Args:
        network, dtype, multiply_adds: as of ``measure``.
        sample_shape: of the input without its batch.
    """
    pair = measure(network, (2, *sample_shape), dtype=dtype, multiply_adds=multiply_adds)
    return replace(
        pair,
        activations=sum(size // 2 for size in pair.parts.values()),
        inputs=pair.inputs // 2,
        outputs=pair.outputs // 2,
        transient=pair.transient // 2,
        parts={part: size // 2 for part, size in pair.parts.items()},
        multiply_adds=pair.multiply_adds // 2,
    )


@dataclass
class _Recomputed:
    """One part that is run again in the backward pass.

    Attributes:
        before: storages kept when it had run, its inputs among them: those that are still there at its turn in the
            backward pass.
        inside: storages that it then makes and keeps.
        gradients: bytes of the gradients of its outputs and of its inputs.
    """

    before: list[tuple[int, int]] = field(default_factory=list)
    inside: dict[int, torch.UntypedStorage] = field(default_factory=dict)
    gradients: int = 0

    def peak(self, copies: Collection[int]) -> int:
        """Bytes at its turn in the backward pass; ``copies`` are the copies of weights, which are counted elsewhere."""
        inside = [storage.nbytes() for key, storage in self.inside.items() if key not in copies]
        before = sum(size for key, size in self.before if key not in copies)
        return before + sum(inside) + self.gradients + BACKWARD_COPIES * max(inside, default=0)


class _Ledger:
    """Storages that autograd saves, each once, under the part of the network that was running.

    A storage, not a tensor, is the unit: views share it, and a small view keeps the whole of it alive. Python hands out
    one object a storage as long as one is held, so that its identity can be the key, also on the meta device.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor]) -> None:
        self._own = [parameter.untyped_storage() for parameter in parameters]
        self._inputs = {id(s): s for s in (tensor.untyped_storage() for tensor in inputs)}
        self._ignored = {id(storage) for storage in self._own}
        self._running = [TOP]
        self.kept: dict[int, tuple[torch.UntypedStorage, str]] = {}
        self.kept_inputs: dict[int, torch.UntypedStorage] = {}
        self.again: list[_Recomputed] = []
        self._within_part = False

    @property
    def part(self) -> str:
        return self._running[-1]

    def save(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if id(storage) in self._inputs:
            self.kept_inputs[id(storage)] = storage
        elif id(storage) not in self._ignored:
            self.kept.setdefault(id(storage), (storage, self.part))
        return tensor

    def recomputed(self, part: Callable[..., Any], inputs: Sequence[Any]) -> Any:
        """Run a part of which the inputs alone are kept, and these only if its backward pass asks for anything. A part
        within a part is taken for a piece of the outer one."""
        if self._within_part:
            return part(*inputs)
        found = _Recomputed()

        def save(tensor: torch.Tensor) -> torch.Tensor:
            storage = tensor.untyped_storage()
            key = id(storage)
            if key not in self._ignored and key not in self._inputs and key not in self.kept:
                found.inside[key] = storage
            return tensor

        self._within_part = True
        try:
            with torch.autograd.graph.saved_tensors_hooks(save, lambda tensor: tensor):
                outputs = part(*inputs)
        finally:
            self._within_part = False
        if found.inside:
            for tensor in tensors_in(inputs):
                self.save(tensor)
                found.inside.pop(id(tensor.untyped_storage()), None)
            found.before = [(key, storage.nbytes()) for key, (storage, _) in self.kept.items()]
            found.gradients = sum(x.nbytes for x in tensors_in([inputs, outputs]) if x.requires_grad)
            self.again.append(found)
        return outputs

    @contextmanager
    def follow(self, network: nn.Module) -> Iterator[None]:
        """Keep ``part`` up to date while the network runs."""
        # Buffers are the network's own like parameters.
        buffers = [buffer.untyped_storage() for buffer in network.buffers()]
        self._own += buffers
        self._ignored |= {id(storage) for storage in buffers}
        handles = []
        for name, child in network.named_children():
            # A list of modules is never called itself; what it holds is.
            for module in child.children() if isinstance(child, (nn.ModuleList, nn.ModuleDict)) else [child]:
                handles.append(module.register_forward_pre_hook(self._enter(name)))
                handles.append(module.register_forward_hook(self._leave))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _enter(self, name: str) -> Callable[..., None]:
        def enter(*_: Any) -> None:
            self._running.append(name)

        return enter

    def _leave(self, *_: Any) -> None:
        self._running.pop()


def _multiply_adds(network: nn.Module, inputs: Sequence[torch.Tensor]) -> int:
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        network(*inputs)
    return counter.get_total_flops() // 2
