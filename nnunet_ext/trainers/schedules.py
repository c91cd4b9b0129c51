"""Learning rate schedules in closed form, factor = f(epoch, number of epochs): resuming needs no state of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunet_ext import families


def poly(epoch: int, num_epochs: int) -> float:
    """nnU-Net's polynomial decay with exponent 0.9 (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z)."""
    return (1 - epoch / num_epochs) ** 0.9


def cfnet_paper(epoch: int, num_epochs: int) -> float:
    """The exponential decay of CFNet's published code, 0.96 twice per epoch over 200 epochs: 0.96^(2e+1).

    Those 200 epochs are mapped onto ``num_epochs``: 0.96^(1 + 400 e / num_epochs), equal to the code at 200.
    """
    return 0.96 ** (1 + 400 * epoch / num_epochs)


def warmup_poly(epoch: int, num_epochs: int) -> float:
    """Linear warm-up, then polynomial decay with exponent 0.9, as an article reports of CFFormer (arXiv
    2501.03629): 10 and 120 of 130 epochs, and the same shares of any other number."""
    warm_up = max(1, round(num_epochs * 10 / 130))
    if epoch < warm_up:
        return (epoch + 1) / warm_up
    return (1 - (epoch - warm_up) / (num_epochs - warm_up)) ** 0.9


def schedule_of(key: str) -> Callable[[int, int], float]:
    """The schedule that a recipe names.

    Raises:
        KeyError: there is none.
    """
    return poly if key == "poly" else families.load(families.SCHEDULES[key].function_path)


class EpochSchedule:
    """Sets the learning rate of every parameter group from the epoch that nnU-Net hands to ``step``."""

    def __init__(self, optimizer: Any, learning_rate: float, schedule: str, num_epochs: int) -> None:
        self.optimizer = optimizer
        self.learning_rate = learning_rate
        self.factor = schedule_of(schedule)
        self.num_epochs = num_epochs

    def step(self, epoch: int) -> None:
        """Called at the start of each epoch, counted from 0."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate * self.factor(epoch, self.num_epochs)
