"""One training step as nnU-Net's trainer makes it: autocast, its loss with deep supervision, scaling, clipping."""

from __future__ import annotations

import gc
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from building import build, memory_format, optimizer_name
from nnunetv2.training.loss.compound_losses import DC_and_CE_loss
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.loss.dice import MemoryEfficientSoftDiceLoss
from subjects import Plan, Subject
from torch import nn

PRECISIONS: dict[str, torch.dtype | None] = {"fp32": None, "fp16": torch.float16, "bf16": torch.bfloat16}
# nnU-Net's bound of the gradient's norm, and a learning rate at which no step matters.
CLIP, LEARNING_RATE = 12, 1e-4


@dataclass
class Training:
    """A network with all that a step needs, on one device.

    Attributes:
        network: in training mode; ``called``: the same, or its compiled form.
        targets: labels at the resolution of each output.
        dtype: of autocast; None: float32 throughout.
    """

    network: nn.Module
    called: Any
    loss: Any
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    image: torch.Tensor
    targets: list[torch.Tensor]
    dtype: torch.dtype | None

    def step(self) -> torch.Tensor:
        """The loss, on the device."""
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.image.device, self.dtype):
            outputs = self.called(self.image)
            if self.dtype is torch.bfloat16:  # as the trainers do: its 8 bits are too few to sum up a Dice
                outputs = [output.float() for output in outputs]
            loss = self.loss(outputs, self.targets)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), CLIP)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss.detach()


def training_of(
    subject: Subject, plan: Plan, device: torch.device, precision: str, backend: str | None = None
) -> Training:
    """
    Args:
        subject, plan: the network and what it is built for.
        device: where it trains.
        precision: of ``PRECISIONS``.
        backend: of ``torch.compile``; None: eager.
    """
    network = build(subject, plan).to(device).train()
    dtype = PRECISIONS[precision]
    options: dict[str, Any] = {"momentum": 0.99, "nesterov": True} if optimizer_name(subject) == "SGD" else {}
    optimizer = getattr(torch.optim, optimizer_name(subject))(network.parameters(), lr=LEARNING_RATE, **options)
    image = torch.randn(plan.shape, device=device)
    if subject.channels_last:
        image = image.to(memory_format=memory_format(plan))
    loss = nnunet_loss(plan)
    if backend is not None:
        loss.loss.dc = torch.compile(loss.loss.dc, backend=backend)  # as nnU-Net does where it compiles
    return Training(
        network=network,
        called=network if backend is None else torch.compile(network, backend=backend),
        loss=loss,
        optimizer=optimizer,
        scaler=torch.amp.GradScaler(device.type, enabled=dtype is torch.float16),
        image=image,
        targets=[
            torch.randint(plan.classes, (plan.batch, 1, *(edge >> level for edge in plan.patch)), device=device)
            for level in range(len(plan.features) - 1)
        ],
        dtype=dtype,
    )


def nnunet_loss(plan: Plan) -> DeepSupervisionWrapper:
    """Dice and cross-entropy; each coarser output counts half as much, the coarsest not at all."""
    options = {"batch_dice": len(plan.patch) == 2, "smooth": 1e-5, "do_bg": False, "ddp": False}
    weights = [1 / 2**level for level in range(len(plan.features) - 2)] + [0.0]
    loss = DC_and_CE_loss(options, {}, dice_class=MemoryEfficientSoftDiceLoss)
    return DeepSupervisionWrapper(loss, [weight / sum(weights) for weight in weights])


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[Any]:
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def as_nnunet_trains(device: torch.device) -> None:
    """The settings of nnU-Net's training command."""
    if device.type == "cuda":
        torch.backends.cudnn.benchmark = True


def release(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
