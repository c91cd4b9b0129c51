"""Arguments that cannot be are answered in one line that stays readable, and nothing is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.options import Options, parse_splits
from nnunet_ext.errors import UserError

LONG = "9" * 5000


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--splits", "²"], "SPL02: .*no such file.*--splits a number of folds"),
        (["--splits=--"], "--splits needs a value, and -- is none"),
        (["--splits", LONG], "SPL02: .*cannot be read"),
        (["--splits", "-1"], "--splits must be 0 or at least 2"),
        (["-i=--"], "-i needs a value, and -- is none"),
        (["-np=--"], "-np needs a value, and -- is none"),
        (["--seed", "-1"], "--seed must be 0 to 4294967295"),
        (["--seed", str(2**32)], "--seed must be 0 to 4294967295"),
        (["--resize", f"{LONG}x3"], "--resize: .*is no size"),
        (["--resize", "²x²"], "--resize: .*is no size"),
        (["-n", "x" * 10000], "-n: .*is too long for a folder - at most 244 bytes"),
        (["-n", "世" * 90], "-n: .*is too long for a folder"),
        (["-n", f"{LONG}!"], "-n: .*is no name for a folder"),
        (["-d", LONG], "OUT02: dataset id must be 1..999, not 9+[.]{3} .5000 characters"),
        (["-o", "/".join(["d" * 200] * 30)], "OUT04: cannot write .*File name too long"),
    ],
)
def test_an_impossible_argument_is_one_line(
    tmp_path: Path, brats2021: Path, one_line: Callable[..., str], arguments: list[str], told: str
) -> None:
    line = one_line("convert", "brats2021", "-i", brats2021, "-o", tmp_path / "raw", *arguments)
    assert re.search(told, line), line
    assert len(line) < 800 or arguments[0] == "-o"
    assert not (tmp_path / "raw").exists()


def test_the_longest_name_is_taken(tmp_path: Path, brats2021: Path, convert_to: Callable) -> None:
    assert convert_to("brats2021", brats2021, name="x" * 244).complete


def test_splits_are_a_number_or_a_file() -> None:
    assert [parse_splits(text) for text in ("5", "0", "-1", "folds.json", "²", "1.5")] == [
        5,
        0,
        -1,
        "folds.json",
        "²",
        "1.5",
    ]
    with pytest.raises(UserError, match="--seed"):
        Options(seed=-1)


@pytest.mark.parametrize("content", ["{}", "[]", "", '{"labels": null}', '{"labels": {}}'])
def test_a_dataset_json_that_was_damaged_afterwards_is_told(
    brats2021: Path, convert_to: Callable, content: str
) -> None:
    folder = convert_to("brats2021", brats2021).folder
    (folder / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=r"OUT05: .* - --restart converts everything anew") as told:
        convert_to("brats2021", brats2021)
    assert told.value.file == str(folder / "dataset.json")
