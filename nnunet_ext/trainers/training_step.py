"""One step of the optimizer, and the precision of forward passes. nnU-Net's own step fixes precision and the bound of
the gradient; here the recipe decides them."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def autocast(device: torch.device, bf16: bool) -> AbstractContextManager[Any]:
    """bfloat16 on any device, if it is asked for; else nnU-Net's own: float16 on CUDA, float32 elsewhere."""
    if bf16:
        return torch.autocast(device.type, dtype=torch.bfloat16)
    return torch.autocast(device.type) if device.type == "cuda" else nullcontext()


def optimizer_step(trainer: Any, batch: dict[str, Any]) -> dict[str, Any]:
    """Forward and backward pass on a batch, and a step of the optimizer.

    Args:
        trainer: initialized, in training.
        batch: ``"data"`` of shape ``(B, C, Z, Y, X)`` or ``(B, C, Y, X)``, and ``"target"``, one tensor or a list from
            fine to coarse.

    Returns:
        ``{"loss": value}``, as nnU-Net logs it.
    """
    device, recipe, scaler = trainer.device, trainer.recipe, trainer.grad_scaler
    data = batch["data"].to(device, non_blocking=True)
    target = batch["target"]
    target = (
        [scale.to(device, non_blocking=True) for scale in target]
        if isinstance(target, list)
        else target.to(device, non_blocking=True)
    )
    trainer.optimizer.zero_grad(set_to_none=True)
    with autocast(device, recipe.bf16):
        loss = trainer.loss(trainer.network(data), target)
    (loss if scaler is None else scaler.scale(loss)).backward()
    if scaler is not None:
        scaler.unscale_(trainer.optimizer)
    if recipe.gradient_clip is not None:
        torch.nn.utils.clip_grad_norm_(trainer.network.parameters(), recipe.gradient_clip)
    if scaler is None:
        trainer.optimizer.step()
    else:
        scaler.step(trainer.optimizer)
        scaler.update()
    return {"loss": loss.detach().cpu().numpy()}
