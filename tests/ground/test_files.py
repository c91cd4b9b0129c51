"""Files and folders that are either whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from nnunet_ext.files import is_temporary, temporary_name, write_atomically, write_folder_atomically


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("sync", [False, True])
def test_a_file_is_replaced_when_its_content_is_whole(tmp_path: Path, sync: bool) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")
    with write_atomically(file, sync=sync) as stream:
        stream.write(b"new")
        stream.flush()
        assert file.read_text() == "old"
        assert [is_temporary(name) for name in names(tmp_path)] == [True, False]
    assert file.read_text() == "new"
    assert names(tmp_path) == ["plans.json"]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_after_an_error_the_old_file_stays_and_nothing_half_written(tmp_path: Path, error: type[BaseException]) -> None:
    file = tmp_path / "plans.json"
    file.write_text("old")

    def interrupted() -> None:
        with write_atomically(file) as stream:
            stream.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert file.read_text() == "old"
    assert names(tmp_path) == ["plans.json"]


def test_a_leftover_that_is_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    file, elsewhere = tmp_path / "plans.json", tmp_path / "elsewhere"
    elsewhere.write_text("of others")
    temporary_name(file).symlink_to(elsewhere)
    with write_atomically(file) as stream:
        stream.write(b"new")
    assert (file.read_text(), elsewhere.read_text()) == ("new", "of others")
    assert not file.is_symlink()


def test_content_is_on_the_disk_before_the_file_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, synced = tmp_path / "checkpoint.pth", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append((os.fstat(descriptor).st_size, file.exists())))
    with write_atomically(file, temporary=tmp_path / "checkpoint.pth.partial", sync=True) as stream:
        stream.write(b"weights")
        assert names(tmp_path) == ["checkpoint.pth.partial"]
    assert synced == [(7, False)]


def test_a_folder_appears_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "above" / "download"
    with write_folder_atomically(target) as folder:
        (folder / "scan").write_bytes(b"x")
        assert not target.exists()
    assert names(target) == ["scan"]
    assert names(tmp_path / "above") == ["download"]


def test_an_empty_folder_is_replaced_and_a_full_one_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "download"
    target.mkdir()
    with write_folder_atomically(target) as folder:
        (folder / "first").touch()
    with pytest.raises(OSError), write_folder_atomically(target) as folder:
        (folder / "second").touch()
    assert names(target) == ["first"]
    assert names(tmp_path) == ["download"]


def test_after_an_error_nothing_of_a_folder_is_left(tmp_path: Path) -> None:
    def interrupted() -> None:
        with write_folder_atomically(tmp_path / "download") as folder:
            (folder / "half").touch()
            raise KeyError

    with pytest.raises(KeyError):
        interrupted()
    assert names(tmp_path) == []


def test_temporary_names_are_told_from_names_of_data() -> None:
    assert is_temporary(temporary_name(Path("folder/case.nii.gz")).name)
    assert not any(map(is_temporary, ("case.nii.gz", ".hidden", "a.tmp-1")))
