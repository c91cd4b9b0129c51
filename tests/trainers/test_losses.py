"""CFNet's loss: golden values of the authors' code, and the properties nnU-Net's training relies on."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
import torch

from nnunet_ext.trainers.cfnet_loss import DICE_WEIGHT, FOCAL_WEIGHT, DiceFocalLoss
from nnunet_ext.trainers.losses import Float32Loss, in_float32

DICE, CODED_FOCAL, CODED_TOTAL = 0.6988178941493117, 1.0426663509776182, 0.8363572768806343
STANDARD_FOCAL, STANDARD_TOTAL = 0.6293933474658062, 0.6710480754759096


def _values(key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The filling rule of the golden numbers: uniform in [-1, 1), seeded by the CRC-32 of the key."""
    return 2 * np.random.Generator(np.random.PCG64(zlib.crc32(key.encode()))).random(size=shape) - 1


@pytest.fixture
def golden():
    logits = torch.from_numpy(4 * _values("loss:logits", (2, 4, 6, 7)))
    labels = torch.from_numpy(np.floor(2 * (_values("loss:target", (2, 6, 7)) + 1))).long()[:, None]
    return logits, labels


def test_the_inputs_of_the_golden_case_are_reproduced(golden):
    logits, labels = golden
    cross_entropy = torch.nn.functional.cross_entropy(logits, labels[:, 0])
    assert cross_entropy.item() == pytest.approx(2.7904268298706705, rel=1e-12)


def test_dice_and_standard_focal_have_the_golden_value(golden):
    assert DiceFocalLoss()(*golden).item() == pytest.approx(STANDARD_TOTAL, rel=1e-12)
    assert pytest.approx(STANDARD_TOTAL, rel=1e-12) == DICE_WEIGHT * DICE + FOCAL_WEIGHT * STANDARD_FOCAL


def test_the_coded_focal_term_behind_its_option_has_the_golden_value(golden):
    assert DiceFocalLoss(coded_focal=True)(*golden).item() == pytest.approx(CODED_TOTAL, rel=1e-12)
    assert pytest.approx(CODED_TOTAL, rel=1e-12) == DICE_WEIGHT * DICE + FOCAL_WEIGHT * CODED_FOCAL


def test_three_dimensions_give_the_value_of_two(golden):
    logits, labels = golden
    assert DiceFocalLoss()(logits[..., None], labels[..., None]).item() == pytest.approx(STANDARD_TOTAL, rel=1e-12)


def test_ignored_pixels_count_nowhere(golden):
    logits, labels = golden
    ignored, kept = labels.clone(), slice(0, 4)
    ignored[:, :, 4:] = 4
    expected = DiceFocalLoss()(logits[:, :, kept], labels[:, :, kept])
    assert DiceFocalLoss(ignore_label=4)(logits, ignored).item() == pytest.approx(expected.item(), rel=1e-12)


@pytest.mark.parametrize("regions", [False, True])
def test_a_patch_that_is_ignored_wholly_gives_a_finite_loss_without_gradient(regions):
    logits = torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.ones(1, 4, 4, 4) if regions else torch.full((1, 1, 4, 4), 3)
    loss = DiceFocalLoss(regions=regions, ignore_label=3)(logits, target)
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad.abs().max() == 0


def test_regions_against_a_slow_twin():
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    target = torch.rand(2, 4, 4, 5, generator=generator) > 0.5  # the last channel marks ignored pixels
    dice_terms, focal_terms = [], []
    for channel in range(3):
        product, squares = 0.0, 0.0
        for case, y, x in np.ndindex(2, 4, 5):
            if target[case, 3, y, x]:
                continue
            p = 1 / (1 + math.exp(-logits[case, channel, y, x]))
            t = float(target[case, channel, y, x])
            product += p * t
            squares += p * p + t * t
            p_target = p if t else 1 - p
            focal_terms.append(-0.25 * (1 - p_target) ** 2 * math.log(p_target))
        dice_terms.append(1 - (2 * product + 1e-5) / (squares + 1e-5))
    expected = 0.6 * sum(dice_terms) / 3 + 0.4 * sum(focal_terms) / len(focal_terms)
    loss = DiceFocalLoss(regions=True, ignore_label=4)(logits, target)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_the_coded_focal_term_is_refused_for_regions():
    with pytest.raises(ValueError, match="exclusive classes"):
        DiceFocalLoss(regions=True, coded_focal=True)


@pytest.mark.parametrize("regions", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradients_are_finite_for_logits_of_ten_thousand_also_under_autocast(regions, dtype):
    signs = torch.randint(0, 2, (1, 3, 4, 4), generator=torch.Generator().manual_seed(2)) * 2.0 - 1
    logits = (1e4 * signs).to(dtype).requires_grad_()
    shape = (1, 3, 4, 4) if regions else (1, 1, 4, 4)
    target = torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(3))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        loss = DiceFocalLoss(regions=regions)(logits, target)
    loss.backward()
    assert math.isfinite(loss.item())
    assert torch.isfinite(logits.grad).all()


def test_half_precision_is_raised_and_float64_left():
    halves = [torch.zeros(1, dtype=torch.float16), torch.zeros(1, dtype=torch.bfloat16)]
    assert [raised.dtype for raised in in_float32(halves)] == [torch.float32] * 2
    assert in_float32(torch.zeros(1, dtype=torch.float64)).dtype == torch.float64
    seen = []
    Float32Loss(lambda output, _: seen.append(output.dtype))(torch.zeros(1, dtype=torch.bfloat16), None)
    assert seen == [torch.float32]
