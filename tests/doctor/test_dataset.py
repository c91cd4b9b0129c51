"""The doctor's checks of one dataset, on folders with one thing wrong each."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from nnunet_ext.doctor.dataset import check_dataset, check_files
from nnunet_ext.doctor.finding import Finding, problem

MODEL = "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres"
DESCRIPTION = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "tumour": 1},
    "numTraining": 2,
    "file_ending": ".png",
}


def write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content))


def problems() -> list[Finding]:
    return [finding for finding in check_dataset(7) if finding.status == "problem"]


def only_problem() -> Finding:
    found = problems()
    assert len(found) == 1, f"one thing is wrong, {len(found)} were found: {found}"
    return found[0]


def test_a_healthy_dataset_has_no_problem(dataset: Path) -> None:
    assert problems() == []
    assert any("5 folds with probabilities" in finding.text for finding in check_dataset(7))


def test_unknown_id(dataset: Path) -> None:
    (found,) = check_dataset(8)
    assert found.status == "problem"
    assert "no dataset with id 8" in found.text


def test_differing_split_files(dataset: Path) -> None:
    write(dataset / "nnUNet_raw/Dataset007_X/splits_final.json", [{"train": ["b"], "val": ["a"]}] * 5)
    assert "splits_final.json" in only_problem().text


def test_reordered_cases_are_the_same_splits(dataset: Path) -> None:
    for place, cases in (("nnUNet_raw", ["a", "c"]), ("nnUNet_preprocessed", ["c", "a"])):
        write(dataset / place / "Dataset007_X/splits_final.json", [{"train": cases, "val": ["b"]}] * 5)
    assert problems() == []


def test_a_model_trained_on_all_cases_or_imported_is_no_problem(dataset: Path) -> None:
    results = dataset / "nnUNet_results/Dataset007_X"
    (results / "nnUNetTrainer__nnUNetPlans__2d/fold_all").mkdir(parents=True)
    assert problems() == []
    (results / MODEL / "fold_2/checkpoint_final.pth").unlink()
    shutil.rmtree(dataset / "nnUNet_preprocessed/Dataset007_X")
    assert problems() == [], "without preprocessed data a model is here to predict"


def test_stale_fingerprint(dataset: Path) -> None:
    file = dataset / "nnUNet_preprocessed/Dataset007_X/dataset_fingerprint.json"
    write(
        file,
        json.loads(file.read_text())
        | {
            "spacings": [[1.0, 1.0, 1.0]] * 3,
            "shapes_after_crop": [[4, 4, 4]] * 3,
        },
    )
    os.utime(file, (0, 0))
    assert "describes 3 cases, the dataset has 2" in only_problem().text


def test_plans_older_than_the_fingerprint(dataset: Path) -> None:
    os.utime(dataset / "nnUNet_preprocessed/Dataset007_X/nnUNetPlans.json", (0, 0))
    found = only_problem()
    assert "the plans are stale" in found.text
    assert found.remedy == "nnUNetv2_plan_experiment -d 7"


def test_preprocessed_from_another_version_of_the_labels(dataset: Path) -> None:
    write(dataset / "nnUNet_preprocessed/Dataset007_X/dataset.json", DESCRIPTION | {"labels": {"background": 0}})
    assert "another version of the dataset" in only_problem().text


OLD = "nnunet_ext plan -d 7 {} -gpu_memory_target 24 -overwrite_plans_name nnUNetPlans_new"


@pytest.mark.parametrize(
    ("made", "remedy"),
    [
        ({"network": "CFNet", "version": "0.2.0"}, OLD.format("-a CFNet")),
        (
            {"network": "CFFormer", "version": "0.1.0", "trainer": "nnUNetTrainerCFFormer_base", "options": {"a": 1}},
            OLD.format("-tr nnUNetTrainerCFFormer_base"),
        ),
        ({"network": "CFNet"}, OLD.format("-a CFNet")),
        ({"network": "CFNet", "version": "\u00b2." + "9" * 5000}, OLD.format("-a CFNet")),
        ({"network": "CFNet", "version": "0.3.0"}, None),
        ({"network": "CFNet", "version": "1.0.0"}, None),
        ({"network": "CFNet", "version": "0.2.0", "small": True}, None),
        ({"network": "CFFormer", "version": "0.2.0", "options": {"preset": "base"}}, None),
        ({"network": "PlainConvUNet", "version": "0.2.0"}, None),
    ],
)
def test_plans_from_before_a_network_kept_less(dataset: Path, made: dict, remedy: str | None) -> None:
    file = dataset / "nnUNet_preprocessed/Dataset007_X/nnUNetPlans.json"
    write(file, json.loads(file.read_text()) | {"nnunet_ext": {"gpu_memory_target_in_gb": 24, **made}})
    assert problems() == []
    found = [finding for finding in check_dataset(7) if "kept more memory in training" in finding.text]
    assert [finding.status for finding in found] == ([] if remedy is None else ["note"])
    assert all(finding.remedy == remedy for finding in found)


def test_plans_name_that_is_not_the_file_name(dataset: Path) -> None:
    file = dataset / "nnUNet_preprocessed/Dataset007_X/nnUNetPlans.json"
    write(file, json.loads(file.read_text()) | {"plans_name": "other"})
    assert "calls itself other" in only_problem().text


def test_dangling_link(dataset: Path) -> None:
    image = dataset / "nnUNet_raw/Dataset007_X/imagesTr/a_0000.png"
    image.unlink()
    image.symlink_to(dataset / "gone.png")
    assert any("links to files that are gone" in finding.text for finding in problems())


def test_number_of_cases(dataset: Path) -> None:
    for file in ("imagesTr/b_0000.png", "labelsTr/b.png"):
        (dataset / "nnUNet_raw/Dataset007_X" / file).unlink()
    assert "says 2 training cases, 1 are there" in only_problem().text


@pytest.mark.parametrize(
    ("remove", "said", "remedy"),
    [
        ("validation/a.npz", "folds 3 have no .npz", "--val --npz"),
        ("validation/summary.json", "folds 3 have no validation", "--val --npz"),
        ("checkpoint_final.pth", "folds 3 are not trained", "nnUNetv2_train 7 3d_fullres FOLD -tr nnUNetTrainerCFNet"),
    ],
)
def test_a_fold_that_find_best_configuration_would_miss(dataset: Path, remove: str, said: str, remedy: str) -> None:
    (dataset / "nnUNet_results/Dataset007_X" / MODEL / "fold_3" / remove).unlink()
    found = only_problem()
    assert said in found.text
    assert remedy in found.remedy


def test_an_unfinished_fold_is_told_to_resume(dataset: Path) -> None:
    fold = dataset / "nnUNet_results/Dataset007_X" / MODEL / "fold_3"
    (fold / "checkpoint_final.pth").rename(fold / "checkpoint_latest.pth")
    assert only_problem().remedy.endswith("--npz --c")


def test_an_edited_raw_file_is_found_by_its_checksum(dataset: Path) -> None:
    raw = dataset / "nnUNet_raw/Dataset007_X"
    (raw / "labelsTr/a.png").write_bytes(b"as converted")
    digest = hashlib.sha256(b"as converted").hexdigest()
    record = {"path": "labelsTr/a.png", "size": 12, "sha256": digest, "of": "file"}
    write(raw / "provenance.json", {"schema": 1, "converted_by": "nnunet_ext", "cases": [{"files": [record]}]})
    assert [finding.status for finding in check_files(7)] == ["ok"]
    (raw / "labelsTr/a.png").write_bytes(b"as edited by")
    (found,) = check_files(7)
    assert "first labelsTr/a.png" in found.text


def test_a_problem_without_remedy_cannot_be_stated() -> None:
    with pytest.raises(ValueError, match="needs a remedy"):
        problem("something", "")
