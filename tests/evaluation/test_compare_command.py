"""``nnunet_ext compare``: two methods over label maps, from the command line."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.evaluation.statistics import paired

DATASET = {"channel_names": {"0": "T1"}, "labels": {"background": 0, "organ": 1}, "numTraining": 8}
CASES = 8


@pytest.fixture
def folders(tmp_path, write_labels):
    """Eight cubes: ``good`` misses a plane of each, ``bad`` two planes, and in the last case both find nothing."""
    for case in range(CASES):
        known = np.zeros((12, 12, 12), np.uint8)
        known[2:10, 2 : 8 + case % 3, 2:10] = 1
        for folder, missed in (("references", 0), ("good", 1), ("bad", 2)):
            labels = known.copy()
            labels[2 : 2 + missed + (case % 2 if missed else 0)] = 0
            if case == CASES - 1 and missed:
                labels[:] = 0
            write_labels(tmp_path / folder / f"case_{case}.nii.gz", labels, (1.0, 1.0, 1.0))
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, "file_ending": ".nii.gz"}))
    return tmp_path


def run(folder, *more, methods=("bad", "good")):
    words = ["compare", *(str(folder / name) for name in methods), "-r", str(folder / "references"), "-np", "1"]
    return main([*words, "-o", str(folder / "out"), *map(str, more)])


def test_a_difference_is_told_in_numbers_and_words(folders, capsys):
    assert run(folders) == 0
    said = capsys.readouterr().out
    found = json.loads((folders / "out" / "comparison.json").read_text())
    table = pd.read_csv(folders / "out" / "comparison.csv")
    dice, hd95 = found["differences"]
    names = [str(folders / name) for name in ("bad", "good")]
    cases = [
        pd.read_csv(folders / "out" / f"{number}_{name}" / "metrics.csv") for number, name in ((1, "bad"), (2, "good"))
    ]
    expected = paired(*(case["Dice"] for case in cases))
    assert dice["mean_difference"] == pytest.approx(expected.mean)
    assert (dice["p"], dice["better"]) == (pytest.approx(expected.test.p), names[1])
    assert dice["adjusted_p"] == dice["p"], "one pair"
    assert hd95["units"] == CASES - 1, "without a prediction there is no distance"
    assert {"region": "organ", "metric": "HD95", "units": 1} in found["left_out"]
    assert f"{names[1]} is better than {names[0]}" in said
    assert list(table["verdict"]) == [dice["verdict"], hd95["verdict"]]
    assert found["policy"] == "nnunet"


def test_the_policy_of_brats_counts_empty_masks(folders, capsys):
    assert run(folders, "--policy", "brats", "--metrics", "HD95") == 0
    (distance,) = json.loads((folders / "out" / "comparison.json").read_text())["differences"]
    assert (distance["metric"], distance["units"]) == ("HD95_brats", CASES)


def test_cases_that_belong_together_count_as_one(folders, capsys):
    rows = "".join(f"case_{case},patient{case // 4}\n" for case in range(CASES))
    (folders / "groups.csv").write_text(f"case,group\n{rows}")
    assert run(folders, "--groups", folders / "groups.csv", "--metrics", "Dice") == 0
    found = json.loads((folders / "out" / "comparison.json").read_text())
    assert (found["unit"], found["differences"][0]["units"]) == ("group", 2)
    assert "no test can reach" in found["differences"][0]["verdict"]
    assert "groups" in capsys.readouterr().out


def test_a_second_call_measures_nothing_anew_and_says_the_same(folders, capsys):
    assert run(folders, "--json") == 0
    first = capsys.readouterr().out
    assert run(folders, "--json") == 0
    assert capsys.readouterr().out == first


@pytest.mark.parametrize(
    ("change", "methods", "more", "message"),
    [
        ("", ("good",), (), "cannot be compared"),
        ("", ("good", "good"), (), "are the same predictions"),
        ("", ("good", "nothing"), (), "folder not found"),
        ("remove", ("good", "bad"), (), "cannot be evaluated, such as case_3: no prediction"),
        ("", ("good", "bad"), ("--metrics", "Dise"), "there is no metric 'Dise'"),
        ("", ("good", "bad"), ("-f", "0"), "-f chooses folds"),
        ("", ("good", "bad"), ("--groups", "nowhere.csv"), "table of groups cannot be read"),
    ],
)
def test_what_cannot_be_compared_is_one_line(folders, capsys, change, methods, more, message):
    if change == "remove":
        (folders / "bad" / "case_3.nii.gz").unlink()
    assert run(folders, *more, methods=methods) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert message in said[-1]
    assert not (folders / "out" / "comparison.json").exists()


def test_without_references_it_says_what_to_give(folders, capsys):
    assert main(["compare", str(folders / "good"), str(folders / "bad")]) == 2
    assert "give -r REFERENCE, or -d ID" in capsys.readouterr().err
