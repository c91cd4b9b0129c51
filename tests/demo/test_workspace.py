"""The demo keeps to its own folder: nothing of the user's is overwritten, read or changed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from nnunet_ext.demo.workspace import MARK, StepFailed, open_workspace, run_commands
from nnunet_ext.errors import UserError
from nnunet_ext.folders import VARIABLES


def test_a_folder_with_something_else_in_it_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="new or empty folder") as error:
        open_workspace(tmp_path, 0)
    assert str(tmp_path) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_in_place_of_the_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        open_workspace(tmp_path / "file", 0)


def test_an_earlier_demo_is_replaced_and_only_what_the_demo_wrote(tmp_path):
    first = open_workspace(tmp_path / "demo", 0)
    (first.folder / "nnUNet_raw" / "Dataset137_BraTS2021").mkdir()
    (first.folder / "overlay.png").write_text("old")
    (first.folder / "notes.txt").write_text("mine")
    second = open_workspace(tmp_path / "demo", 1)
    assert sorted(path.name for path in second.folder.iterdir()) == sorted([MARK, "notes.txt", *VARIABLES])
    assert not any((second.folder / "nnUNet_raw").iterdir())


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_link_out_of_an_earlier_demo_is_not_followed(tmp_path):
    outside = tmp_path / "data"
    outside.mkdir()
    (outside / "precious").write_text("")
    demo = open_workspace(tmp_path / "demo", 0).folder
    (demo / "nnUNet_raw").rmdir()
    (demo / "nnUNet_raw").symlink_to(outside)
    open_workspace(demo, 0)
    assert (outside / "precious").exists()


def test_children_see_the_demos_nnunet_folders_and_this_process_does_not(tmp_path, monkeypatch):
    monkeypatch.setenv("nnUNet_raw", "/of/the/user")
    monkeypatch.setenv("nnUNet_wandb_enabled", "1")
    workspace = open_workspace(tmp_path / "demo", 0)
    environment = workspace.environment()
    for name in VARIABLES:
        assert environment[name] == str(workspace.folder / name)
    assert "nnUNet_wandb_enabled" not in environment
    assert os.environ["nnUNet_raw"] == "/of/the/user"


def test_a_failing_command_is_named_with_the_log_that_tells_why(tmp_path):
    workspace = open_workspace(tmp_path / "demo", 0)
    with pytest.raises(StepFailed, match="'nnunet_ext nonsense' ended with exit code 2"):
        run_commands(workspace, [["nnunet_ext", "nonsense"]])
    assert "unknown command 'nonsense'" in workspace.log.read_text()


def test_commands_run_in_the_demos_folder(tmp_path):
    workspace = open_workspace(tmp_path / "demo", 0)
    python = Path(sys.executable).name
    run_commands(workspace, [[python, "-c", f"open('{name}', 'w').close()"] for name in ("one", "two")])
    assert (workspace.folder / "one").exists()
    assert (workspace.folder / "two").exists()


def test_a_command_that_is_not_installed_is_named(tmp_path):
    workspace = open_workspace(tmp_path / "demo", 0)
    with pytest.raises(UserError, match="nnUNetv2_nonsense not found"):
        run_commands(workspace, [["nnUNetv2_nonsense"]])
