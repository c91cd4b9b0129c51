"""How a network is trained, as data. The defaults are nnU-Net's own (2.8.1), so a trainer names only what differs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


def _nnunet_momentum() -> Mapping[str, Any]:
    return {"momentum": 0.99, "nesterov": True}


@dataclass(frozen=True)
class Recipe:
    """Everything a trainer decides beyond the network. Written into each checkpoint.

    Args:
        optimizer: name of a class of ``torch.optim``.
        optimizer_options: its keyword arguments besides learning rate and weight decay.
        learning_rate: at the schedule's factor 1.
        weight_decay: on all parameters.
        schedule: ``"poly"``, or the key of a family's schedule, a closed form of the epoch.
        loss: ``"nnunet"`` (Dice + cross-entropy, for regions Dice + binary cross-entropy), or the key of a family's
            loss.
        gradient_clip: largest norm of the gradient over all parameters; None: not clipped.
        epochs, iterations, validation_iterations: length of training; iterations are per epoch.
        augmentation: nnU-Net's augmentation of training patches.
        mirroring: augmentation and test-time augmentation by mirroring.
        deep_supervision: loss at every resolution of the decoder.
        bf16: autocast in bfloat16, without gradient scaling, on any device; otherwise nnU-Net's own: float16 with
            scaling on CUDA, float32 elsewhere.
        network_options: keyword arguments of the network's constructor beyond those of the plans.
        undecayed: parameters whose names hold one of these get no weight decay.
        seed: fixes initialisation, sampling and augmentation; None: not seeded.
    """

    optimizer: str = "SGD"
    optimizer_options: Mapping[str, Any] = field(default_factory=_nnunet_momentum)
    learning_rate: float = 1e-2
    weight_decay: float = 3e-5
    schedule: str = "poly"
    loss: str = "nnunet"
    gradient_clip: float | None = 12.0
    epochs: int = 1000
    iterations: int = 250
    validation_iterations: int = 50
    augmentation: bool = True
    mirroring: bool = True
    deep_supervision: bool = True
    bf16: bool = False
    network_options: Mapping[str, Any] = field(default_factory=dict)
    undecayed: tuple[str, ...] = ()
    seed: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain types only, for checkpoints and logs."""
        mappings = {name: dict(getattr(self, name)) for name in ("optimizer_options", "network_options")}
        return {**asdict(self), **mappings, "undecayed": list(self.undecayed)}
