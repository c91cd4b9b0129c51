"""Two conversions never write to one id, and one that was killed is in nobody's way."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import tarfile
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion import record_forms
from nnunet_ext.dataset_conversion.output import nnunet_folders
from nnunet_ext.dataset_conversion.output.journal import NAME, only_begun
from nnunet_ext.dataset_conversion.writing import link_is_expected
from nnunet_ext.errors import UserError
from nnunet_ext.lock import take

Convert = Callable[..., Any]
FOLDER = "Dataset521_BraTS2021"
LOCK = ".Dataset521.lock"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A process of its own that runs this code and prints a line when it is there."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """``holder(".Dataset521.lock")``: a process that holds this lock in nnUNet_raw."""
    code = (
        "import sys, time; from pathlib import Path; from nnunet_ext.lock import take\n"
        "held = take(Path(sys.argv[1]), 'a test'); print('held', flush=True); time.sleep(120)"
    )
    started = []

    def hold(name: str) -> subprocess.Popen[str]:
        file = tmp_path / "nnUNet_raw" / name
        file.parent.mkdir(exist_ok=True)
        started.append(start(code, file))
        assert started[-1].stdout is not None
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate()


def test_a_running_conversion_keeps_its_id_whatever_the_name(
    tmp_path: Path, brats2021: Path, convert_to: Convert, holder: Callable[[str], subprocess.Popen[str]]
) -> None:
    first = holder(LOCK)
    for name in (None, "Another"):
        with pytest.raises(UserError, match=rf"OUT07: another conversion to id 521 .*process {first.pid} on"):
            convert_to("brats2021", brats2021, name=name)
    assert [path.name for path in (tmp_path / "nnUNet_raw").iterdir()] == [LOCK]
    assert convert_to("brats2021", brats2021, dataset_id=522).complete, "another id is free"
    first.kill()
    first.wait()
    assert convert_to("brats2021", brats2021, name="Another").complete


@pytest.mark.parametrize("name", [LOCK, f".{FOLDER}.lock"])
@pytest.mark.parametrize("text", ["", "1 another-machine.invalid", "9" * 5000, f"{os.getppid()} {os.uname().nodename}"])
def test_a_file_that_a_killed_conversion_left_is_in_nobodys_way(
    tmp_path: Path, brats2021: Path, convert_to: Convert, name: str, text: str
) -> None:
    """Empty, of another container, of a number that another process has: also as version 0.1.0 left it."""
    lock = tmp_path / "nnUNet_raw" / name
    lock.parent.mkdir()
    lock.write_text(text)
    assert convert_to("brats2021", brats2021).complete


CONVERT = """
import sys
import nnunet_ext.dataset_conversion.convert
from nnunet_ext.cli import main
sys.stdin.read(1)
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize("names", [("A", "B"), ("A", "A")])
def test_of_two_conversions_that_start_at_once_to_one_id_one_wins_and_the_other_writes_nothing(
    tmp_path: Path, brats2021: Path, names: tuple[str, str]
) -> None:
    raw = tmp_path / "nnUNet_raw"
    for _ in range(3):
        command = [sys.executable, "-c", CONVERT, "convert", "brats2021", "-i", str(brats2021), "-o", str(raw)]
        command += ["-d", "137", "--splits", "2", "-np", "1", "-n"]
        started = [
            subprocess.Popen([*command, name], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
            for name in names
        ]
        for process in started:
            assert process.stdin is not None
            process.stdin.write(b"x")
            process.stdin.flush()
        told = [process.communicate()[1].decode() for process in started]
        codes = sorted(process.returncode for process in started)
        folders = [path for path in raw.iterdir() if path.is_dir()]
        assert len(folders) == 1
        assert (folders[0] / "dataset.json").is_file()
        # of one name, the later one may find everything done
        assert codes == [0, 2] or (names == ("A", "A") and codes == [0, 0]), told
        if codes == [0, 2]:
            (line,) = [text for text in told if "error" in text]
            assert line.splitlines()[-1].startswith(("error OUT07", "error OUT02"))
        assert sorted(path.name for path in raw.iterdir()) == [".Dataset137.lock", folders[0].name]
        shutil.rmtree(raw)


def test_a_conversion_that_was_killed_with_its_workers_alive_goes_on_at_once(
    tmp_path: Path, brats2021: Path, convert_to: Convert
) -> None:
    code = """
import os, sys
from pathlib import Path
from nnunet_ext.dataset_conversion import convert
from nnunet_ext.dataset_conversion.options import Options
if __name__ == "__main__":
    added = convert.Journal.add
    def add(self, case, result):
        added(self, case, result)
        if os.fork() == 0:  # as libraries do that fork: it has all descriptors of its parent
            print("added", os.getpid(), flush=True)
            import time
            time.sleep(120)
            os._exit(0)
    convert.Journal.add = add
    convert.convert("brats2021", [sys.argv[1]], Options(output=sys.argv[2], processes=2, splits=2))
"""
    script = tmp_path / "script.py"
    script.write_text(code)
    command = [sys.executable, str(script), str(brats2021), str(tmp_path / "nnUNet_raw")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    child = int(process.stdout.readline().split()[1])
    process.kill()
    process.wait()
    try:
        os.kill(child, 0)
        again = convert_to("brats2021", brats2021)
        assert again.complete
        assert again.resumed >= 1
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_the_lock_is_free_after_an_error_too(tmp_path: Path, brats2021: Path, convert_to: Convert) -> None:
    with pytest.MonkeyPatch.context() as broken:
        broken.setattr(converting, "finish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            convert_to("brats2021", brats2021)
    take(tmp_path / "nnUNet_raw" / LOCK).release()


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_something_else_of_the_name_of_the_lock_is_told_and_left_alone(
    tmp_path: Path, brats2021: Path, convert_to: Convert, kind: str
) -> None:
    lock = tmp_path / "nnUNet_raw" / LOCK
    lock.parent.mkdir()
    (tmp_path / "other").write_text("kept")
    if kind == "link":
        lock.symlink_to(tmp_path / "other")
    elif kind == "folder":
        lock.mkdir()
    else:
        os.mkfifo(lock)
    with pytest.raises(UserError, match=rf"OUT04: cannot write .*{LOCK}: it is no file.*no lock"):
        convert_to("brats2021", brats2021)
    assert (tmp_path / "other").read_text() == "kept"
    assert not (lock.parent / FOLDER).exists()


def test_only_what_a_killed_run_unpacked_is_removed_and_a_dry_run_removes_nothing(
    tmp_path: Path, brats2021: Path, convert_to: Convert, holder: Callable[[str], subprocess.Popen[str]]
) -> None:
    raw = tmp_path / "nnUNet_raw"
    running, killed = holder(".extract-running.lock"), holder(".extract-killed.lock")
    killed.kill()
    killed.wait()
    folders = {name: raw / f".extract-{name}" for name in ("running", "killed", "0a1b2c3d-77", "mine")}
    for folder in folders.values():
        (folder / "1").mkdir(parents=True)
    convert_to("brats2021", brats2021, dry_run=True)
    assert all(folder.is_dir() for folder in folders.values())
    convert_to("brats2021", brats2021)
    assert folders["running"].is_dir(), "the files of a running conversion were removed"
    assert running.poll() is None
    left = {path.name for path in raw.glob(".extract*")}
    without_lock = {".extract-0a1b2c3d-77", ".extract-mine"}  # such as of version 0.1.0 on another machine
    assert left == {".extract-running", ".extract-running.lock", *without_lock}
    assert all((raw / name / "1").is_dir() for name in without_lock)


def test_a_conversion_killed_while_it_unpacks_leaves_nothing_to_the_next(
    tmp_path: Path, brats2021: Path, convert_to: Convert
) -> None:
    with tarfile.open(tmp_path / "download.tar.gz", "w:gz") as archive:
        archive.add(brats2021, "download")
    code = """
import os, sys
from nnunet_ext.dataset_conversion import convert
from nnunet_ext.dataset_conversion.options import Options
convert._execute = lambda *_: os.kill(os.getpid(), 9)
convert.convert("brats2021", [sys.argv[1]], Options(output=sys.argv[2], processes=1, splits=2))
"""
    process = start(code, tmp_path / "download.tar.gz", tmp_path / "nnUNet_raw")
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    raw = tmp_path / "nnUNet_raw"
    assert len(list(raw.glob(".extract-*"))) == 2
    assert convert_to("brats2021", tmp_path / "download.tar.gz").complete
    assert sorted(path.name for path in raw.iterdir()) == [LOCK, FOLDER]


@pytest.mark.parametrize("fault", ["no source", "no case"])
def test_a_conversion_that_is_refused_leaves_not_even_an_empty_folder(
    tmp_path: Path, convert_to: Convert, fault: str
) -> None:
    if fault == "no case":
        (tmp_path / "download").mkdir()
    with pytest.raises(UserError):
        convert_to("brats2021", tmp_path / "download", output=tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


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
