"""Two researchers with one download get one ``splits_final.json``, whatever versions they have installed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "folds.json").read_text())
PHANTOMS = [words for words in GOLDEN if "cases" not in words]


@pytest.mark.parametrize("words", PHANTOMS)
def test_phantoms_are_divided_as_ever(words: str, pristine, command, nnunet_folders) -> None:
    name, *options = words.split()
    done = command("convert", name, "-i", pristine(name, quirks=True, cases=14), *options)
    assert done.code == 0, done.err
    (file,) = nnunet_folders.raw.glob("*/splits_final.json")
    fold_of = {case: number for number, fold in enumerate(json.loads(file.read_text())) for case in fold["val"]}
    assert "".join(str(fold_of[case]) for case in sorted(fold_of)) == GOLDEN[words]
