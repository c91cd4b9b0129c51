"""A dataset's folder, a half conversion and a lock that somebody else made: links in them lead nowhere."""

from __future__ import annotations

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion.output.journal import NAME
from nnunet_ext.dataset_conversion.record_forms import FOLDERS

pytestmark = pytest.mark.usefixtures("time_limit")

OneLine = Callable[..., str]
Content = Callable[[Path], dict[str, bytes]]
FOLDER = "Dataset521_BraTS2021"
LOCK = ".Dataset521.lock"


def interrupted(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.fixture
def half(
    tmp_path: Path, brats_case: Callable[..., Path], convert_to: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A conversion of three cases that was killed at its end."""
    for seed, number in enumerate((0, 2, 3)):
        brats_case(tmp_path / "download", f"BraTS2021_{number:05d}", seed=seed)
    with monkeypatch.context() as killed:
        killed.setattr(converting, "finish", interrupted)
        with pytest.raises(KeyboardInterrupt):
            convert_to("brats2021", tmp_path / "download", link="copy")
    return tmp_path / "nnUNet_raw" / FOLDER


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder with files that a conversion would take for its leftovers."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("mine.nii.gz", ".mine.tmp-1", "BraTS2021_00000_0000.nii.gz"):
        (folder / name).write_text(f'{{"signature": "{name}"')
    return folder


def again(tmp_path: Path, *more: str) -> tuple[Any, ...]:
    given = (tmp_path / "download", "-o", tmp_path / "nnUNet_raw", "--link", "copy", "--splits", "2", "-np", "1")
    return ("convert", "brats2021", "-i", *given, *more)


def goes_on(tmp_path: Path, *more: str) -> bool:
    return main([str(argument) for argument in again(tmp_path, *more)]) == 0


@pytest.mark.parametrize("name", [*FOLDERS, NAME])
def test_a_link_in_a_half_conversion_is_not_followed(
    tmp_path: Path, half: Path, outside: Path, one_line: OneLine, content: Content, name: str
) -> None:
    before = content(outside)
    path = half / name
    if path.is_dir():
        path.rename(tmp_path / "aside")
    path.unlink(missing_ok=True)
    path.symlink_to(outside / "mine.nii.gz" if name == NAME else outside)
    inside = content(half)
    line = one_line(*again(tmp_path))
    assert line.startswith(f"error OUT01: {path} was not made by this converter: a symbolic link")
    assert "--restart" in line
    assert content(outside) == before
    assert content(half) == inside
    assert goes_on(tmp_path, "--restart")
    assert content(outside) == before
    assert not path.is_symlink()


@pytest.mark.parametrize("name", ["imagesTr", NAME])
def test_a_link_in_a_finished_conversion_is_not_followed(
    tmp_path: Path, half: Path, outside: Path, one_line: OneLine, content: Content, name: str
) -> None:
    assert goes_on(tmp_path)
    if (half / name).is_dir():
        (half / name).rename(tmp_path / "aside")
    (half / name).symlink_to(outside)
    before = content(outside)
    assert "OUT01" in one_line(*again(tmp_path))
    assert content(outside) == before


@pytest.mark.parametrize("kind", ["a pipe", "a folder", "an endless device"])
def test_a_journal_that_is_no_file_is_refused(tmp_path: Path, half: Path, one_line: OneLine, kind: str) -> None:
    (half / NAME).unlink()
    if kind == "a pipe":
        os.mkfifo(half / NAME)
    elif kind == "a folder":
        (half / NAME).mkdir()
    else:
        (half / NAME).symlink_to("/dev/zero")
    assert "OUT01" in one_line(*again(tmp_path))


def test_a_folder_named_like_a_leftover_is_told(tmp_path: Path, half: Path, one_line: OneLine) -> None:
    (half / "imagesTr" / ".x.tmp-1").mkdir()
    line = one_line(*again(tmp_path))
    assert line.startswith("error OUT04: ")
    assert ".x.tmp-1" in line


def lines(half: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (half / NAME).read_text().splitlines()]


BAD_ENTRIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "no files": lambda result: result.update(files=[]),
    "the files of another case": lambda result: [
        f.update(path=f["path"].replace("00000", "00002")) for f in result["files"]
    ],
    "a file outside": lambda result: result["files"][0].update(path="../../outside/mine.nii.gz"),
    "an output of another name": lambda result: result.update(outputs=["../x"]),
    "an output of no case": lambda result: result.update(outputs=["BraTS2021_00009"]),
    "a finding of no check": lambda result: result.update(findings=[{"code": "X", "message": ""}]),
    "a finding of no severity": lambda result: result.update(
        findings=[{"code": "LAB02", "message": "", "severity": "x"}]
    ),
    "a fingerprint that is no number": lambda result: result.update(fingerprint="x"),
    "a list of voxels": lambda result: result.update(voxels=[]),
    "sources without size": lambda result: result.update(sources=[{"path": "x"}]),
    "an unknown key": lambda result: result.update(__class__="x"),
    "a text for a list": lambda result: result.update(digests="abc"),
}


@pytest.mark.parametrize("what", BAD_ENTRIES)
def test_a_case_of_which_the_journal_tells_what_cannot_be_is_done_again(
    tmp_path: Path, half: Path, content: Content, what: str
) -> None:
    entries = lines(half)
    BAD_ENTRIES[what](entries[0]["result"])
    (half / NAME).write_text("".join(f"{json.dumps(entry)}\n" for entry in entries))
    assert goes_on(tmp_path)
    resumed = content(half)
    assert goes_on(tmp_path, "--restart")
    assert resumed == content(half)


@pytest.mark.parametrize("line", [b"[" * 100_000, b'"\xff"', b"[1]", b'{"signature": 1, "result": {}}', b"1" * 5000])
def test_a_line_of_the_journal_that_is_none_ends_it(tmp_path: Path, half: Path, line: bytes) -> None:
    whole = (half / NAME).read_bytes().splitlines(keepends=True)
    (half / NAME).write_bytes(whole[0] + line + b"\n" + b"".join(whole[1:]))
    assert goes_on(tmp_path)
    assert (half / "dataset.json").is_file()


BAD_HEADERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "options in a list": lambda record: record.update(options=[]),
    "no options": lambda record: record.pop("options"),
    "a number as allowed": lambda record: record["options"].update(allow=3),
    "no run": lambda record: record.update(run=None),
    "sources that are none": lambda record: record["run"].update(sources=[1]),
    "no version": lambda record: record.pop("nnunet_ext"),
    "another schema": lambda record: record.update(schema=2),
}


@pytest.mark.parametrize("what", BAD_HEADERS)
def test_a_half_conversion_with_another_kind_of_record_is_not_ours(
    tmp_path: Path, half: Path, one_line: OneLine, content: Content, what: str
) -> None:
    path = half / "provenance.json"
    record = json.loads(path.read_text())
    BAD_HEADERS[what](record)
    path.write_text(json.dumps(record))
    before = content(half)
    for more in ((), ("--restart",)):
        assert one_line(*again(tmp_path, *more)).startswith("error OUT01: ")
    assert content(half) == before


@pytest.mark.parametrize("folds", ["[", "[[]]", '[{"train": "ab", "val": []}]', "[" * 1000])
def test_folds_that_were_damaged_afterwards_are_told(tmp_path: Path, half: Path, one_line: OneLine, folds: str) -> None:
    assert goes_on(tmp_path)
    (half / "splits_final.json").write_text(folds)
    line = one_line(*again(tmp_path))
    assert line.startswith("error OUT05: ")
    assert "splits_final.json" in line


# --- locks, and what is unpacked ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a pipe", "an endless device", "a folder"])
def test_what_is_no_lock_is_respected_and_told_in_no_time(
    tmp_path: Path, half: Path, one_line: OneLine, kind: str
) -> None:
    lock = half.with_name(LOCK)
    lock.unlink()
    if kind == "a pipe":
        os.mkfifo(lock)
    elif kind == "a folder":
        lock.mkdir()
    else:
        lock.symlink_to("/dev/zero")
    assert one_line(*again(tmp_path)).startswith("error OUT04: ")
    assert os.path.lexists(lock)


@pytest.mark.parametrize("content", [b"", "² localhost".encode(), b"9" * 5000, b"\xff\x00"])
def test_what_a_lock_says_decides_nothing(tmp_path: Path, half: Path, content: bytes) -> None:
    half.with_name(LOCK).write_bytes(content)
    assert goes_on(tmp_path)


def test_archives_are_not_unpacked_where_a_link_leads(
    tmp_path: Path, half: Path, outside: Path, content: Content
) -> None:
    before = content(outside)
    with tarfile.open(tmp_path / "download.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "download", "download")
    links = [half.with_name(f".extract-{number}") for number in (os.getpid(), "0a1b2c3d-4194305", "dead")]
    for link in links:
        link.symlink_to(outside)
    links.pop().with_name(".extract-dead.lock").touch()  # as a conversion that was killed leaves it
    given = ("convert", "brats2021", "-i", str(tmp_path / "download.tar.gz"), "--splits", "2", "-np", "1")
    assert main([*given, "-o", str(half.parent), "--restart"]) == 0
    assert content(outside) == before
    assert {path for path in half.parent.iterdir() if path.name.startswith(".extract")} == set(links)
    assert not [path.name for path in outside.iterdir() if path.is_dir()]


def test_what_lies_in_the_preprocessed_folder_is_read_in_no_time(
    tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "preprocessed" / FOLDER
    folder.mkdir(parents=True)
    os.mkfifo(folder / "splits_final.json")
    monkeypatch.setenv("nnUNet_preprocessed", str(folder.parent))
    assert goes_on(tmp_path)


def test_records_of_other_datasets_are_read_in_no_time(tmp_path: Path, half: Path) -> None:
    for number, text in enumerate(
        ("[" * 100_000, '{"schema": 1, "family": "brats"}', '{"family": "brats", "cases": 3}')
    ):
        folder = half.with_name(f"Dataset{number + 1:03d}_Other")
        folder.mkdir()
        (folder / "provenance.json").write_text(text)
    half.with_name("Dataset009_Pipe").mkdir()
    os.mkfifo(half.with_name("Dataset009_Pipe") / "provenance.json")
    assert goes_on(tmp_path)
