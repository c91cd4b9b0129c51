"""Files appear whole or not at all, and links only where they are legal."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.writing import Files, cannot_write, write_file
from nnunet_ext.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_only_with_the_commit(tmp_path: Path) -> None:
    with Files(tmp_path) as files:
        files.write("label", b"1")
        files.write("image", b"22")
        assert all(".tmp-" in name for name in names(tmp_path))
        files.commit()
    assert (tmp_path / "label").read_bytes() == b"1"
    assert names(tmp_path) == ["image", "label"]


def test_an_error_before_the_commit_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "image").write_bytes(b"old")
    with Files(tmp_path) as files:
        files.write("image", b"new")
        files.write("label", b"new")
    assert names(tmp_path) == ["image"]
    assert (tmp_path / "image").read_bytes() == b"old"


def test_files_appear_in_the_order_in_which_they_were_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    replace = Path.replace

    def spy(self: Path, target: Path) -> Path:
        seen.append(target.name)
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", spy)
    with Files(tmp_path) as files:
        for name in ("label", "image_0001", "image_0000"):
            files.write(name, b"x")
        files.commit()
    assert seen == ["label", "image_0001", "image_0000"]


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"OUT04: cannot write .*image: the disk is full - .*resume with"):
        write_file(tmp_path / "image", b"x")
    assert names(tmp_path) == []


@pytest.mark.parametrize("how", ["auto", "hard"])
def test_a_hard_link_shares_its_bytes_and_can_be_made_again(tmp_path: Path, how: str) -> None:
    (tmp_path / "source").write_bytes(b"x")
    out = tmp_path / "out"
    out.mkdir()
    for _ in range(2):
        with Files(out) as files:
            assert files.link("image", str(tmp_path / "source"), how) == "hard link"
            files.commit()
        assert names(out) == ["image"], "renaming a link onto itself leaves the temporary name behind"
    assert (out / "image").samefile(tmp_path / "source")


def test_a_link_points_to_the_file_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"x")
    (tmp_path / "source").symlink_to(tmp_path / "real")
    with Files(tmp_path) as files:
        files.link("image", str(tmp_path / "source"), "hard")
        files.commit()
    assert not (tmp_path / "image").is_symlink()
    assert (tmp_path / "image").samefile(tmp_path / "real")


def raw_beside(tmp_path: Path) -> tuple[Path, Path]:
    """A source and a dataset folder whose nnUNet_raw lies beside it."""
    source, folder = tmp_path / "data" / "download" / "x", tmp_path / "data" / "nnUNet_raw" / "Dataset001_A"
    source.parent.mkdir(parents=True)
    folder.mkdir(parents=True)
    source.write_bytes(b"x")
    return source, folder


def no_hard_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)


def test_auto_takes_a_relative_link_beside_and_a_copy_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hard_links(monkeypatch)
    source, folder = raw_beside(tmp_path)
    with Files(folder) as files:
        assert files.link("image", str(source), "auto") == "symlink"
        files.commit()
    assert os.fspath((folder / "image").readlink()) == "../../download/x"
    assert (folder / "image").read_bytes() == b"x"
    elsewhere = tmp_path / "far" / "y"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"y")
    with Files(folder) as files:
        assert files.link("other", str(elsewhere), "auto") is None
        files.write("other", b"y")
        files.commit()
    assert names(folder) == ["image", "other"]


def test_a_hard_link_that_was_asked_for_and_cannot_be_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hard_links(monkeypatch)
    source, folder = raw_beside(tmp_path)
    with (
        pytest.raises(UserError, match=r"OUT04: .*cross-device.* - use --link auto or --link copy"),
        Files(folder) as files,
    ):
        files.link("image", str(source), "hard")
    assert names(folder) == []


def test_a_symbolic_link_to_elsewhere_is_absolute(tmp_path: Path) -> None:
    _, folder = raw_beside(tmp_path)
    elsewhere = tmp_path / "far"
    elsewhere.write_bytes(b"y")
    with Files(folder) as files:
        assert files.link("image", str(elsewhere), "symlink") == "symlink"
        files.commit()
    assert (folder / "image").readlink().is_absolute()


def test_reasons_are_in_words() -> None:
    assert "Permission denied" in str(cannot_write(Path("x"), OSError(errno.EACCES, "Permission denied")))
