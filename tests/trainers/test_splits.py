"""Folds of the raw and of the preprocessed folder compared."""

from __future__ import annotations

import json

import pytest

from nnunet_ext.trainers.splits import difference

FOLDS = [{"train": ["b", "c"], "val": ["a"]}, {"train": ["a", "c"], "val": ["b"]}]


@pytest.fixture
def files(tmp_path):
    raw, preprocessed = tmp_path / "raw.json", tmp_path / "preprocessed.json"
    raw.write_text(json.dumps(FOLDS))
    return raw, preprocessed


@pytest.mark.parametrize(
    "folds",
    [
        FOLDS,
        [{"train": ["c", "b"], "val": ["a"]}, FOLDS[1]],
        [*FOLDS, {"train": ["a"], "val": ["c"]}],
    ],
    ids=["equal", "other order", "a further fold"],
)
def test_the_same_folds_are_no_difference(files, folds):
    files[1].write_text(json.dumps(folds))
    assert difference(*files) is None


@pytest.mark.parametrize(
    "folds",
    [[FOLDS[1], FOLDS[0]], FOLDS[:1], [{"train": ["b"], "val": ["a"]}, FOLDS[1]]],
    ids=["folds swapped", "a fold missing", "a case missing"],
)
def test_other_folds_give_one_line_naming_both_files(files, folds):
    files[1].write_text(json.dumps(folds))
    warning = difference(*files)
    assert warning is not None
    assert str(files[0]) in warning
    assert str(files[1]) in warning
    assert "\n" not in warning


def test_a_missing_file_is_no_difference(files):
    assert difference(*files) is None
    assert difference(files[1], files[0]) is None
