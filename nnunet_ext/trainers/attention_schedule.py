"""The learning rate schedule of the Progressive Attention Module's code, a factor of epoch and number of epochs."""

from __future__ import annotations

#: a tenth after every 10 of 80 epochs
STEPS = 8


def pam_paper(epoch: int, num_epochs: int) -> float:
    """A tenth after each eighth of the training: the code's 80 epochs with a step every 10, mapped onto ``num_epochs``.

    From the fourth eighth on the rate is a thousandth and less, so that hardly anything is learnt there.
    """
    return float(0.1 ** (STEPS * epoch // num_epochs))
