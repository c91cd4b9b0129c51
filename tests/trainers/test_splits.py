"""Folds of the raw and of the preprocessed folder compared."""

from __future__ import annotations

import json
import os

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


@pytest.mark.parametrize(
    "content",
    [
        *(b"[" * 100_000, b"null", b"\xff", b'[{"train": ["a"]}]', b'[{"train": ["../x"], "val": ["a"]}]'),
        *(b'[{"train": [["a"]], "val": []}]', b'{"train": [], "val": []}'),
    ],
)
def test_what_are_no_folds_are_no_difference(files, content):
    files[1].write_bytes(content)
    assert difference(*files) is None
    assert difference(*reversed(files)) is None


@pytest.mark.skipif(os.name == "nt", reason="pipes in the tree of files")
def test_folds_that_are_a_pipe_or_a_device_are_not_waited_for(files):
    os.mkfifo(files[1])
    assert difference(*files) is None
    files[1].unlink()
    files[1].symlink_to("/dev/zero")
    assert difference(*files) is None


def test_a_missing_file_is_no_difference(files):
    assert difference(*files) is None
    assert difference(files[1], files[0]) is None
