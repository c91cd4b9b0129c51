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
from nnunet_ext.dataset_conversion.find.sources import MAX_DEPTH, Index, index, is_junk, read
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


@pytest.mark.parametrize("inner", ["inner.tar", "inner.zip", "inner.tar.gz"])
def test_an_archive_in_an_archive_is_followed_one_level(tmp_path: Path, inner: str) -> None:
    part = tmp_path / inner
    deepest = zipped(tmp_path / "deepest.zip", {"x.txt": b"x"}).read_bytes()
    files = {**FILES, "deepest.zip": deepest}
    if inner.endswith(".zip"):
        zipped(part, files)
    else:
        tar(part, files, "w:gz" if inner.endswith("gz") else "w")
    outer = zipped(tmp_path / "outer.zip", {f"folder/{inner}": part.read_bytes(), "readme.md": b"?"})
    names = {f"outer.zip!/folder/{inner}!/{name}" for name in files} | {"outer.zip!/readme.md"}
    assert {file.path for file in index([outer], [], None).files} == names
    found = index([outer], [], tmp_path / "extract")
    assert set(contents(found)) == names
    assert contents(found)[f"outer.zip!/folder/{inner}!/a/b/two.txt"] == FILES["a/b/two.txt"]
    archives.close_all()


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
@pytest.mark.parametrize("second", ["a/one.txt", "A/One.txt"])
def test_a_zip_that_holds_a_name_twice_is_ambiguous(tmp_path: Path, second: str) -> None:
    path = zipped(tmp_path / "x.zip", FILES)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(second, b"other")
    with pytest.raises(UserError, match=f"NAM04: a/one.txt and {second} would be one file"):
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
