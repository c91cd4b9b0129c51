"""``nnunet_ext postprocess``: from a model's cross-validation to a rule, and from a rule to label maps."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.cli import main

REGIONS = {"background": 0, "whole tumor": [1, 2, 3], "tumor core": [2, 3], "enhancing tumor": 3}
DATASET = {
    "channel_names": {"0": "T1"},
    "labels": REGIONS,
    "regions_class_order": [1, 2, 3],
    "numTraining": 6,
    "file_ending": ".nii.gz",
}
MODEL = "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres"
CASES = [f"case_{number}" for number in range(6)]


@pytest.fixture
def trained(tmp_path, monkeypatch, write_labels):
    """Two folds of three cases. Every other reference has no label 3, where the prediction has nine voxels of it."""
    for variable in ("raw", "preprocessed", "results"):
        monkeypatch.setenv(f"nnUNet_{variable}", str(tmp_path / variable))
    results, preprocessed = (tmp_path / name / "Dataset137_Test" for name in ("results", "preprocessed"))
    for number, case in enumerate(CASES):
        known = np.zeros((8, 8, 8), np.uint8)
        known[1:7, 1:7, 1:7] = 2
        predicted = known.copy()
        if number % 2:
            known[2:6, 2:6, 2:6] = 3
            predicted[2:6, 2:6, 2:5] = 3
        else:
            predicted[2:5, 2:5, 2] = 3
        write_labels(preprocessed / "gt_segmentations" / f"{case}.nii.gz", known, (2.0, 1.0, 0.5))
        fold = results / MODEL / f"fold_{number // 3}" / "validation"
        write_labels(fold / f"{case}.nii.gz", predicted, (2.0, 1.0, 0.5))
        write_labels(tmp_path / "predictions" / f"{case}.nii.gz", predicted, (2.0, 1.0, 0.5))
    for folder in (results / MODEL, preprocessed, tmp_path / "predictions"):
        (folder / "dataset.json").write_text(json.dumps(DATASET))
    splits = [{"train": CASES[3:], "val": CASES[:3]}, {"train": CASES[:3], "val": CASES[3:]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits))
    return tmp_path


def find(folder, *more):
    words = ["postprocess", "-d", "137", "-m", MODEL, "-np", "1", "-o", str(folder / "rule.json"), *more]
    return main(words)


def apply(folder, *more):
    words = ["-i", str(folder / "predictions"), "--rule", str(folder / "rule.json"), "-o", str(folder / "out")]
    return main(["postprocess", *words, *more])


def test_the_rule_is_found_on_all_folds_and_applied_in_one_command(trained, capsys):
    assert find(trained) == 0
    rule = json.loads((trained / "rule.json").read_text())
    assert (rule["labels"], rule["replacement"], rule["threshold"]) == ([3], 2, 10)
    assert (rule["cases"], rule["changed"]) == (6, 3)
    overlap = 2 * 48 / (48 + 64)
    assert rule["Dice_brats_before"] == pytest.approx(overlap / 2)
    assert rule["Dice_brats_after"] == pytest.approx((1 + overlap) / 2)
    assert "below 10 voxels it becomes label 2, in 3 of these cases" in capsys.readouterr().out
    assert apply(trained) == 0
    for number, case in enumerate(CASES):
        before, after = (sitk.ReadImage(str(trained / name / f"{case}.nii.gz")) for name in ("predictions", "out"))
        assert after.GetSpacing() == before.GetSpacing()
        assert after.GetPixelID() == before.GetPixelID()
        expected = sitk.GetArrayFromImage(before)
        if number % 2 == 0:
            expected[expected == 3] = 2
        assert np.array_equal(sitk.GetArrayFromImage(after), expected)
    unchanged = "case_1.nii.gz"
    assert (trained / "out" / unchanged).read_bytes() == (trained / "predictions" / unchanged).read_bytes()
    assert json.loads((trained / "out" / "dataset.json").read_text()) == DATASET
    assert "in 3 case(s)" in capsys.readouterr().out


def test_a_model_that_no_threshold_helps_gets_a_rule_that_changes_nothing(trained, capsys):
    for case in CASES:
        for fold in ("fold_0", "fold_1"):
            file = trained / "results/Dataset137_Test" / MODEL / fold / "validation" / f"{case}.nii.gz"
            if file.exists():
                reference = trained / "preprocessed/Dataset137_Test/gt_segmentations" / f"{case}.nii.gz"
                file.write_bytes(reference.read_bytes())
    assert find(trained) == 0
    assert "no threshold helps" in capsys.readouterr().out
    assert apply(trained) == 0
    assert "in 0 case(s)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("-o x", "say what to do"),
        ("-d 137 -o x", "-d needs a model"),
        (f"-d 137 -m {MODEL} --rule r -o x", "--rule is for -i"),
        (f"-d 137 -m {MODEL} --region liver -o x", "no region 'liver'"),
        (f"-d 137 -m {MODEL} -f 4 -o x", "fold 4 has no validation"),
        ("-i predictions -o x", "no rule was named"),
        ("-i predictions --rule nowhere.json -o x", "there is no such rule"),
        ("-i predictions --rule predictions/dataset.json -o x", "a rule of 'nnunet_ext postprocess'"),
        ("-i nowhere --rule rule.json -o x", "folder not found"),
        ("-i results --rule rule.json -o x", "no *.nii.gz file is there"),
        ("-i predictions --rule rule.json -o predictions", "the output exists"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(trained, monkeypatch, capsys, words, message):
    assert find(trained) == 0
    capsys.readouterr()
    monkeypatch.chdir(trained)
    before = sorted(trained.rglob("*"))
    assert main(["postprocess", *words.split()]) == 2
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
    assert sorted(trained.rglob("*")) == before


def test_a_broken_label_map_leaves_no_output(trained, capsys):
    assert find(trained) == 0
    (trained / "predictions" / "case_2.nii.gz").write_bytes(b"broken")
    assert apply(trained) == 2
    assert "case_2.nii.gz" in capsys.readouterr().err
    assert not (trained / "out").exists()
    assert not list(trained.glob(".*part"))
