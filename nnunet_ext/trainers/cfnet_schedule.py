"""The learning rate schedule of CFNet, a factor of epoch and number of epochs."""

from __future__ import annotations


def cfnet_paper(epoch: int, num_epochs: int) -> float:
    """The exponential decay of CFNet's published code, 0.96 twice per epoch over 200 epochs: 0.96^(2e+1).

    Those 200 epochs are mapped onto ``num_epochs``: 0.96^(1 + 400 e / num_epochs), equal to the code at 200.
    """
    return 0.96 ** (1 + 400 * epoch / num_epochs)
