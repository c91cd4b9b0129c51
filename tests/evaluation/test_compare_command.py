"""``nnunet_ext compare``: two methods over label maps, from the command line."""

from __future__ import annotations

import json
import shutil

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


MODELS = [f"{trainer}__nnUNetPlans__3d_fullres" for trainer in ("nnUNetTrainer", "nnUNetTrainerCFNet")]


@pytest.fixture
def trained(tmp_path, monkeypatch, write_labels):
    """Two models of two folds each; the conversion says that two cases each are of one patient."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    raw, preprocessed, results = (tmp_path / name / "Dataset137_Test" for name in ("raw", "preprocessed", "results"))
    cases = [f"case_{case}" for case in range(CASES)]
    for number, case in enumerate(cases):
        known = np.zeros((8, 8, 8), np.uint8)
        known[2:6, 2:6, 2:6] = 1
        write_labels(preprocessed / "gt_segmentations" / f"{case}.nii.gz", known)
        for model, missed in zip(MODELS, (2, 1), strict=True):
            labels = known.copy()
            labels[2 : 2 + missed] = 0
            write_labels(results / model / f"fold_{number % 2}" / "validation" / f"{case}.nii.gz", labels)
    for folder in (preprocessed, *(results / model for model in MODELS)):
        (folder / "dataset.json").write_text(json.dumps({**DATASET, "file_ending": ".nii.gz"}))
    splits = [{"train": cases[1 - fold :: 2], "val": cases[fold::2]} for fold in range(2)]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    raw.mkdir(parents=True)
    record = [{"outputs": [case], "group": f"patient{number // 2}"} for number, case in enumerate(cases)]
    (raw / "provenance.json").write_text(json.dumps({"schema": 1, "dataset": "toy", "cases": record}))
    return tmp_path


def test_models_of_a_dataset_are_compared_by_name_and_its_patients_are_known(trained, capsys):
    assert main(["compare", "-d", "137", "-np", "1", *MODELS]) == 0
    found = json.loads((trained / "here" / "comparison" / "comparison.json").read_text())
    dice = found["differences"][0]
    assert (dice["first"], dice["second"]) == tuple(MODELS)
    assert (found["unit"], dice["units"]) == ("group", CASES // 2)
    assert dice["mean_difference"] == pytest.approx(2 * 48 / (48 + 64) - 2 * 32 / (32 + 64), abs=1e-6)
    assert "no test can reach" in dice["verdict"], "four patients, eight cases"


def test_models_of_other_folds_are_refused(trained, capsys):
    assert main(["compare", "-d", "137", *MODELS, "-np", "1", "-f", "0"]) == 0
    shutil.rmtree(trained / "results" / "Dataset137_Test" / MODELS[1] / "fold_1")
    assert main(["compare", "-d", "137", "-np", "1", "-o", "other", *MODELS]) == 2
    assert "has the folds 0, 1" in capsys.readouterr().err
