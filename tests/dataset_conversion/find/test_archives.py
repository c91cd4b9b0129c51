"""Archives in folders and in archives: what is opened, what is skipped, and why something is not opened."""

from __future__ import annotations

import io
import struct
import subprocess
import tarfile
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.find import archives, members
from nnunet_ext.dataset_conversion.find.archive_kinds import looks_like_archive, whole_name
from nnunet_ext.dataset_conversion.find.sources import Index, index, read
from nnunet_ext.errors import UserError

FILES = {"a/one.txt": b"one", "a/b/two.txt": b"two, longer", "three.txt": b"3" * 700}
JUNK = {
    "__MACOSX/._x.zip": b"\0\5\x16\7",
    "a/._x.tar.gz": b"\0\5\x16\7",
    ".Trash/old.tar": b"no tar",
    "b/.DS_Store": b"x",
    "more.zip.part": b"PK",
}
KINDS = [".zip", ".tar", ".tar.gz", ".tar.xz", ".tbz2"]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    archives.close_all()


@pytest.fixture(params=["dry run", "conversion"])
def extract_to(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return None if request.param == "dry run" else tmp_path / "extract"


def packed(name: str, files: dict[str, bytes]) -> bytes:
    """An archive of the kind that its name says."""
    buffer = io.BytesIO()
    if name.endswith(".zip"):
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                archive.writestr(member, data)
    else:
        mode = {"tar": "w", "gz": "w:gz", "xz": "w:xz", "tbz2": "w:bz2"}[name.rpartition(".")[2]]
        with tarfile.open(None, mode, buffer) as archive_tar:
            for member, data in files.items():
                info = tarfile.TarInfo(member)
                info.size = len(data)
                archive_tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar(path: Path, *added: tarfile.TarInfo, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        for info in added:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def contents(found: Index) -> dict[str, bytes]:
    return {file.path: b"" if file.location in found.closed_archives else read(file) for file in found.files}


def told(found: Index) -> list[str]:
    return [str(error) for error in found.unopened]


# --- junk --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_junk_is_skipped_in_archives_as_in_folders(tmp_path: Path, kind: str, extract_to: Path | None) -> None:
    (tmp_path / f"x{kind}").write_bytes(packed(kind, {**JUNK, **FILES}))
    found = index([tmp_path / f"x{kind}"], [], extract_to)
    assert {file.path for file in found.files} == {f"x{kind}!/{name}" for name in FILES}
    assert (found.skipped, found.unopened) == (len(JUNK), ())
    for name, data in JUNK.items():
        (tmp_path / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / name).write_bytes(data)
    in_folder = index([tmp_path / "folder"], [], extract_to)
    assert (in_folder.files, in_folder.unopened) == ((), ())


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_junk_may_be_a_link_or_encrypted(tmp_path: Path, mode: str, extract_to: Path | None) -> None:
    path = tar(tmp_path / "x.tar", member(".git/HEAD", tarfile.SYMTYPE, "/etc"), member("a", size=3), mode=mode)
    found = index([path], [], extract_to)
    assert ([file.path for file in found.files], found.skipped) == (["x.tar!/a"], 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_hidden_archive_that_is_the_source_is_no_junk(tmp_path: Path, kind: str, extract_to: Path | None) -> None:
    (tmp_path / f".x{kind}").write_bytes(packed(kind, FILES))
    assert len(index([tmp_path / f".x{kind}"], [], extract_to).files) == len(FILES)


def test_names_with_points_in_their_paths_are_no_junk(tmp_path: Path, extract_to: Path | None) -> None:
    (tmp_path / "x.zip").write_bytes(packed(".zip", {"./a/./one.txt": b"one", "a//two.txt": b"two"}))
    found = index([tmp_path / "x.zip"], [], extract_to)
    assert contents(found) == {"x.zip!/a/one.txt": b"one", "x.zip!/a/two.txt": b"two"}


# --- archives in archives ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", KINDS)
@pytest.mark.parametrize("inner", KINDS)
def test_archives_are_opened_down_to_the_third(tmp_path: Path, outer: str, inner: str, extract_to: Path | None) -> None:
    third = packed(".tar", {**FILES, f"fourth{outer}": packed(outer, FILES)})
    second = packed(inner, {"third.tar": third, "s.txt": b"s", **JUNK})
    (tmp_path / f"x{outer}").write_bytes(packed(outer, {f"d/second{inner}": second, "z.txt": b"z"}))
    found = index([tmp_path / f"x{outer}"], [], extract_to)
    in_third = f"x{outer}!/d/second{inner}!/third.tar!/"
    names = {in_third + name for name in (*FILES, f"fourth{outer}")}
    assert set(contents(found)) == names | {f"x{outer}!/d/second{inner}!/s.txt", f"x{outer}!/z.txt"}
    assert found.skipped == len(JUNK)
    if extract_to is not None:
        assert contents(found)[f"{in_third}a/b/two.txt"] == FILES["a/b/two.txt"]
        assert not any(file.linkable for file in found.files)
    ((line),) = told(found)
    assert line.startswith(f"ARC06: {tmp_path}/{in_third}fourth{outer} lies in 3 archives")
    assert "unpack the outermost" in line


@pytest.mark.parametrize("outer", KINDS)
@pytest.mark.parametrize("inner", KINDS)
def test_a_message_names_the_archive_within_and_the_others_are_used(
    tmp_path: Path, outer: str, inner: str, extract_to: Path | None
) -> None:
    broken = packed(inner, {"a.txt": bytes(range(256)) * 40})
    broken = broken[: len(broken) // 2]
    files = {f"in/broken{inner}": broken, "in/not.zip": b"no zip", "in/sound.tar": packed(".tar", FILES)}
    (tmp_path / f"x{outer}").write_bytes(packed(outer, files))
    found = index([tmp_path / f"x{outer}"], [], extract_to)
    assert [line.split(" cannot be read")[0] for line in sorted(told(found))] == [
        f"ARC01: {tmp_path}/x{outer}!/in/broken{inner}",
        f"ARC01: {tmp_path}/x{outer}!/in/not.zip",
    ]
    assert sum("sound.tar!/" in file.path for file in found.files) == len(FILES)


@pytest.mark.parametrize("outer", KINDS)
def test_danger_within_an_archive_within_is_refused(tmp_path: Path, outer: str, extract_to: Path | None) -> None:
    (tmp_path / f"x{outer}").write_bytes(packed(outer, {"in.tar": packed(".tar", {"../x": b"x"})}))
    with pytest.raises(UserError, match=rf"ARC02: member '../x' leads outside of .*x{outer}!/in.tar"):
        index([tmp_path / f"x{outer}"], [], extract_to)


def test_a_bomb_in_an_archive_counts_for_all_around_it(tmp_path: Path, extract_to: Path | None) -> None:
    # Each by itself would do: 60 MB are too little to be suspicious.
    bomb = packed(".zip", {"x": bytes(60 << 20)})
    (tmp_path / "x.zip").write_bytes(packed(".zip", {"a.zip": bomb, "b.zip": bomb}))
    with pytest.raises(UserError, match=r"ARC04: .*x\.zip would expand to more than 40 times its size"):
        index([tmp_path / "x.zip"], [], extract_to)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_without_number_take_no_memory(
    tmp_path: Path, mode: str, extract_to: Path | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nnunet_ext.dataset_conversion.find.archive_rules.MAX_MEMBERS", 1000)
    monkeypatch.setattr("nnunet_ext.dataset_conversion.find.archive_kinds._MAX_LIST_BYTES", 50_000)
    path = tar(tmp_path / "x.tar", *(member("d", tarfile.DIRTYPE) for _ in range(1001)), mode=mode)
    with pytest.raises(UserError, match=r"ARC04: .*x\.tar holds more than"):
        index([path], [], extract_to)
    (tmp_path / "x.zip").write_bytes(packed(".zip", {f"{number}": b"" for number in range(1001)}))
    with pytest.raises(UserError, match=r"ARC04: .*x\.zip holds more than"):
        index([tmp_path / "x.zip"], [], extract_to)


def test_long_headers_count_as_what_they_expand_to(tmp_path: Path, extract_to: Path | None) -> None:
    info = member("d", tarfile.DIRTYPE)
    info.pax_headers = {"comment": "x" * 900_000}
    path = tar(tmp_path / "x.tar.gz", *([info] * 80), mode="w:gz")
    with pytest.raises(UserError, match=r"ARC04: .*x\.tar\.gz would expand to more than 40 times its size"):
        index([path], [], extract_to)


# --- what is no plain file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_hard_link_to_an_earlier_file_is_that_file(tmp_path: Path, mode: str, extract_to: Path | None) -> None:
    first, again = member("a/one", size=600), member("b/two", tarfile.LNKTYPE, "./a/one")
    path = tar(tmp_path / "x.tar", first, again, member("c", tarfile.LNKTYPE, "b/../a/one"), mode=mode)
    with pytest.raises(UserError, match=r"ARC03: .*x\.tar!/c is a hard link to 'b/../a/one', which is no earlier file"):
        index([path], [], extract_to)
    path = tar(tmp_path / "x.tar", first, again, member("d", size=5), mode=mode)
    found = index([path], [], extract_to)
    sizes = {file.path: file.size for file in found.files}
    assert sizes == {"x.tar!/a/one": 600, "x.tar!/b/two": 600, "x.tar!/d": 5}
    if not found.closed_archives:
        assert set(contents(found).values()) == {b"x" * 600, b"x" * 5}


def test_a_hard_link_that_tar_itself_wrote_is_read(tmp_path: Path, extract_to: Path | None) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "one.zip").write_bytes(packed(".zip", FILES))
    (source / "two.zip").hardlink_to(source / "one.zip")
    subprocess.run(["tar", "-czf", tmp_path / "x.tgz", "-C", source, "one.zip", "two.zip"], check=True)
    found = index([tmp_path / "x.tgz"], [], extract_to)
    assert {file.path for file in found.files} == {f"x.tgz!/{n}.zip!/{name}" for n in ("one", "two") for name in FILES}


LINKS = {
    "a symbolic link": member("b", tarfile.SYMTYPE, "a"),
    "a hard link to 'gone'": member("b", tarfile.LNKTYPE, "gone"),
    "a hard link to '/a'": member("b", tarfile.LNKTYPE, "/a"),
    "a hard link to 'z'": member("b", tarfile.LNKTYPE, "z"),
    "a device or a pipe": member("b", tarfile.FIFOTYPE),
    "of a kind of its own": member("b", b"M"),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("what", LINKS)
def test_other_links_are_refused_with_a_remedy(tmp_path: Path, what: str, mode: str, extract_to: Path | None) -> None:
    path = tar(tmp_path / "x.tar", member("a", size=3), LINKS[what], member("z", size=3), mode=mode)
    with pytest.raises(UserError, match=rf"ARC03: .*x\.tar!/b is {what}.* - .*unpack it by hand and give the folder"):
        index([path], [], extract_to)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_the_label_of_a_tar_is_no_file(tmp_path: Path, mode: str, extract_to: Path | None) -> None:
    path = tar(
        tmp_path / "x.tar", member("BraTS 2021", b"V"), member("d", b"D", size=9), member("a", size=3), mode=mode
    )
    assert [file.path for file in index([path], [], extract_to).files] == ["x.tar!/a"]


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_tar_that_holds_a_name_twice_is_ambiguous(tmp_path: Path, mode: str, extract_to: Path | None) -> None:
    path = tar(tmp_path / "x.tar", member("a", size=3), member("./a", size=5), mode=mode)
    with pytest.raises(UserError, match=r"NAM04: .*x\.tar holds a twice"):
        index([path], [], extract_to)


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_an_absolute_name_is_told_with_a_way_that_is_safe(tmp_path: Path, mode: str, extract_to: Path | None) -> None:
    path = tar(tmp_path / "x.tar", member("/home/me/data/a", size=3), mode=mode)
    with pytest.raises(UserError, match=r"ARC02: member '/home/me/data/a' .*begins at the top of the disk - .*tar -xf"):
        index([path], [], extract_to)


@pytest.mark.parametrize("format", ["gnu", "posix", "oldgnu"])
@pytest.mark.parametrize("first", [True, False])
def test_a_sparse_file_is_named_for_what_it_is(
    tmp_path: Path, format: str, first: bool, extract_to: Path | None
) -> None:
    for name in ("hollow.nii", "plain"):
        (tmp_path / name).write_bytes(b"x" * 5000)
    with (tmp_path / "hollow.nii").open("r+b") as file:
        file.truncate(5 << 20)
    names = ["hollow.nii", "plain"] if first else ["plain", "hollow.nii"]
    path = tmp_path / "x.tar"
    subprocess.run(["tar", "-S", f"--format={format}", "-cf", path, "-C", tmp_path, *names], check=True)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"ARC01: .*x\.tar!/hollow\.nii is stored as a sparse file.* - unpack the tar"):
        index([path], [], extract_to)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
    (tmp_path / "out").mkdir()
    subprocess.run(["tar", "-xf", path, "-C", tmp_path / "out"], check=True)  # the remedy
    assert (tmp_path / "out" / "hollow.nii").read_bytes() == (tmp_path / "hollow.nii").read_bytes()


# --- zips --------------------------------------------------------------------------------------------------------


def patched(data: bytes, local: int, central: int, value: int) -> bytes:
    """A zip with another number in the headers of all members."""
    changed = bytearray(data)
    for signature, place in ((b"PK\3\4", local), (b"PK\1\2", central)):
        at = changed.find(signature)
        while at >= 0:
            struct.pack_into("<H", changed, at + place, value)
            at = changed.find(signature, at + 4)
    return bytes(changed)


METHODS = [(9, "Deflate64"), (98, "PPMd"), (1, "Shrink"), (77, "method 77")]


@pytest.mark.parametrize(("number", "method"), METHODS)
def test_a_way_of_compression_that_python_has_not_is_named(
    tmp_path: Path, number: int, method: str, extract_to: Path | None
) -> None:
    (tmp_path / "x.zip").write_bytes(patched(packed(".zip", FILES), 8, 10, number))
    pattern = rf"ARC01: .*x\.zip!/a/one\.txt is compressed by {method}.* - unpack the zip with 7z and give the folder"
    with pytest.raises(UserError, match=pattern):
        index([tmp_path / "x.zip"], [], extract_to)


def test_an_encrypted_member_is_named(tmp_path: Path, extract_to: Path | None) -> None:
    (tmp_path / "x.zip").write_bytes(patched(packed(".zip", FILES), 6, 8, 1))
    with pytest.raises(UserError, match=r"ARC05: .*x\.zip!/a/one\.txt is encrypted - unpack the zip with its password"):
        index([tmp_path / "x.zip"], [], extract_to)


def test_a_later_version_of_zip_is_left_to_7z(tmp_path: Path, extract_to: Path | None) -> None:
    (tmp_path / "x.zip").write_bytes(patched(packed(".zip", FILES), 4, 6, 99))
    with pytest.raises(UserError, match=r"ARC01: .*x\.zip cannot be read: .* - unpack it with 7z"):
        index([tmp_path / "x.zip"], [], extract_to)


@pytest.mark.parametrize("name", ["", ".", "./"])
def test_a_member_without_a_name_is_one_line(tmp_path: Path, name: str, extract_to: Path | None) -> None:
    data = packed(".zip", {"x": b"x", "one": b"1"})
    at = data.index(b"PK\1\2")
    length = struct.pack("<H", len(name))
    changed = data[: at + 28] + length + data[at + 30 : at + 46] + name.encode() + data[at + 47 :]
    end = changed.index(b"PK\5\6")
    changed = changed[: end + 12] + struct.pack("<I", end - at) + changed[end + 16 :]
    (tmp_path / "x.zip").write_bytes(changed)
    if name.endswith("/"):
        assert [file.path for file in index([tmp_path / "x.zip"], [], extract_to).files] == ["x.zip!/one"]
        return
    with pytest.raises(UserError, match=r"ARC01: .*x\.zip holds a file without a name - unpack it with 7z"):
        index([tmp_path / "x.zip"], [], extract_to)


def test_a_tar_member_without_a_name_is_one_line(tmp_path: Path, extract_to: Path | None) -> None:
    path = tar(tmp_path / "x.tar", member("./", tarfile.DIRTYPE), member("", size=3))
    with pytest.raises(UserError, match=r"ARC01: .*x\.tar holds a file without a name"):
        index([path], [], extract_to)


def test_a_damaged_member_is_named_and_not_its_archive_alone(tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(packed(".zip", FILES).replace(b"3\4\0", b"3\5\0"))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    data[data.index(b"a/one.txt") + 9] ^= 0xFF
    (tmp_path / "x.zip").write_bytes(bytes(data))
    file = index([tmp_path / "x.zip"], [], None).files[0]
    with pytest.raises(UserError, match=r"ARC01: .*x\.zip!/a/one\.txt "):
        read(file)


# --- what Python cannot open -------------------------------------------------------------------------------------

SEVEN, RAR = b"7z\xbc\xaf\x27\x1c" + bytes(600), b"Rar!\x1a\7\1\0" + bytes(600)
UNSUPPORTED = {
    "x.7z": (SEVEN, "Python reads no 7z - unpack it with 7z and give the folder"),
    "x.rar": (RAR, "Python reads no rar - unpack it with 7z and give the folder"),
    "x.zip": (RAR, "Python reads no rar - unpack it with 7z and give the folder"),
    "x.tar.zst": (b"\x28\xb5\x2f\xfd" + bytes(600), "Python reads no zst - unpack it with 'tar -xf' and give"),
    "x.zip.001": (packed(".zip", FILES)[:200], "a part of a split archive, x.zip, and cannot be opened - unpack it w"),
    "x.7z.001": (SEVEN, "a part of a split archive, x.7z, and cannot be opened - unpack it with 7z"),
    "x.part1.rar": (RAR, "a part of a split archive, x.rar"),
    "x.tar.gz.aa": (packed(".tar.gz", FILES)[:100], "join its parts ('cat x.tar.gz.a* > x.tar.gz') and give x.tar.gz"),
    "x.tar.001": (packed(".tar", FILES)[:1000], "join its parts ('cat x.tar.[0-9]* > x.tar')"),
}


@pytest.mark.parametrize("where", ["source", "folder", "zip", "tar.gz"])
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_opened_is_named_with_a_remedy(
    tmp_path: Path, name: str, where: str, extract_to: Path | None
) -> None:
    data, text = UNSUPPORTED[name]
    source = tmp_path / "download"
    source.mkdir()
    more = {name.replace("001", "002").replace(".aa", ".ab").replace("part1", "part2"): b"more" * 200}
    files = {name: data, **(more if name not in more else {}), "one.txt": b"1"}
    if where in ("zip", "tar.gz"):
        (source / f"outer.{where}").write_bytes(packed(f".{where}", files))
    else:
        for each, content in files.items():
            (source / each).write_bytes(content)
    if where == "source":
        with pytest.raises(UserError, match="ARC06") as caught:
            index([source / name], [], extract_to)
        lines = [str(caught.value)]
    else:
        found = index([source], [], extract_to)
        assert sorted(file.name for file in found.files) == sorted(files)
        lines = told(found)
    assert len(lines) == 1, "of the parts of an archive one is told"
    shown = f"outer.{where}!/{name}" if where in ("zip", "tar.gz") else name
    assert lines[0].startswith(f"ARC06: {source}/{shown} ")
    assert text in lines[0]


def test_the_parts_of_a_split_archive_that_are_joined_are_the_archive(tmp_path: Path) -> None:
    whole = packed(".tar.gz", FILES)
    for number, part in enumerate((whole[:80], whole[80:])):
        (tmp_path / f"x.tar.gz.a{'ab'[number]}").write_bytes(part)
    subprocess.run("cat x.tar.gz.a* > x.tar.gz", shell=True, cwd=tmp_path, check=True)
    assert len(index([tmp_path / "x.tar.gz"], [], None).files) == len(FILES)


def test_the_last_part_of_a_zip_over_several_files_is_named(tmp_path: Path, extract_to: Path | None) -> None:
    data = bytearray(packed(".zip", FILES))
    end = data.index(b"PK\5\6")
    struct.pack_into("<HH", data, end + 4, 2, 2)
    (tmp_path / "x.zip").write_bytes(bytes(data[100:]))
    (tmp_path / "x.z01").write_bytes(b"PK\7\x08" + bytes(data[:100]))
    for name in ("x.zip", "x.z01"):
        with pytest.raises(
            UserError, match=rf"ARC06: .*{name} is a part of a split archive, x\.zip.* - unpack it with"
        ):
            index([tmp_path / name], [], extract_to)
    assert len(told(index([tmp_path], [], extract_to))) == 1


@pytest.mark.parametrize("name", ["scan.r01", "x.z01", "x.zip.1", "x.tar.gz.md5", "x.tar.gz.asc", "a.part1", "x.001"])
def test_other_names_are_of_no_archive(name: str) -> None:
    assert not looks_like_archive(name)
    assert whole_name(name) == name


def test_members_are_listed_while_their_archive_is_open(tmp_path: Path) -> None:
    (tmp_path / "x.tar.gz").write_bytes(packed(".tar.gz", FILES))
    opened: list[bytes] = []
    size = (tmp_path / "x.tar.gz").stat().st_size
    with (tmp_path / "x.tar.gz").open("rb") as stream:
        found = members.contents(stream, "x", size, members.Budget(size, "x"))
        opened = [content().read() for _, content in found]
    assert opened == list(FILES.values())
