"""One walk over folders and archives: every file once, in an order that does not depend on the file system."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find import archives
from nnunet_ext.dataset_conversion.find.junk import is_junk
from nnunet_ext.dataset_conversion.find.sources import Index, index, read
from nnunet_ext.dataset_conversion.find.walk import MAX_DEPTH
from nnunet_ext.errors import UserError

FILES = {"a/one.txt": b"one", "a/b/two.txt": b"two, longer", "three.txt": b"3" * 700}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def tar(path: Path, files: dict[str, bytes], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def contents(found: Index) -> dict[str, bytes]:
    return {file.path: read(file) for file in found.files}


def test_a_folder_is_indexed_with_names_and_sizes(tmp_path: Path) -> None:
    found = index([write(tmp_path / "source", FILES)], [], None)
    assert contents(found) == FILES
    assert all(file.size == len(FILES[file.path]) and file.linkable for file in found.files)


def test_the_order_does_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "source", FILES)
    straight = index([source], [], None)
    scandir = os.scandir

    class Reversed:
        def __init__(self, folder: str) -> None:
            with scandir(folder) as scan:
                self.entries = list(scan)[::-1]

        def __enter__(self) -> Reversed:
            return self

        def __exit__(self, *_: object) -> None: ...

        def __iter__(self):  # type: ignore[no-untyped-def]
            return iter(sorted(self.entries, key=lambda entry: entry.name, reverse=True))

    monkeypatch.setattr(os, "scandir", Reversed)
    assert index([source], [], None) == straight


def test_a_loop_of_links_ends_and_every_file_is_found_once(tmp_path: Path) -> None:
    source = write(tmp_path / "source", FILES)
    (source / "a" / "loop").symlink_to(source)
    (source / "again").symlink_to(source / "a")
    (source / "gone").symlink_to(source / "nowhere")
    found = index([source], [], None)
    assert contents(found) == FILES
    assert found.skipped == 1, "the broken link counts as skipped"


def test_hidden_and_unfinished_files_are_skipped_and_counted(tmp_path: Path) -> None:
    junk = [".DS_Store", "__MACOSX/._one.txt", "a/._one.txt", "Thumbs.db", "big.nii.gz.crdownload", "x.part", ".git/x"]
    source = write(tmp_path / "source", {**FILES, **dict.fromkeys(junk, b"x")})
    found = index([source], [], None)
    assert contents(found) == FILES
    assert found.skipped == len(junk)
    assert all(is_junk(name) for name in junk)


def test_the_output_folder_is_not_searched(tmp_path: Path) -> None:
    source = write(tmp_path / "source", {**FILES, "nnUNet_raw/Dataset001_A/imagesTr/x.txt": b"x"})
    assert contents(index([source], [source / "nnUNet_raw"], None)) == FILES


def test_folders_nested_too_deep_are_named(tmp_path: Path) -> None:
    deep = "/".join("abcdefghijkl"[: MAX_DEPTH + 1])
    found = index([write(tmp_path / "source", {**FILES, f"{deep}/x.txt": b"x"})], [], None)
    assert contents(found) == FILES
    assert [Path(folder).name for folder in found.too_deep] == [deep[-1]]


@pytest.mark.parametrize("make", [tar, zipped])
def test_members_of_zip_and_tar_are_read_where_they_are(tmp_path: Path, make) -> None:  # type: ignore[no-untyped-def]
    archive = make(tmp_path / "download.archive", FILES)
    found = index([archive], [], tmp_path / "extract")
    assert contents(found) == {f"download.archive!/{name}": data for name, data in FILES.items()}
    assert not any(file.linkable for file in found.files)
    assert not (tmp_path / "extract").exists()
    assert read(found.files[-1], 5) == FILES[found.files[-1].path.removeprefix("download.archive!/")][:5]
    archives.close_all()


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_compressed_tars_are_unpacked_for_a_conversion_and_only_listed_in_a_dry_run(tmp_path: Path, mode: str) -> None:
    source = tmp_path / "source"
    source.mkdir()
    tar(source / f"download.tar.{mode[2:]}", FILES, mode)
    expected = {f"download.tar.{mode[2:]}!/{name}": data for name, data in FILES.items()}
    listed = index([source], [], None)
    assert {file.path: file.size for file in listed.files} == {name: len(data) for name, data in expected.items()}
    assert listed.closed_archives
    found = index([source], [], tmp_path / "extract")
    assert contents(found) == expected
    assert not any(file.linkable for file in found.files), "a link would point into the deleted extraction"


def test_a_link_is_not_followed_to_what_is_around_it_or_the_user_or_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, disk, home = tmp_path / "source", tmp_path / "disk" / "data", tmp_path / "homes" / "me"
    write(source, FILES)
    write(disk, {"more.txt": b"more", "deep/x.txt": b"x"})
    write(home, {"letters.txt": b"private"})
    write(tmp_path / "disk" / "other", {"other.txt": b"of others"})
    monkeypatch.setenv("HOME", str(home))
    for number, target in enumerate(("/", "/usr", "/proc/self", "/sys", home, home.parent, tmp_path)):
        (source / f"link{number}").symlink_to(target)
    (source / "a" / "up").symlink_to("../..")
    (source / "elsewhere").symlink_to(disk)
    (disk / "deep" / "up").symlink_to("../..")  # above where it lies, but not above the source
    (disk / "again").symlink_to("..")
    (disk / "sister").symlink_to("../other")
    found = index([source], [], None)
    there = {"elsewhere/more.txt": b"more", "elsewhere/deep/x.txt": b"x", "elsewhere/sister/other.txt": b"of others"}
    assert contents(found) == {**FILES, **there}
    assert found.skipped == 7 + 1 + 2


def test_a_link_to_a_huge_tree_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nnunet_ext.dataset_conversion.find.walk._MAX_LINKED", 10)
    source = write(tmp_path / "source", {f"{number}.txt": b"x" for number in range(30)})
    write(tmp_path / "huge", {f"{number}/x.txt": b"x" for number in range(6)})
    write(tmp_path / "small", {f"{number}.txt": b"x" for number in range(9)})
    write(tmp_path / "little", {f"{number}.txt": b"x" for number in range(9)})
    for name in ("small", "little"):
        (source / name).symlink_to(tmp_path / name)
    assert len(index([source], [], None).files) == 48, "each link counts for itself, what is no link does not"
    (source / "huge").symlink_to(tmp_path / "huge")
    with pytest.raises(UserError, match=rf"LAY01: link {source}/huge leads to more than 10 files - remove the link"):
        index([source], [], None)


def test_a_missing_source_and_a_file_that_is_no_archive_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="LAY01: source not found") as caught:
        index([tmp_path / "gone"], [], None)
    assert caught.value.file == str(tmp_path / "gone")
    (tmp_path / "notes.txt").write_text("no archive")
    with pytest.raises(UserError, match=r"LAY01: .*notes\.txt is neither a folder nor an archive"):
        index([tmp_path / "notes.txt"], [], None)


IMPOSTORS = {
    "is empty": b"",
    "is a web page": b"\n<!DOCTYPE html><html>",
    "is a Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\n",
}


@pytest.mark.parametrize(("text", "data"), IMPOSTORS.items())
def test_files_that_are_no_data_are_named(tmp_path: Path, text: str, data: bytes) -> None:
    path = tmp_path / "case_t1.nii.gz"
    path.write_bytes(data)
    with pytest.raises(UserError, match=f"IO02: .*case_t1.nii.gz {text}"):
        read(SourceFile(0, path.name, str(path), len(data)))


def test_an_archive_that_fills_the_disk_while_unpacking_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tar(tmp_path / "a.tar.gz", FILES, "w:gz")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and _Usage())
    with pytest.raises(UserError, match="ARC04"):
        index([archive], [], tmp_path / "extract")


class _Usage:
    free = 10


def test_a_broken_archive_beside_the_data_is_told_and_one_among_the_sources_refused(tmp_path: Path) -> None:
    source = write(tmp_path / "source", FILES)
    broken = source / "slides.zip"
    broken.write_bytes(b"PK not really")
    found = index([source], [], None)
    assert {file.path for file in found.files} == {*FILES, "slides.zip"}
    assert [error.code for error in found.unopened] == ["ARC01"]
    with pytest.raises(UserError, match="ARC01"):
        index([broken], [], None)


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("second", "text"),
    [
        ("a/one.txt", "x.zip holds a/one.txt twice"),
        ("A/One.txt", "a/one.txt and A/One.txt would be one file"),
        ("a", "a/one.txt and a would be one file"),
        ("three.txt/x", "three.txt and three.txt/x would be one file"),
    ],
)
def test_a_zip_that_holds_a_name_twice_is_ambiguous(tmp_path: Path, second: str, text: str) -> None:
    path = zipped(tmp_path / "x.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second, b"other")
    with pytest.raises(UserError, match=f"NAM04: .*{text}.* - unpack it by hand"):
        index([path], [], None)


def test_an_archive_without_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(tmp_path / "x.zip", FILES)

    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(UserError, match=r"ARC01: .*x.zip cannot be read: Permission denied - check its permissions"):
        index([path], [], None)


@pytest.mark.parametrize("method", ["exists", "is_dir"])
def test_a_source_without_permission_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    def denied(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, denied)
    with pytest.raises(UserError, match=r"LAY01: .* cannot be read: Permission denied"):
        index([tmp_path], [], None)
