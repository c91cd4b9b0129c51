"""The table of steps: what a user would type is what nnU-Net and the plugin understand."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import shlex
from pathlib import Path

import pandas as pd
import pytest

from nnunet_ext.cli import COMMANDS
from nnunet_ext.demo import pictures, runner, workers
from nnunet_ext.demo.runner import OWN_DATA
from nnunet_ext.demo.settings import CONFIGURATIONS, REQUIRED_DICE, Settings
from nnunet_ext.demo.steps import STEPS
from nnunet_ext.demo.verdict import POLICY
from nnunet_ext.demo.workspace import StepFailed, executable, open_workspace
from nnunet_ext.evaluation.metrics import MAIN_METRICS
from nnunet_ext.folders import VARIABLES
from nnunet_ext.trainers import registry


@pytest.fixture
def workspace(tmp_path):
    """A demo's folder with what later steps look up in it."""
    workspace = open_workspace(tmp_path / "demo", 5)
    (workspace.folder / "unseen" / "Dataset138_BraTS2021").mkdir(parents=True)
    results = workspace.folder / "nnUNet_results" / "Dataset137_BraTS2021"
    results.mkdir(parents=True)
    best = {"postprocessing_file": str(results / "x" / "p.pkl"), "some_plans_file": str(results / "x" / "plans.json")}
    (results / "inference_information.json").write_text(json.dumps({"best_model_or_ensemble": best}))
    return workspace


def commands(workspace):
    return [command for step in STEPS for command in step.commands(workspace, Settings())]


def test_the_steps_name_every_command_of_the_users_path_in_order(workspace):
    assert list(dict.fromkeys(" ".join(c[:2]) if c[0] == "nnunet_ext" else c[0] for c in commands(workspace))) == [
        "nnunet_ext phantom",
        "nnunet_ext convert",
        "nnUNetv2_plan_and_preprocess",
        "nnUNetv2_train",
        "nnUNetv2_find_best_configuration",
        "nnUNetv2_predict",
        "nnUNetv2_ensemble",
        "nnUNetv2_apply_postprocessing",
    ]


def test_our_own_commands_parse(workspace):
    modules = {command.name: command.module for command in COMMANDS}
    for command in commands(workspace):
        if command[0] == "nnunet_ext":
            parser = argparse.ArgumentParser(exit_on_error=False)
            importlib.import_module(modules[command[1]]).add_arguments(parser)
            parser.parse_args(command[2:])


def test_every_command_is_installed_and_its_paths_hold_no_machine(workspace):
    for command in commands(workspace):
        executable(command[0])
        assert str(workspace.folder) not in " ".join(command)


def test_the_trainer_is_spelled_canonically_and_its_folder_names_stay_short():
    name = Settings().trainer(4294967295)
    assert registry.canonical_name(name) == name
    assert len(name) < 80, "ensemble folders join two such names and must stay below 255 bytes"


def test_every_fold_of_every_configuration_is_trained_once_and_one_by_the_stock_command(workspace):
    submitted = []

    class Recorder:
        def submit(self, function, *arguments):
            submitted.append((function.__name__, arguments))

    workers.submit_trainings(Recorder(), workspace, Settings(), ["nnUNetv2_train", "137", "3d_fullres", "0"])
    assert submitted[0][0] == "train_by_command"
    assert submitted[0][1][0] == ["nnUNetv2_train", "137", "3d_fullres", "0"]
    inside = [arguments[1:] for name, arguments in submitted[1:] if name == "train_here"]
    everything = {(configuration, fold) for configuration in CONFIGURATIONS for fold in range(5)}
    assert len(inside) == 9
    assert set(inside) | {("3d_fullres", 0)} == everything


def test_the_status_line_counts_trainings_and_predictions():
    parts = {step.title: step.parts(Settings()) for step in STEPS}
    assert parts.pop("train") == 10
    assert parts.pop("predict unseen phantoms") == 2
    assert set(parts.values()) == {1}


def test_the_page_says_which_steps_run_by_the_command():
    page = (Path(__file__).parents[2] / "docs" / "demo.md").read_text(encoding="utf-8")
    told = [row.split("|")[3].strip() for row in re.findall(r"^\| \d .*$", page, re.MULTILINE)]
    assert len(told) == len(STEPS)
    for step, how in zip(STEPS[:-1], told, strict=False):
        assert ("process" in how) == ("process" in step.note), f"{step.title}: {how}"
    settings = Settings()
    assert f"after {settings.epochs * settings.iterations} iterations" in page
    assert f"below {REQUIRED_DICE:.2f}" in page


def _report_with(workspace, monkeypatch, value):
    best = {"best_model_or_ensemble": {"selected_model_or_models": [{"configuration": "2d"}]}}
    monkeypatch.setattr(type(workspace), "inference_information", lambda self: best)
    row = {"region": "WT", "policy": POLICY, "Dice": value}
    monkeypatch.setattr(
        pictures, "read_tables", lambda _: {model: pd.DataFrame([row]) for model in pictures.PREDICTIONS}
    )
    return runner._report(workspace, Settings(), 61.0)


def test_a_good_ensemble_ends_with_exit_code_0_and_what_to_type_next(workspace, monkeypatch, capsys):
    assert _report_with(workspace, monkeypatch, 0.81) == 0
    printed = capsys.readouterr().out
    assert printed.rstrip().endswith(OWN_DATA)
    assert "time: 1 min 1 s" in printed


def test_a_bad_ensemble_ends_with_exit_code_1_and_the_reason(workspace, monkeypatch, capsys):
    assert _report_with(workspace, monkeypatch, 0.79) == 1
    assert capsys.readouterr().out.splitlines()[-1].startswith("FAILED: mean Dice of the ensemble")


def test_two_demos_of_different_seed_share_no_phantom(tmp_path):
    seeds = []
    for seed in (0, 1, 2):
        for command in STEPS[0].commands(open_workspace(tmp_path / str(seed), seed), Settings()):
            seeds.append(command[command.index("--seed") + 1])
    assert len(set(seeds)) == len(seeds) == 6


def test_the_last_lines_name_commands_that_exist():
    for line in OWN_DATA.splitlines()[1:-1]:
        executable(line.split()[0])


def test_a_folder_to_export_is_one_word(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(runner, "STEPS", ())
    monkeypatch.setattr(runner, "_report", lambda *_: 0)
    folder = tmp_path / "it's $(here)"
    runner.run_demo(folder, 0)
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines() if line.startswith("  export")]
    assert lines == [["export", f"{name}={folder / name}"] for name in VARIABLES]


def test_a_cell_that_a_spreadsheet_would_run_becomes_text(workspace, monkeypatch):
    case = {"case": "=cmd()", "region": "@x", "policy": POLICY, **{metric.name: 0.5 for metric in MAIN_METRICS}}
    monkeypatch.setattr(pictures, "load_dataset_json", lambda _: {"channel_names": {}, "file_ending": ".nii.gz"})
    monkeypatch.setattr(pictures, "evaluate_folder", lambda *_: pd.DataFrame([case]))
    monkeypatch.setattr(pictures, "worst_median_best", lambda _: {})
    for name in ("write_overlay", "read_model", "write_training_curves"):
        monkeypatch.setattr(pictures, name, lambda *_: None)
    pictures.evaluate_and_draw(workspace, Settings(), "unseen")
    table = pictures.read_tables(workspace)["ensemble"]
    assert table[["case", "region", "Dice"]].values.tolist() == [["'=cmd()", "'@x", 0.5]]


def test_a_failing_step_ends_the_demo_with_one_line_and_exit_code_1(tmp_path, monkeypatch, capsys):
    def no_trainer(demo):
        raise StepFailed("'nnUNetv2_train 137 3d_fullres 0' ended with exit code 1")

    broken = dataclasses.replace(STEPS[0], run=no_trainer)
    monkeypatch.setattr(runner, "STEPS", (broken, *STEPS[1:]))
    assert runner.run_demo(tmp_path / "demo", 0) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("FAILED: 'nnUNetv2_train 137 3d_fullres 0' ended with exit code 1")
    assert "demo.log" in last
    assert "nnunet_ext doctor" in last
