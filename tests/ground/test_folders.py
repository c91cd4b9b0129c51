"""nnU-Net's folders, found without nnU-Net, and the number of processes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.folders import PREPROCESSED, RAW, dataset_folders, dataset_name, default_processes, nnunet_folder


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    for variable in (RAW, PREPROCESSED):
        monkeypatch.setenv(variable, str(tmp_path / variable))
        (tmp_path / variable).mkdir()
    return tmp_path / RAW, tmp_path / PREPROCESSED


def test_an_unset_or_empty_variable_names_no_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RAW, raising=False)
    assert nnunet_folder(RAW) is None
    monkeypatch.setenv(RAW, "")
    assert nnunet_folder(RAW) is None
    with pytest.raises(UserError, match="nnUNet_raw is not set - export nnUNet_raw=FOLDER"):
        dataset_name(1, [RAW])


def test_all_folders_that_are_not_set_are_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (RAW, PREPROCESSED):
        monkeypatch.delenv(variable, raising=False)
    line = "nnUNet_raw and nnUNet_preprocessed are not set - export nnUNet_raw=FOLDER nnUNet_preprocessed=FOLDER"
    with pytest.raises(UserError, match=line):
        dataset_name(1)


def test_a_dataset_is_found_in_either_folder(folders: tuple[Path, Path]) -> None:
    raw, preprocessed = folders
    (raw / "Dataset007_Seven").mkdir()
    (preprocessed / "Dataset007_Seven").mkdir()
    (preprocessed / "Dataset008_Eight").mkdir()
    assert dataset_name(7) == "Dataset007_Seven"
    assert dataset_name(8) == "Dataset008_Eight"
    assert dataset_name(8, (PREPROCESSED,)) == "Dataset008_Eight"
    with pytest.raises(UserError, match="there is none"):
        dataset_name(8, (RAW,))


def test_two_names_of_one_id_are_both_told(folders: tuple[Path, Path]) -> None:
    raw, preprocessed = folders
    (raw / "Dataset007_Seven").mkdir()
    (preprocessed / "Dataset007_Sept").mkdir()
    with pytest.raises(UserError, match=r"Dataset007_Sept, Dataset007_Seven.*rename or remove all but one"):
        dataset_name(7)


def test_files_and_absent_folders_hold_no_dataset(tmp_path: Path) -> None:
    (tmp_path / "Dataset007_File").touch()
    assert dataset_folders(tmp_path, 7) == []
    assert dataset_folders(tmp_path / "absent", 7) == []
    assert dataset_folders(None, 7) == []


def test_there_are_no_more_processes_than_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for cores, expected in ((1, 1), (3, 3), (64, 8)):
        monkeypatch.setattr(os, "sched_getaffinity", lambda _, cores=cores: set(range(cores)), raising=False)
        assert default_processes() == expected
    assert default_processes(max_processes=4) == 4
