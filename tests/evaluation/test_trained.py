"""``nnunet_ext evaluate -d``: what nnU-Net's cross-validation leaves, each case once, by name."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main

DATASET = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "organ": 1},
    "numTraining": 6,
    "file_ending": ".nii.gz",
}
CASES = [f"case_{number}" for number in range(6)]
FOLDS = (CASES[::3], CASES[1::3], CASES[2::3])
MODEL = "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres"
ENSEMBLE = f"ensemble___{MODEL}___nnUNetTrainerCFNet__nnUNetPlans__2d___0_1_2"


@pytest.fixture
def nnunet(tmp_path, monkeypatch, write_labels):
    """nnU-Net's folders after three folds and nnUNetv2_find_best_configuration; the working directory is elsewhere."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    results, preprocessed = (tmp_path / name / "Dataset137_Test" for name in ("results", "preprocessed"))
    rng = np.random.default_rng(5)
    joined = (results / MODEL / "crossval_results_folds_0_1_2", results / "ensembles" / ENSEMBLE)
    for fold, cases in enumerate(FOLDS):
        for case in cases:
            labels = (rng.random((5, 6, 7)) < 0.4).astype(np.uint8)
            write_labels(preprocessed / "gt_segmentations" / f"{case}.nii.gz", labels)
            labels[rng.random(labels.shape) < 0.1] = 0
            for folder in (results / MODEL / f"fold_{fold}" / "validation", *joined):
                write_labels(folder / f"{case}.nii.gz", labels)
            labels[:2] = 0
            for folder in joined:
                write_labels(folder / "postprocessed" / f"{case}.nii.gz", labels)
    for folder in (results / MODEL, preprocessed):
        (folder / "dataset.json").write_text(json.dumps(DATASET))
    splits = [{"train": [c for c in CASES if c not in fold], "val": list(fold)} for fold in FOLDS]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    return tmp_path


def evaluate(*more):
    return main(["evaluate", "-d", "137", "-np", "1", "--metrics", "Dice", *more])


def results(folder="."):
    (found,) = Path(folder).glob("*_evaluation")
    return pd.read_csv(found / "metrics.csv"), json.loads((found / "metrics.json").read_text())


def every_file(folder):
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and "here" not in file.parts}


def test_all_folds_are_joined_each_case_once_and_nnunets_folders_stay_as_they_are(nnunet):
    before = every_file(nnunet)
    assert evaluate("-tr", "nnUNetTrainerCFNet", "-p", "nnUNetPlans", "-c", "3d_fullres") == 0
    table, summary = results()
    assert table["case"].tolist() == CASES
    assert table["fold"].tolist() == [0, 1, 2, 0, 1, 2]
    assert summary["folds"] == ["0", "1", "2"]
    assert summary["mean"]["organ"]["Dice"]["mean"] == pytest.approx(table["Dice"].mean())
    assert every_file(nnunet) == before


def test_plans_have_their_default_and_the_name_of_a_model_stands_for_its_parts(nnunet):
    assert evaluate("-tr", "nnUNetTrainerCFNet", "-c", "3d_fullres", "-o", "first") == 0
    assert evaluate("-p", MODEL, "-o", "second") == 0
    assert Path("first/metrics.csv").read_bytes() == Path("second/metrics.csv").read_bytes()


def test_some_folds_are_evaluated_and_the_others_are_told(nnunet, capsys):
    assert evaluate("-p", MODEL, "-f", "2", "0") == 0
    assert "note: fold 1 is not evaluated: 4 of 6 cases" in capsys.readouterr().err
    assert set(results()[0]["fold"]) == {0, 2}


def test_a_fold_that_is_not_trained_yet_is_told_and_a_case_that_it_lacks_is_missing(nnunet, capsys):
    model = nnunet / "results" / "Dataset137_Test" / MODEL
    shutil.rmtree(model / "fold_2")
    (model / "fold_1" / "validation" / "case_4.nii.gz").unlink()
    assert evaluate("-p", MODEL) == 1
    err = capsys.readouterr().err
    assert "note: fold 2 is not evaluated: 3 of 6 cases" in err
    assert "case_4: no prediction (fold 1)" in err


@pytest.mark.parametrize(
    "name",
    [
        f"{MODEL}/crossval_results_folds_0_1_2",
        f"{MODEL}/crossval_results_folds_0_1_2/postprocessed",
        ENSEMBLE,
        f"ensembles/{ENSEMBLE}",
        f"{ENSEMBLE}/postprocessed",
    ],
)
def test_joined_folds_ensembles_and_postprocessed_predictions_are_found_by_name(nnunet, capsys, name):
    assert evaluate("-p", name) == 0
    table, summary = results()
    assert table["case"].tolist() == CASES
    assert summary["folds"] == ["0", "1", "2"]
    assert ("postprocessed" in name) == (table["Dice"].mean() < 0.85)
    (nnunet / "results" / "Dataset137_Test" / summary["predictions"] / "case_3.nii.gz").unlink()
    assert evaluate("-p", name) == 1
    assert "case_3: no prediction" in capsys.readouterr().err


def test_by_path_they_are_evaluated_too_and_results_go_to_the_working_directory(nnunet):
    folder = nnunet / "results" / "Dataset137_Test" / MODEL / "crossval_results_folds_0_1_2" / "postprocessed"
    references = nnunet / "preprocessed" / "Dataset137_Test" / "gt_segmentations"
    arguments = ["-p", str(folder), "-r", str(references), "-djfile", str(folder.parents[1] / "dataset.json")]
    assert main(["evaluate", *arguments, "-np", "1", "--metrics", "Dice"]) == 0
    assert results()[0]["case"].tolist() == CASES


def test_without_preprocessed_references_those_of_the_raw_folder_serve(nnunet):
    labels = nnunet / "raw" / "Dataset137_Test" / "labelsTr"
    labels.parent.mkdir(parents=True)
    (nnunet / "preprocessed" / "Dataset137_Test" / "gt_segmentations").rename(labels)
    assert evaluate("-p", MODEL) == 0
    assert results()[1]["references"] == str(labels)


def test_a_case_of_two_folds_is_refused(nnunet, capsys):
    model = nnunet / "results" / "Dataset137_Test" / MODEL
    shutil.copy(model / "fold_0" / "validation" / "case_0.nii.gz", model / "fold_1" / "validation")
    assert evaluate("-p", MODEL) == 2
    assert "folds 0 and 1 both predict case_0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "add such as -c 3d_fullres"),
        (["-c", "3d_fulres", "-tr", "nnUNetTrainerCFNet"], f"did you mean {MODEL}"),
        (["-p", f"{MODEL}/crossval_results_folds_0_1"], f"did you mean {MODEL}/crossval_results_folds_0_1_2"),
        (["-p", "../../x__y"], "names no folder below"),
        (["-p", MODEL, "-c", "2d"], "leave out -tr and -c"),
        (["-p", MODEL, "-f", "7"], "fold 7 has no validation"),
        (["-p", MODEL, "-f", "all", "0"], "fold all has no validation"),
        (["-p", f"{MODEL}/crossval_results_folds_0_1_2", "-f", "0"], "leave out -f"),
        (["-p", MODEL, "--partial"], "choose folds with -f"),
        (["-p", MODEL, "-r", "nowhere"], "folder not found"),
        (["-p", MODEL, "-o", "../results/Dataset137_Test/mine"], "nnU-Net's own folders"),
    ],
)
def test_what_is_not_there_is_told_in_one_line_with_what_is(nnunet, capsys, arguments, message):
    assert evaluate(*arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_dataset_without_results_is_told(nnunet, capsys):
    assert main(["evaluate", "-d", "9", "-c", "2d"]) == 2
    assert "no single dataset of id 9" in capsys.readouterr().err
