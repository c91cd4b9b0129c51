"""Learning rate schedules in closed form, factor = f(epoch, number of epochs): resuming needs no state of them.

The schedule of a family stands in a file of its own, ``trainers/<family>_schedule.py``, and its row names it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnunet_ext import families


def poly(epoch: int, num_epochs: int) -> float:
    """nnU-Net's polynomial decay with exponent 0.9 (Isensee et al. 2021, doi 10.1038/s41592-020-01008-z)."""
    return (1 - epoch / num_epochs) ** 0.9


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
