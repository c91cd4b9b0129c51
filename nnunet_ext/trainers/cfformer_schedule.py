"""The learning rate schedule of CFFormer, a factor of epoch and number of epochs."""

from __future__ import annotations


def warmup_poly(epoch: int, num_epochs: int) -> float:
    """Linear warm-up, then polynomial decay with exponent 0.9, as an article reports of CFFormer (arXiv
    2501.03629): 10 and 120 of 130 epochs, and the same shares of any other number."""
    warm_up = max(1, round(num_epochs * 10 / 130))
    if epoch < warm_up:
        return (epoch + 1) / warm_up
    return (1 - (epoch - warm_up) / (num_epochs - warm_up)) ** 0.9
