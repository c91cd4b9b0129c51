"""Learning rate schedules against nnU-Net's and against the published values."""

from __future__ import annotations

import pytest
import torch

from nnunet_ext.trainers.cfformer_schedule import warmup_poly
from nnunet_ext.trainers.cfnet_schedule import cfnet_paper
from nnunet_ext.trainers.schedules import EpochSchedule


def _optimizer():
    return torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)


def test_poly_gives_bit_for_bit_the_learning_rates_of_nnunet():
    from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler

    ours, theirs = _optimizer(), _optimizer()
    schedule, reference = EpochSchedule(ours, 0.01, "poly", 1000), PolyLRScheduler(theirs, 0.01, 1000)
    for epoch in (0, 1, 499, 999):
        schedule.step(epoch)
        reference.step(epoch)
        assert ours.param_groups[0]["lr"] == theirs.param_groups[0]["lr"]


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 9.60e-3), (10, 4.24e-3), (50, 1.62e-4), (100, 2.73e-6), (199, 8.4e-10)]
)
def test_the_published_schedule_has_the_values_of_the_authors_code_at_200_epochs(epoch, rate):
    optimizer = _optimizer()
    EpochSchedule(optimizer, 0.01, "cfnet_paper", 200).step(epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=6e-3)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(0.01 * 0.96 ** (2 * epoch + 1), rel=1e-12)


@pytest.mark.parametrize(
    ("epoch", "rate"), [(0, 3e-5), (8, 2.7e-4), (9, 3e-4), (10, 3e-4), (70, 3e-4 * 0.5**0.9), (129, 3e-4 / 120**0.9)]
)
def test_the_warm_up_of_cfformer_has_the_papers_values_at_130_epochs(epoch, rate):
    optimizer = _optimizer()
    EpochSchedule(optimizer, 3e-4, "warmup_poly", 130).step(epoch)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("epochs", [1, 2, 13, 77, 1000])
def test_the_warm_up_takes_its_share_of_any_number_of_epochs_and_rates_stay_above_zero(epochs):
    rates = [warmup_poly(epoch, epochs) for epoch in range(epochs)]
    assert min(rates) > 0
    assert max(rates) == 1
    assert rates.index(1.0) + 1 == max(1, round(epochs / 13))


def test_the_published_schedule_is_stretched_over_the_epochs_trained():
    assert cfnet_paper(500, 1000) == pytest.approx(cfnet_paper(100, 200), rel=1e-12)
