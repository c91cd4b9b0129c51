"""Two conversions never write into one folder, and one that was killed is in nobody's way."""

from __future__ import annotations

import errno
import os
import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion import record_forms
from nnunet_ext.dataset_conversion.output import nnunet_folders
from nnunet_ext.dataset_conversion.output.journal import NAME, only_begun
from nnunet_ext.dataset_conversion.output.lock import _take_away, is_running, locked
from nnunet_ext.dataset_conversion.writing import link_is_expected
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]
FOLDER = "Dataset521_BraTS2021"


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def lock_of(tmp_path: Path, text: str) -> Path:
    lock = tmp_path / "nnUNet_raw" / f".{FOLDER}.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.write_text(text)
    return lock


def test_a_running_process_keeps_its_lock(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    lock = lock_of(tmp_path, f"{os.getppid()} {socket.gethostname()}")
    with pytest.raises(UserError, match=rf"OUT07: another conversion .*process {os.getppid()} on"):
        convert_to("brats2021", brats2021)
    assert not (lock.parent / FOLDER).exists()
    assert lock.is_file(), "the lock of another process was removed"


@pytest.mark.parametrize("text", ["", "1 another-machine.invalid"])
def test_a_lock_that_tells_nothing_is_respected(
    tmp_path: Path, brats2021: Path, convert_to: Convert, text: str
) -> None:
    lock = lock_of(tmp_path, text)
    with pytest.raises(UserError, match=r"OUT07: .* remove .*lock"):
        convert_to("brats2021", brats2021)
    assert lock.is_file()


def test_the_lock_of_a_killed_process_is_taken_over(
    tmp_path: Path, brats2021: Path, convert_to: Convert, dead: int
) -> None:
    lock = lock_of(tmp_path, f"{dead} {socket.gethostname()}")
    assert convert_to("brats2021", brats2021).complete
    assert not lock.exists()


def test_a_lock_that_another_start_put_in_place_of_a_stale_one_stays(tmp_path: Path) -> None:
    lock = lock_of(tmp_path, "another start")
    _take_away(lock, f"{os.getpid()} of the stale lock")
    assert lock.read_text() == "another start"
    _take_away(lock, "another start")
    assert list(lock.parent.iterdir()) == []


def test_the_lock_is_removed_after_an_error_too(tmp_path: Path) -> None:
    def fail() -> None:
        assert (tmp_path / ".Dataset001_X.lock").is_file()
        raise RuntimeError

    with pytest.raises(RuntimeError), locked(tmp_path / "Dataset001_X"):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_only_what_a_killed_run_unpacked_is_removed_and_a_dry_run_removes_nothing(
    tmp_path: Path, brats2021: Path, convert_to: Convert, dead: int
) -> None:
    prefix = converting._extraction_prefix()
    raw = tmp_path / "nnUNet_raw"
    folders = {number: raw / f"{prefix}{number}" for number in (dead, os.getppid())}
    for folder in folders.values():
        folder.mkdir(parents=True)
    convert_to("brats2021", brats2021, dry_run=True)
    assert all(folder.is_dir() for folder in folders.values())
    convert_to("brats2021", brats2021)
    assert not folders[dead].exists()
    assert folders[os.getppid()].is_dir(), "the files of a running conversion were removed"


def test_own_and_dead_numbers_are_not_those_of_another_running_process(dead: int) -> None:
    assert is_running(os.getppid())
    assert not is_running(dead)
    assert not is_running(os.getpid())


def test_a_run_that_ended_before_its_record_is_taken_up(
    tmp_path: Path, brats2021: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=r"OUT04: .*the disk is full"):
            convert_to("brats2021", brats2021)
    folder = tmp_path / "nnUNet_raw" / FOLDER
    assert (folder / "imagesTr").is_dir()
    assert not (folder / "provenance.json").exists()
    (folder / ".provenance.json.tmp-123").write_text("{")
    assert convert_to("brats2021", brats2021).complete


def test_a_folder_with_any_file_of_others_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "imagesTr").mkdir()
    assert only_begun(tmp_path)
    (tmp_path / "imagesTr" / "x.nii.gz").write_bytes(b"")
    assert not only_begun(tmp_path)
    (tmp_path / "imagesTr" / "x.nii.gz").unlink()
    (tmp_path / "notes").mkdir()
    assert not only_begun(tmp_path)


def test_space_is_asked_for_unfinished_cases_only(
    brats2021: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as killed:
        killed.setattr(converting, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert_to("brats2021", brats2021, link="copy")
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 10, 10))
    conversion = convert_to("brats2021", brats2021, link="copy")
    assert conversion.resumed == 6
    assert conversion.plan.bytes_to_write > 10


def test_images_on_another_file_system_count_as_copies(
    tmp_path: Path, brats2021: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/dev/shm")
    if not os.access(other, os.W_OK) or other.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("no second file system here")
    source = brats2021 / "BraTS2021_00000" / "BraTS2021_00000_t1.nii.gz"
    away = other / "nnUNet_raw_that_is_not_there" / "Dataset001_X"
    assert link_is_expected(str(source), tmp_path / "raw" / "Dataset001_X", "auto")
    assert not link_is_expected(str(source), away, "auto")
    assert link_is_expected(str(source), away, "symlink")
    assert not link_is_expected(str(source), tmp_path, "copy")
    here = convert_to("brats2021", brats2021, dry_run=True).plan
    there = convert_to("brats2021", brats2021, dry_run=True, output=away.parent).plan
    images = sum(path.stat().st_size for path in brats2021.rglob("*.nii.gz") if "_seg" not in path.name)
    assert there.bytes_to_write - here.bytes_to_write == images
    assert {operation for task in there.tasks for operation, _ in task.operations} == {"copy", "relabel"}


@pytest.mark.parametrize("change", ["is new", "is gone", "has other files"])
def test_a_finished_conversion_is_not_taken_for_that_of_a_changed_source(
    brats2021: Path, brats_case: Callable[..., Path], convert_to: Convert, change: str
) -> None:
    convert_to("brats2021", brats2021)
    assert convert_to("brats2021", brats2021).already
    if change == "is new":
        brats_case(brats2021, "BraTS2021_00009", seed=9)
    elif change == "is gone":
        shutil.rmtree(brats2021 / "BraTS2021_00005")
    else:
        path = brats2021 / "BraTS2021_00005" / "BraTS2021_00005_t1.nii.gz"
        data = path.read_bytes() + b" "
        path.unlink()  # the name in the dataset is a hard link
        path.write_bytes(data)
    with pytest.raises(UserError, match=rf"OUT05: the source has changed .*{change}.*--restart"):
        convert_to("brats2021", brats2021)


@pytest.mark.parametrize("options", [{}, {"choices": {"as": "3d"}}, {"choices": {"only_tumour_slices": True}}])
def test_an_unchanged_source_of_slices_is_known_again(lgg: Path, convert_to: Convert, options: dict[str, Any]) -> None:
    assert not convert_to("lgg", lgg, **options).already
    assert convert_to("lgg", lgg, **options).already


def test_a_second_run_removes_a_journal_that_was_left_and_does_not_warn_of_the_fingerprint(
    tmp_path: Path, brats2021: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = convert_to("brats2021", brats2021).folder
    preprocessed = tmp_path / "preprocessed" / FOLDER
    preprocessed.mkdir(parents=True)
    (preprocessed / "dataset_fingerprint.json").write_text("{}")
    (folder / NAME).write_text("")
    monkeypatch.setenv("nnUNet_preprocessed", str(preprocessed.parent))
    assert [finding.code for finding in nnunet_folders.check_preprocessed(FOLDER, None)] == ["OUT06"]
    again = convert_to("brats2021", brats2021)
    assert again.already
    assert "OUT06" not in [finding.code for finding in again.findings]
    assert not (folder / NAME).exists()


def test_a_linked_folder_is_not_removed_by_restart(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    folder = convert_to("brats2021", brats2021).folder
    moved = folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(moved, target_is_directory=True)
    with pytest.raises(UserError, match=rf"OUT04: cannot write .*{FOLDER}.* - remove it by hand"):
        convert_to("brats2021", brats2021, restart=True)
    assert record_forms.read(moved) is not None


@pytest.mark.parametrize("alone", [False, True])
def test_a_broken_archive_beside_the_data_must_be_allowed_and_is_left_out(
    tmp_path: Path, brats2021: Path, convert_to: Convert, alone: bool
) -> None:
    source = tmp_path / "only" if alone else brats2021
    source.mkdir(exist_ok=True)
    (source / "slides.zip").write_bytes(b"PK not really")
    if alone:
        with pytest.raises(UserError, match=r"ARC01: .*slides.zip cannot be read"):
            convert_to("brats2021", source)
        return
    with pytest.raises(UserError, match=r"ARC01: .*slides.zip cannot be read"):
        convert_to("brats2021", source)
    conversion = convert_to("brats2021", source, allow=("ARC01",))
    assert conversion.complete
    assert [f.severity for f in conversion.findings if f.code == "ARC01"] == ["warning"]
    assert [file.path for file in conversion.plan.unknown] == ["slides.zip"]
