"""Error maps: each voxel is right, missed, false or of another label, and their numbers are those of the masks."""

from __future__ import annotations

import numpy as np
import pytest

from nnunet_ext.report.error_map import ANOTHER_LABEL, FALSE, MISSED, RIGHT, count_errors, error_map

NESTED = {"whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)}
EXCLUSIVE = {"liver": (1,), "spleen": (2,)}


def test_missed_and_false_are_the_voxels_of_one_mask_alone():
    rng = np.random.default_rng(0)
    reference, prediction = rng.integers(0, 2, (2, 5, 6, 7)).astype(np.uint8)
    counts = count_errors(error_map(reference, prediction, {"polyp": (1,)}))
    assert counts == {
        "missed": int((reference & ~prediction & 1).sum()),
        "false": int((prediction & ~reference & 1).sum()),
        "another label": 0,
    }


def test_within_nested_regions_an_inner_one_is_missed_or_false():
    reference, prediction = np.array([[0, 1, 3, 3]]), np.array([[0, 3, 1, 0]])
    assert error_map(reference, prediction, NESTED).tolist() == [[RIGHT, FALSE, MISSED, MISSED]]


def test_one_exclusive_label_for_another_is_a_kind_of_its_own():
    reference, prediction = np.array([1, 1, 0, 2, 2]), np.array([2, 0, 1, 2, 1])
    assert error_map(reference, prediction, EXCLUSIVE).tolist() == [ANOTHER_LABEL, MISSED, FALSE, RIGHT, ANOTHER_LABEL]
    assert error_map(reference, prediction, {"spleen": (2,)}).tolist() == [FALSE, RIGHT, RIGHT, RIGHT, MISSED]


def test_ignored_voxels_are_no_errors():
    assert error_map(np.array([9, 9, 1]), np.array([1, 0, 0]), EXCLUSIVE, ignore=9).tolist() == [RIGHT, RIGHT, MISSED]


def test_maps_of_different_shape_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        error_map(np.zeros((2, 3)), np.zeros((3, 2)), EXCLUSIVE)
