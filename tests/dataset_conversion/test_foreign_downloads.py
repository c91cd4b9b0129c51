"""Names, tables, archives and images that were made to hang, to fill the memory or to run something."""

from __future__ import annotations

import gzip
import io
import os
import struct
import subprocess
import tarfile
import time
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.case import Case, SourceFile, natural_key
from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.find import archives, tables
from nnunet_ext.dataset_conversion.find.assemble import assemble
from nnunet_ext.dataset_conversion.find.layout import match
from nnunet_ext.dataset_conversion.find.sources import index
from nnunet_ext.dataset_conversion.formats import gz, nifti, pictures
from nnunet_ext.errors import UserError

pytestmark = pytest.mark.usefixtures("time_limit")

OneLine = Callable[..., str]
PATIENT = "TCGA_CS_4941_19960909"


def file(path: Path, data: bytes | str) -> SourceFile:
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return SourceFile(0, path.name, str(path), path.stat().st_size)


# --- names --------------------------------------------------------------------------------------------------------


def codes(dataset: str, *names: str) -> list[str]:
    matched = match(get(dataset), [SourceFile(0, name, name, 1) for name in names])
    return [finding.code for finding in assemble(matched).findings]


def test_the_billionth_slice_is_one_gap_and_not_a_billion() -> None:
    names = [f"{PATIENT}/{PATIENT}_{number}{mask}.tif" for number in ("1", "9" * 200) for mask in ("", "_mask")]
    found = codes("lgg", *names)
    assert set(found) == {"SLC01"}
    assert len(found) < 100


def test_the_billionth_mask_is_a_missing_mask() -> None:
    found = codes("busi", "benign (1).png", "benign (1)_mask.png", f"benign (1)_mask_{'9' * 200}.png")
    assert set(found) == {"NAM01"}
    assert len(found) < 100


@pytest.mark.parametrize(
    ("dataset", "name"),
    [("busi", "ben\u0131gn (1).png"), ("busi", "bengn (²).png"), ("lgg", f"{PATIENT}_\u0661.tif")],
)
def test_letters_and_digits_of_other_alphabets_are_of_no_release(dataset: str, name: str) -> None:
    assert match(get(dataset), [SourceFile(0, name, name, 1)]).cases == {}
    assert natural_key("a²") == [(1, 0, "a²")]


@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", [f"{PATIENT}_{'1' * 5000}.tif", "a/" * 3000 + "x.tif"])
def test_a_member_with_a_name_of_no_file_system_is_refused(
    tmp_path: Path, one_line: OneLine, kind: str, name: str
) -> None:
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, b"x")
    else:
        with tarfile.open(path, "w") as archive_tar:
            archive_tar.addfile(tarfile.TarInfo(name))
    assert one_line("convert", "lgg", "-i", path, "-o", tmp_path / "raw").startswith("error ARC02: ")


def test_a_member_without_a_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("x", b"x")
    data = (tmp_path / "x.zip").read_bytes()
    at = data.index(b"PK\x01\x02")
    data = data[: at + 28] + b"\0\0" + data[at + 30 : at + 46] + data[at + 47 :]
    end = data.index(b"PK\x05\x06")
    data = data[: end + 12] + struct.pack("<I", end - at) + data[end + 16 :]
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(UserError, match="ARC01"):
        archives.members(tmp_path / "x.zip")


def test_a_link_to_everything_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a" / "download").mkdir(parents=True)
    (tmp_path / "a" / "download" / "x.txt").write_text("x")
    (tmp_path / "a" / "download" / "more").symlink_to("/")
    (tmp_path / "a" / "download" / "up").symlink_to("..")
    found = index([tmp_path / "a" / "download"], [], None)
    assert ([f.path for f in found.files], found.skipped) == (["x.txt"], 2)
    both = index([tmp_path / "a" / "download", tmp_path / "a"], [], None)
    assert [f.path for f in both.files] == ["x.txt"], "a folder above may be a source of its own"


def test_a_source_that_is_a_pipe_is_no_source(tmp_path: Path, one_line: OneLine) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "LAY01" in one_line("convert", "lgg", "-i", tmp_path / "pipe", "-o", tmp_path / "raw")


# --- archives -----------------------------------------------------------------------------------------------------


def header(name: bytes, size: int, kind: bytes, negative: bool = False) -> bytes:
    info = tarfile.TarInfo(name.decode())
    info.size, info.type = size, kind
    block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    if negative:
        block[124:136] = b"\xff" * 10 + struct.pack(">h", -size)
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


TARS = {
    "an endless name": header(b"././@LongLink", 100_000_000, tarfile.GNUTYPE_LONGNAME) + bytes(100_000_000),
    "an endless header": header(b"pax", 100_000_000, tarfile.XHDTYPE) + bytes(100_000_000),
    "a size below nothing": header(b"x", 512, tarfile.REGTYPE, negative=True) + bytes(1024),
    "a link to itself": (
        header(b"pax", 512, tarfile.XHDTYPE) + b"14 size=-1536\n".ljust(512, b"\0") + header(b"x", 0, tarfile.REGTYPE)
    ),
    "endless holes": (
        header(b"pax", 512, tarfile.XHDTYPE)
        + b"22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n".ljust(512, b"\0")
        + header(b"x", 512, tarfile.REGTYPE)
        + b"1" * 50_000_000
    ),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("what", TARS)
def test_headers_of_a_tar_take_neither_memory_nor_time(tmp_path: Path, what: str, compressed: bool) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(gzip.compress(TARS[what], 1) if compressed else TARS[what])
    tracemalloc.start()
    with pytest.raises(UserError, match=r"ARC0[13]"):
        archives.members(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


# --- tables -------------------------------------------------------------------------------------------------------

BAD_SIZES = [
    "[" * 100_000,
    "[]",
    '{"a": 1}',
    '{"a": {"width": 1}}',
    '{"a": {"width": [], "height": 1}}',
    '{"a": {"width": 1e999, "height": 1}}',
    '{"a": {"width": "x", "height": 1}}',
    '{"a": {"width": ' + "9" * 5000 + ', "height": 1}}',
]


@pytest.mark.parametrize("text", BAD_SIZES)
def test_a_table_of_sizes_that_is_none_is_a_warning(tmp_path: Path, text: str) -> None:
    case = Case("a", "a", "train", {}, "a")
    (filled,), (finding,) = tables.apply_sizes([case], [file(tmp_path / "sizes.json", text)])
    assert finding.code == "CSV01"
    assert "sizes.json is no table of sizes" in finding.message
    assert filled == case


def test_sizes_may_be_text_or_have_a_point(tmp_path: Path) -> None:
    table = file(tmp_path / "sizes.json", '{"A": {"width": "60", "height": 50.0, "more": []}}')
    (filled,), findings = tables.apply_sizes([Case("a", "a", "train", {}, "a")], [table])
    assert (filled.published_shape, findings) == ((60, 50), [])


@pytest.mark.parametrize("what", ["a field", "the file"])
def test_a_table_beyond_all_measure_is_a_warning(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    if what == "the file":
        monkeypatch.setattr(tables, "_MAX_BYTES", 1000)
    table = file(tmp_path / "name_mapping.csv", "Grade,BraTS_2020_subject_ID\nHGG," + "x" * 200_000 + "\n")
    case = Case("BraTS20_Training_001", "BraTS20_Training_001", "train", {}, "x")
    (filled,), (finding,) = tables.apply_tables(get("brats2020"), [case], [table])
    assert finding.code == "CSV01"
    assert "name_mapping.csv" in finding.message
    assert filled.stratum is None


@pytest.mark.parametrize("option", ["--groups", "--splits"])
@pytest.mark.parametrize("kind", ["a pipe", "an endless device", "binary", "nested", "a list of names"])
def test_a_given_table_or_split_that_is_none_is_refused(
    tmp_path: Path, brats2021: Path, one_line: OneLine, option: str, kind: str
) -> None:
    path = tmp_path / "given"
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "an endless device":
        path = Path("/dev/zero")
    else:
        path.write_bytes({"binary": b"\xff\0\xfe", "nested": b"[" * 100_000, "a list of names": b'["a"]'}[kind])
    line = one_line("convert", "brats2021", "-i", brats2021, "-o", tmp_path / "raw", option, path, "-np", 1)
    assert line.startswith("error CSV02: " if option == "--groups" else "error SPL02: ")


# --- images -------------------------------------------------------------------------------------------------------


def test_a_file_of_many_small_parts_is_read_in_no_time() -> None:
    start = time.monotonic()
    assert gz.decompress(gzip.compress(b"", mtime=0) * 100_000, 10, "x") == b""
    assert time.monotonic() - start < 6, "the time grows with the square of the number of parts"


@pytest.mark.parametrize(("place", "value"), [(42, (32767, 32767, 32767)), (42, (2048, 2048, 2048))])
def test_a_header_that_declares_more_than_any_memory_is_refused(place: int, value: tuple[int, ...]) -> None:
    raw = bytearray(nifti.new_header((2, 2, 2), (1.0, 1.0, 1.0), "|u1"))
    raw[place : place + 2 * len(value)] = struct.pack(f"<{len(value)}h", *value)
    with pytest.raises(UserError, match="IO01: x declares"):
        nifti.parse(bytes(raw), "x")
    raw = bytearray(nifti.new_header((2, 2, 2), (1.0, 1.0, 1.0), "|u1"))
    raw[108:112] = struct.pack("<f", 1e30)
    with pytest.raises(UserError, match="IO01: x has a damaged NIfTI header"):
        nifti.parse(bytes(raw), "x")


def test_damaged_headers_are_refused_in_one_line(nifti: Callable[..., bytes]) -> None:
    from nnunet_ext.dataset_conversion.formats.nifti import parse

    rng = np.random.default_rng(0)
    whole = nifti(np.zeros((5, 6, 7), np.int16))[:352]
    codes: set[str | None] = set()
    for _ in range(2000):
        raw = bytearray(whole)
        for place in rng.integers(4, 352, 4):
            raw[place] = rng.choice([0, 127, 128, 255])
        try:
            parse(bytes(raw), "x")
        except UserError as error:
            codes.add(error.code)
    assert codes == {"IO01", "DT01", "GEO05", "GEO06"}


def damaged_pictures() -> list[tuple[str, bytes]]:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (20, 30, 3)).astype(np.uint8)
    found = []
    for ending in ("png", "tif", "jpg", "bmp"):
        stream = io.BytesIO()
        exif = Image.Exif()
        exif[274] = 6
        Image.fromarray(pixels).save(
            stream, Image.registered_extensions()[f".{ending}"], **({} if ending == "bmp" else {"exif": exif})
        )
        whole = stream.getvalue()
        for _ in range(150):
            data = bytearray(whole)
            # headers at the beginning, of TIFF at the end
            for place in rng.integers(0, min(len(data), 150), 3):
                data[-place if ending == "tif" else place] = rng.choice([0, 1, 255])
            found.append((ending, bytes(data)))
    return found


@pytest.mark.filterwarnings("ignore")
def test_damaged_pictures_are_refused_in_one_line() -> None:
    codes: set[str | None] = set()
    for ending, data in damaged_pictures():
        try:
            pictures.mask(data, "x", f"x.{ending}")
        except UserError as error:
            codes.add(error.code)
    assert "IO01" in codes
    assert codes <= {"IO01", "DT01"}


def test_a_picture_starts_no_other_program(monkeypatch: pytest.MonkeyPatch) -> None:
    """PIL hands PostScript to Ghostscript, whatever the name of the file says."""

    def started(*given: Any, **_: Any) -> None:
        raise AssertionError(f"started {given}")

    monkeypatch.setattr(subprocess, "Popen", started)
    monkeypatch.setattr(subprocess, "check_call", started)
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n(x) print\nshowpage\n%%EOF\n"
    for read in (pictures.mask, pictures.colour):
        with pytest.raises(UserError, match=r"IO01: x\.png cannot be decoded: unknown format"):
            read(script, "x", "x.png")


def test_a_file_that_is_longer_than_its_header_says_is_not_read(
    tmp_path: Path, brats2021: Path, one_line: OneLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = next(brats2021.rglob("*_t1.nii.gz"))
    with path.open("r+b") as opened:
        opened.truncate(1 << 40)
    line = one_line("convert", "brats2021", "-i", brats2021, "-o", tmp_path / "raw", "-np", 1, "--splits", 2)
    assert line.startswith("error IO01: ")
    assert "holds more than" in line
