"""Archives that lead astray, explode or are broken are refused; nothing is unpacked.

Row numbers are those of the table of malformed inputs on the design page of the datasets.
"""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

CASE = "BraTS2021_00002"


def _tar(path: Path, source: Path, odd: Callable[[tarfile.TarFile], None], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:
        archive.add(source, arcname="data")
        odd(archive)
    return path


def _zip(path: Path, source: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(source.rglob("*.nii.gz")):
            archive.write(file, file.relative_to(source))
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def _member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.linkname = kind, link
        archive.addfile(info, io.BytesIO())

    return add


TARS = {
    "a member above (75)": (_member(f"../../{CASE}_t1.nii.gz"), "ARC02"),
    "a member that climbs out (75)": (_member(f"data/../../{CASE}_t1.nii.gz"), "ARC02"),
    "an absolute member (76)": (_member(f"/tmp/{CASE}_t1.nii.gz"), "ARC02"),
    "a drive letter": (_member(f"C:\\{CASE}_t1.nii.gz"), "ARC02"),
    "a symbolic link (78)": (_member(f"data/{CASE}_t1.nii.gz", tarfile.SYMTYPE, "/etc/passwd"), "ARC03"),
    "a hard link (79)": (_member(f"data/{CASE}_t1.nii.gz", tarfile.LNKTYPE, "/etc/passwd"), "ARC03"),
    "a pipe (79)": (_member(f"data/{CASE}_t1.nii.gz", tarfile.FIFOTYPE), "ARC03"),
    "a device (79)": (_member("data/null", tarfile.CHRTYPE), "ARC03"),
}


@pytest.mark.parametrize("mode", ["w", "w:gz"])
@pytest.mark.parametrize("what", TARS)
def test_a_tar_with_an_unsafe_member_is_refused(what, mode, refused, pristine, tmp_path):
    odd, code = TARS[what]
    archive = _tar(tmp_path / ("x.tar" if mode == "w" else "x.tar.gz"), pristine("brats2021"), odd, mode)
    refused(code, (archive.name,), "convert", "brats2021", "-i", archive)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        ["nnUNet_preprocessed", "nnUNet_raw", "nnUNet_results", archive.name]
    )


@pytest.mark.parametrize("name", ["..\\x", "../x", "/x", "C:/x", "a/../../x", "\\x"])
def test_a_zip_with_a_name_that_leads_outside_is_refused(name, refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {name: b"x"})
    if "\\" in name:  # Python writes a slash where the platform has one; the raw name needs the backslash
        archive.write_bytes(archive.read_bytes().replace(name.replace("\\", "/").encode(), name.encode()))
    refused("ARC02", ("x.zip",), "convert", "brats2021", "-i", archive)


def test_a_zip_with_a_symbolic_link_is_refused(refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {})
    with zipfile.ZipFile(archive, "a") as more:
        link = zipfile.ZipInfo(f"{CASE}_t1.nii.gz")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        more.writestr(link, "/etc/passwd")
    refused("ARC03", ("x.zip",), "convert", "brats2021", "-i", archive)


def test_a_zip_that_would_expand_a_thousandfold_is_refused(refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {"BraTS2021_00099_t1.nii": bytes(100_000_000)})
    refused("ARC04", ("x.zip", "40 times"), "convert", "brats2021", "-i", archive)


def test_a_zip_that_lies_about_its_size_is_refused(refused, pristine, tmp_path):
    # The directory says 99 bytes, the stream holds a million: believed, it would be cut; expanded, it might never end.
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {f"{CASE}_seg.nii": bytes(1_000_000)})
    data = archive.read_bytes()
    archive.write_bytes(data.replace(struct.pack("<I", 1_000_000), struct.pack("<I", 99)))
    refused("ARC01", ("x.zip",), "convert", "brats2021", "-i", archive)


def test_an_encrypted_zip_is_refused(refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {})
    data = bytearray(archive.read_bytes())
    for signature, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = data.find(signature)
        while at >= 0:
            data[at + place] |= 1
            at = data.find(signature, at + 4)
    archive.write_bytes(bytes(data))
    refused("ARC05", ("x.zip",), "convert", "brats2021", "-i", archive)


@pytest.mark.parametrize(
    ("name", "data"),
    [("BraTS2021.rar", b"Rar!\x1a\x07\x01\x00" + bytes(600)), ("BraTS2021.7z", b"7z\xbc\xaf\x27\x1c" + bytes(600))],
)
def test_archives_that_python_cannot_open_are_to_be_unpacked_first(name, data, refused, tmp_path):
    (tmp_path / name).write_bytes(data)
    refused("ARC06", (name, "unpack it with 7z and give the folder"), "convert", "brats2021", "-i", tmp_path / name)


@pytest.mark.parametrize("kept", [0.5, 0.9, 0.99])
def test_a_tar_cut_short_is_refused(kept, refused, pristine, tmp_path):
    whole = (pristine("brats2021", layout="kaggle") / "BraTS2021_Training_Data.tar").read_bytes()
    # The padding at the end of a tar says nothing: cut within the data.
    end = len(whole.rstrip(b"\0"))
    archive = tmp_path / "BraTS2021_Training_Data.tar"
    archive.write_bytes(whole[: int(end * kept)])
    refused("ARC01", (archive.name,), "convert", "brats2021", "-i", archive)


@pytest.mark.parametrize("inside_header", [0, 100])
def test_a_tar_cut_between_two_cases_is_refused(inside_header, refused, pristine, tmp_path):
    whole = pristine("brats2021", layout="kaggle") / "BraTS2021_Training_Data.tar"
    with tarfile.open(whole) as opened:
        last = next(member for member in opened if member.name.startswith("BraTS2021_00008/"))
    archive = tmp_path / whole.name
    archive.write_bytes(whole.read_bytes()[: last.offset + inside_header])
    refused("ARC01", (archive.name,), "convert", "brats2021", "-i", archive)


@pytest.mark.parametrize(("ending", "mode"), [(".tar.gz", "w:gz"), (".tgz", "w:gz"), (".tar.xz", "w:xz")])
def test_a_compressed_tar_cut_short_is_refused(ending, mode, refused, pristine, tmp_path):
    archive = _tar(tmp_path / f"x{ending}", pristine("brats2021"), lambda _: None, mode)
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) * 3 // 4])
    refused("ARC01", (archive.name,), "convert", "brats2021", "-i", archive)


def test_a_zip_cut_short_is_refused(refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {})
    data = archive.read_bytes()
    archive.write_bytes(data[: len(data) // 2])
    refused("ARC01", ("x.zip",), "convert", "brats2021", "-i", archive)


def test_a_damaged_member_of_a_zip_is_refused(refused, pristine, tmp_path):
    archive = _zip(tmp_path / "x.zip", pristine("brats2021"), {})
    with zipfile.ZipFile(archive) as opened:
        info = next(i for i in opened.infolist() if i.filename.endswith(f"{CASE}_t1.nii.gz"))
    data = bytearray(archive.read_bytes())
    data[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 8
    archive.write_bytes(bytes(data))
    refused("ARC01", ("x.zip",), "convert", "brats2021", "-i", archive, bad_case=CASE)


def test_something_else_in_place_of_an_archive_is_refused(refused, tmp_path):
    file = tmp_path / "BraTS2021_Training_Data.tar"
    file.write_bytes(b"<html>Please log in</html>" * 99)
    refused("LAY01", (file.name, "neither a folder nor an archive"), "convert", "brats2021", "-i", file)


@pytest.mark.parametrize("layout", ["kaggle", "zip"])
def test_sound_archives_convert_without_being_unpacked(layout, command, pristine, nnunet_folders):
    source = pristine("brats2021", layout=layout, quirks=True)
    assert command("convert", "brats2021", "-i", source).code == 0
    assert len(list(nnunet_folders.raw.rglob("imagesTr/*.nii.gz"))) == 24
    assert not list(nnunet_folders.raw.glob(".extract*"))


@pytest.mark.parametrize("name", ["BraTS.7z", "BraTS.part1.rar", "BraTS.zip.001", "BraTS.tar.gz.aa", "BraTS.tar.zst"])
def test_an_archive_beside_the_data_that_cannot_be_opened_may_be_left_out(
    name, refused, command, download, nnunet_folders
):
    source = download("brats2021")
    (source / name).write_bytes(b"whatever" * 99)
    refused("ARC06", (str(source / name), " cannot be opened", "give "), "convert", "brats2021", "-i", source)
    outcome = command("convert", "brats2021", "-i", source, "--allow", "ARC06")
    assert outcome.code == 0
    assert name in outcome.out
    assert len(list(nnunet_folders.raw.rglob("labelsTr/*.nii.gz"))) == 6


def test_an_archive_beside_the_data_in_an_archive_is_named_and_may_be_left_out(
    refused, command, pristine, tmp_path, nnunet_folders
):
    archive = _zip(
        tmp_path / "x.zip", pristine("brats2021"), {"slides/more.zip": b"PK but none", "__MACOSX/._y.zip": b"x"}
    )
    refused("ARC01", ("x.zip!/slides/more.zip cannot be read",), "convert", "brats2021", "-i", archive)
    assert command("convert", "brats2021", "-i", archive, "--allow", "ARC01").code == 0


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_hard_links_of_a_tar_are_converted_as_the_files_they_are(
    mode, command, download, nnunet_folders, tmp_path, tree
):
    source = download("brats2021")
    first = next(source.rglob(f"{CASE}_t1.nii.gz"))
    second = next(source.rglob(f"{CASE}_t1ce.nii.gz"))
    second.write_bytes(first.read_bytes())
    assert command("convert", "brats2021", "-i", source, "-o", tmp_path / "plain", "--link", "copy").code == 0
    second.unlink()
    second.hardlink_to(first)
    archive = _tar(tmp_path / "x.tar", source, lambda _: None, mode)
    with tarfile.open(archive) as opened:
        assert any(member.islnk() for member in opened)
    assert command("convert", "brats2021", "-i", archive, "--dry-run").code == 0
    assert command("convert", "brats2021", "-i", archive).code == 0
    folders = [next(raw.glob("Dataset521*/imagesTr")) for raw in (tmp_path / "plain", nnunet_folders.raw)]
    assert tree(folders[0]) == tree(folders[1])


@pytest.mark.parametrize("outer", ["zip", "tar.gz"])
@pytest.mark.parametrize("damage", ["cut short", "a climber", "a link", "Deflate64"])
def test_a_fault_in_the_third_archive_is_one_line_with_its_name(damage, outer, refused, pristine, tmp_path):
    third = tmp_path / "third.zip"
    code, text = {
        "cut short": ("ARC01", "cannot be read"),
        "a climber": ("ARC02", "leads outside of"),
        "a link": ("ARC03", "is a symbolic link"),
        "Deflate64": ("ARC01", "is compressed by Deflate64"),
    }[damage]
    if damage == "a climber" or damage == "a link":
        third = third.with_suffix(".tar")
        odd = _member("../x") if damage == "a climber" else _member("x", tarfile.SYMTYPE, "y")
        _tar(third, pristine("brats2021"), odd)
    else:
        data = _zip(third, pristine("brats2021"), {}).read_bytes()
        cut = data[: len(data) // 2]
        deflate64 = data.replace(b"PK\1\2\x14\3\x14\0\0\0\x08\0", b"PK\1\2\x14\3\x14\0\0\0\x09\0")
        third.write_bytes(cut if damage == "cut short" else deflate64)
    with tarfile.open(tmp_path / "second.tar.xz", "w:xz") as archive:
        archive.add(third, f"more/{third.name}")
    source = tmp_path / f"first.{outer}"
    if outer == "zip":
        with zipfile.ZipFile(source, "w") as first:
            first.write(tmp_path / "second.tar.xz", "second.tar.xz")
    else:
        with tarfile.open(source, "w:gz") as packed:
            packed.add(tmp_path / "second.tar.xz", "second.tar.xz")
    name = f"{source}!/second.tar.xz!/more/{third.name}"
    refused(code, (name, text, " - "), "convert", "brats2021", "-i", source)
    third.unlink()


@pytest.mark.parametrize("outer", ["zip", "tar", "tar.gz"])
def test_a_download_in_three_archives_is_converted_as_its_folder_is(
    outer, command, pristine, nnunet_folders, tmp_path, tree
):
    _tar(tmp_path / "third.tar.gz", pristine("brats2021"), lambda _: None, "w:gz")
    with zipfile.ZipFile(tmp_path / "second.zip", "w") as archive:
        archive.write(tmp_path / "third.tar.gz", "x/third.tar.gz")
        archive.writestr("__MACOSX/x/._third.tar.gz", b"\0\5\x16\7")
    source = tmp_path / f"first.{outer}"
    if outer == "zip":
        with zipfile.ZipFile(source, "w") as first:
            first.write(tmp_path / "second.zip", "second.zip")
    else:
        with tarfile.open(source, "w:gz" if outer.endswith("gz") else "w") as packed:
            packed.add(tmp_path / "second.zip", "second.zip")
    assert command("convert", "brats2021", "-i", source, "--dry-run").code == 0
    assert list(nnunet_folders.raw.iterdir()) == []
    assert command("convert", "brats2021", "-i", source).code == 0
    assert command("convert", "brats2021", "-i", pristine("brats2021"), "-o", tmp_path / "plain").code == 0
    folders = [next(raw.glob("Dataset521*")) for raw in (tmp_path / "plain", nnunet_folders.raw)]
    for part in ("imagesTr", "labelsTr"):
        assert tree(folders[0] / part) == tree(folders[1] / part)
    assert not list(nnunet_folders.raw.glob(".extract*"))


def test_a_tar_within_a_zip_is_followed(command, pristine, nnunet_folders, tmp_path):
    inner = pristine("brats2021", layout="kaggle")
    with zipfile.ZipFile(tmp_path / "archive.zip", "w") as archive:
        for file in sorted(inner.iterdir()):
            archive.write(file, file.name)
    assert command("convert", "brats2021", "-i", tmp_path / "archive.zip").code == 0
    assert len(list(nnunet_folders.raw.rglob("labelsTr/*.nii.gz"))) == 6
    assert not list(nnunet_folders.raw.glob(".extract*"))
