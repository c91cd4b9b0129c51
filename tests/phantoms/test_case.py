"""What a user relies on in one synthetic patient."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation
from scipy.ndimage import label as connected
from scipy.stats import rankdata

from nnunet_ext.errors import UserError
from nnunet_ext.phantoms import make_case
from nnunet_ext.phantoms.anatomy import FLUID, make_brain
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.tumour import EDEMA, ENHANCING, NECROSIS

SHAPE = (32, 40, 40)


def _case(seed: int, shape: tuple[int, int, int] = SHAPE):
    return make_case(np.random.default_rng(seed), shape)


def _separation(part: np.ndarray, rest: np.ndarray) -> float:
    """Probability that a voxel of the part is brighter than one of the rest (area under the ROC curve)."""
    ranks = rankdata(np.concatenate([part, rest]))
    return (ranks[: len(part)].sum() - len(part) * (len(part) + 1) / 2) / (len(part) * len(rest))


def test_the_same_seed_gives_the_same_voxels_and_another_seed_another_patient():
    (images, label), (again, label_again), (other, other_label) = _case(3), _case(3), _case(4)
    assert all(np.array_equal(images[s], again[s]) for s in images)
    assert np.array_equal(label, label_again)
    assert not np.array_equal(label, other_label)
    assert not np.array_equal(images["t1"], other["t1"])


def test_images_are_int16_with_the_same_brain_in_all_four_sequences_and_zero_around_it():
    images, label = _case(0)
    assert set(images) == {"t1", "t1ce", "t2", "flair"}
    assert label.dtype == np.uint8
    brain = images["t1"] > 0
    for sequence, image in images.items():
        assert image.dtype == np.int16, sequence
        assert image.shape == SHAPE
        assert image.min() == 0
        assert np.array_equal(image > 0, brain), sequence
    assert 0.25 < brain.mean() < 0.5
    assert brain[label > 0].all(), "tumour outside the brain"


@pytest.mark.parametrize("shape", [(16, 16, 16), (16, 40, 24), (32, 40, 40), (20, 64, 64)])
def test_every_part_fills_several_slices_along_every_axis(shape):
    for seed in range(12):
        _, label = _case(seed, shape)
        assert set(np.unique(label)) == {0, NECROSIS, EDEMA, ENHANCING}
        for axis in range(3):
            across = tuple(a for a in range(3) if a != axis)
            for name, part, share in (
                ("whole", label > 0, 0.2),
                ("core", (label == 1) | (label == 4), 0.15),
                ("enhancing", label == 4, 0.15),
            ):
                slices = part.any(across).sum()
                assert slices >= share * shape[axis], f"{name}, seed {seed}, axis {axis}: {slices} slices"


def test_necrosis_lies_inside_the_core_and_the_core_inside_the_tumour():
    for seed in range(8):
        _, label = _case(seed)
        around = binary_dilation(label == NECROSIS) & (label != NECROSIS)
        assert (label[around] == ENHANCING).mean() > 0.8, "the rim does not enclose the necrosis"
        _, pieces = connected(label > 0)
        assert pieces == 1


def test_parts_left_out_do_not_occur():
    for parts in ({NECROSIS, EDEMA}, {EDEMA}, {ENHANCING, EDEMA}, {NECROSIS, ENHANCING}):
        _, label = make_case(np.random.default_rng(1), SHAPE, parts=frozenset(parts))
        assert set(np.unique(label)) - {0} == parts


@pytest.mark.parametrize(
    ("part", "seen_in", "unseen_in"),
    [
        (EDEMA, {"t2": 1, "flair": 1}, {"t1", "t1ce"}),
        (ENHANCING, {"t1ce": 1, "t2": 1, "flair": 1}, {"t1"}),
        (NECROSIS, {"t1": -1, "t1ce": -1, "t2": 1, "flair": 1}, set()),
    ],
)
def test_a_part_differs_from_healthy_tissue_only_in_the_sequences_that_show_it(part, seen_in, unseen_in):
    values = {s: [] for s in ("t1", "t1ce", "t2", "flair")}
    for seed in range(6):
        images, label = _case(seed)
        brain = make_brain(np.random.default_rng(seed), SHAPE)
        healthy = np.zeros(SHAPE, dtype=bool)
        healthy[brain.box] = (brain.tissue != FLUID) & (brain.tissue != 0) & (brain.depth > 0.25)
        healthy &= label == 0
        for sequence in values:
            values[sequence].append(_separation(images[sequence][label == part], images[sequence][healthy]))
    for sequence, sign in seen_in.items():
        seen = np.mean(values[sequence]) if sign > 0 else 1 - np.mean(values[sequence])
        assert seen > 0.8, f"{sequence} should show part {part}: {seen:.2f}"
    for sequence in unseen_in:
        assert abs(np.mean(values[sequence]) - 0.5) < 0.2, f"{sequence} should hide part {part}: {values[sequence]}"


def test_flair_alone_does_not_tell_enhancing_tumour_from_edema_and_contrast_does():
    flair, t1ce = [], []
    for seed in range(6):
        images, label = _case(seed)
        flair.append(_separation(images["flair"][label == ENHANCING], images["flair"][label == EDEMA]))
        t1ce.append(_separation(images["t1ce"][label == ENHANCING], images["t1ce"][label == EDEMA]))
    assert abs(np.mean(flair) - 0.5) < 0.2
    assert np.mean(t1ce) > 0.9


def test_intensities_mean_nothing_across_patients():
    medians = [np.median(images["t2"][images["t2"] > 0]) for images, _ in (_case(seed) for seed in range(10))]
    assert max(medians) / min(medians) > 1.8


def test_two_scans_of_one_patient_share_the_brain_and_not_the_tumour():
    scans = [make_case(np.random.default_rng(seed), SHAPE, anatomy=np.random.default_rng(9)) for seed in (1, 2)]
    (first, first_label), (second, second_label) = scans
    assert np.array_equal(first["t1"] > 0, second["t1"] > 0)
    assert not np.array_equal(first_label, second_label)


def test_a_shape_too_small_for_anatomy_is_refused():
    with pytest.raises(UserError, match="at least 12 voxels"):
        _case(0, (32, 11, 32))


def test_smooth_fields_have_mean_zero_unit_variance_and_no_jumps():
    generator = np.random.default_rng(0)
    fields = np.stack([smooth_field(generator, (24, 20, 28), (4, 3, 5)) for _ in range(60)])
    assert abs(fields.mean()) < 0.1
    assert 0.8 < fields.std() < 1.2
    for axis in (1, 2, 3):
        assert np.abs(np.diff(fields, axis=axis)).max() < 1.2


def test_a_smooth_field_equals_its_b_spline_evaluated_point_by_point():
    from scipy.interpolate import BSpline

    knots, sizes = (4, 3), (9, 7)
    field = smooth_field(np.random.default_rng(5), sizes, knots)
    coefficients = np.random.default_rng(5).standard_normal((7, 6), dtype=np.float32)
    for axis in range(2):
        spline = BSpline(np.arange(-3, knots[axis] + 4), coefficients, 3, axis=axis)
        coefficients = spline((np.arange(sizes[axis]) + 0.5) * knots[axis] / sizes[axis])
    assert field == pytest.approx(coefficients / (151 / 315), rel=1e-5, abs=1e-5)
