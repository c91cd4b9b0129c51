"""The three commands: arguments, output for people and programs, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nnunet_ext.cli import main


@pytest.fixture(autouse=True)
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    return tmp_path / "nnUNet_raw"


def test_convert_prints_the_next_command_last(brats2021: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "BraTS-2021", "-i", str(brats2021), "-d", "137", "-n", "Mine", "-np", "1"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-1] == "next: nnUNetv2_plan_and_preprocess -d 137 --verify_dataset_integrity"
    assert (raw / "Dataset137_Mine" / "dataset.json").is_file()


def test_convert_json_is_one_document(brats2021: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "auto", "-i", str(brats2021), "-np", "1", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["dataset"], document["cases"]) == ("brats2021", {"train": 6, "test": 0})
    assert document["next"].startswith("nnUNetv2_plan_and_preprocess -d 521")


def test_a_dry_run_with_errors_lists_them_all_and_exits_with_2(
    brats2021: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (0, 3):
        (brats2021 / f"BraTS2021_{number:05d}" / f"BraTS2021_{number:05d}_t2.nii.gz").unlink()
    assert main(["convert", "brats2021", "-i", str(brats2021), "--dry-run"]) == 2
    out = capsys.readouterr().out
    assert "NAM01: BraTS2021_00000 lacks T2" in out
    assert "NAM01: BraTS2021_00003 lacks T2" in out
    assert not raw.exists()


def test_an_error_is_one_line_on_stderr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "brats2021", "-i", str(tmp_path / "gone")]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error LAY01: source not found (")
    assert len(shown.err.splitlines()) == 1
    assert main(["convert", "brats2021"]) == 2
    assert "a dataset and a source are needed" in capsys.readouterr().err


def test_an_interrupt_tells_how_to_go_on(
    brats2021: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunet_ext.dataset_conversion import convert

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(convert, "_write_cases", interrupted)
    assert main(["convert", "brats2021", "-i", str(brats2021)]) == 130
    assert "interrupted; go on with: " in capsys.readouterr().err


def test_list_and_info_need_no_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", "--list"]) == 0
    assert "brats2021" in capsys.readouterr().out
    assert main(["info", "LGG"]) == 0
    out = capsys.readouterr().out
    for text in (
        "110 for training",
        "0 pre-contrast, 1 FLAIR, 2 post-contrast",
        "Dataset536_LGGVolumes",
        "--as 3d",
        "Buda",
    ):
        assert text in out
    assert main(["info", "brats2020", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["targets"]["3d"]["label_map"] == {"0": 0, "1": 2, "2": 1, "4": 3}


def test_to_submission_says_what_it_wrote(
    tmp_path: Path, brats2021: Path, raw: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["convert", "brats2021", "-i", str(brats2021), "-np", "1"])
    labels = raw / "Dataset521_BraTS2021" / "labelsTr"
    assert main(["to-submission", "brats2021", "-i", str(labels), "-o", str(tmp_path / "out")]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"6 files written to {tmp_path / 'out'}"


def test_nnunets_own_check_can_be_asked_for(
    brats2021: Path, raw: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from nnunetv2.experiment_planning import verify_dataset_integrity as module

    called = []
    monkeypatch.setattr(module, "verify_dataset_integrity", lambda folder, processes: called.append(folder))
    assert main(["convert", "brats2021", "-i", str(brats2021), "-np", "1", "--verify"]) == 0
    assert called == [str(raw / "Dataset521_BraTS2021")]

    def unhappy(folder: str, processes: int) -> None:
        raise RuntimeError("Some images have errors")

    monkeypatch.setattr(module, "verify_dataset_integrity", unhappy)
    assert main(["convert", "brats2021", "-i", str(brats2021), "-np", "1", "--verify"]) == 2
    assert "nnU-Net's integrity check: Some images have errors" in capsys.readouterr().err
