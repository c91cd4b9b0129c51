"""What a header declares is bounded before anything is decoded; too little memory is one line; the peak is small."""

from __future__ import annotations

import gzip
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.cases import case_forms
from nnunet_ext.dataset_conversion.formats import nifti, pictures, sizes
from nnunet_ext.errors import UserError

Convert = Callable[..., Any]


def zeros(shape: tuple[int, int, int]) -> bytes:
    """An honest NIfTI file of zeros, compressed: a thousandth of what it holds."""
    stream = zlib.compressobj(1, wbits=31)
    parts = [stream.compress(nifti.new_header(shape, (1.0, 1.0, 1.0), "|u1"))]
    left, step = int(np.prod(shape)), bytes(1 << 22)
    while left > 0:
        parts.append(stream.compress(step[:left]))
        left -= len(step)
    return b"".join([*parts, stream.flush()])


def png(width: int, height: int) -> bytes:
    """A PNG file of black pixels, made row by row."""
    stream = zlib.compressobj(1)
    rows = b"".join([*(stream.compress(bytes(3 * width + 1)) for _ in range(height)), stream.flush()])

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def large_brats(folder: Path, brats_case: Callable[..., Path], shape: tuple[int, int, int]) -> Path:
    content = zeros(shape)
    for name in ("BraTS2021_00000", "BraTS2021_00002"):
        for path in brats_case(folder, name).iterdir():
            path.write_bytes(content)
    return folder


def peak_gigabytes(tmp_path: Path, *arguments: str) -> tuple[float, int, str]:
    """Peak memory, exit code and what was printed of a command, in a process that was started by a small one."""
    script = (
        "import resource, subprocess, sys\n"
        "done = subprocess.run([sys.executable, '-m', 'nnunet_ext', *sys.argv[1:]], stdout=subprocess.PIPE,"
        " stderr=subprocess.STDOUT, text=True)\n"
        "print(done.stdout)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6, done.returncode)\n"
    )
    env = {**os.environ, "nnUNet_raw": str(tmp_path / "raw"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True, check=True, env=env
    )
    text, _, last = done.stdout.strip().rpartition("\n")
    peak, code = last.split()
    return float(peak), int(code), text


def test_a_volume_larger_than_its_dataset_is_refused_by_its_header(
    tmp_path: Path, brats_case: Callable[..., Path]
) -> None:
    source = large_brats(tmp_path / "d", brats_case, (800, 800, 800))
    peak, code, text = peak_gigabytes(tmp_path, "convert", "brats2021", "-i", str(source), "-np", "1", "--splits", "2")
    assert code == 2
    assert "error SIZ01: BraTS2021_00000: 800x800x800 voxels (512 MB) are more than the 35,712,000" in text
    assert "--allow SIZ01" in text
    assert peak < 0.5
    assert not list(tmp_path.glob("raw/*/imagesTr/*"))


def test_a_picture_larger_than_is_read_is_refused_by_its_header(tmp_path: Path) -> None:
    folder = tmp_path / "Dataset_BUSI_with_GT" / "benign"
    folder.mkdir(parents=True)
    (folder / "benign (1).png").write_bytes(png(13000, 13000))
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(folder / "benign (1)_mask.png")
    arguments = ("convert", "busi", "-i", str(tmp_path), "-np", "1", "--splits", "0")
    peak, code, text = peak_gigabytes(tmp_path, *arguments)
    assert code == 2
    assert "error SIZ02: benign (1): 13000x13000 pixels are more than the 33,554,432 that a picture may have" in text
    assert peak < 0.5


def test_bounds_are_lifted_by_allow(
    tmp_path: Path, brats_case: Callable[..., Path], convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "max_volume_voxels", lambda published: 100)
    for number in (0, 2):
        brats_case(tmp_path / "d", f"BraTS2021_{number:05d}", seed=number)
    with pytest.raises(UserError, match=r"SIZ01: .*8x7x6 voxels .* more than the 100 voxels"):
        convert_to("brats2021", tmp_path / "d")
    done = convert_to("brats2021", tmp_path / "d", allow=("SIZ01",))
    assert done.complete
    assert {finding.severity for finding in done.all_findings if finding.code == "SIZ01"} == {"warning"}


def test_all_slices_of_a_case_share_one_bound(lgg: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sizes, "MAX_SERIES_PIXELS", 1200)
    with pytest.raises(
        UserError, match=r"SIZ02: TCGA_HT_7473.*9x10 pixels are more than the 85 that each of the 14 pict"
    ):
        convert_to("lgg", lgg)
    assert convert_to("lgg", lgg, allow=("SIZ02",), restart=True).complete


def test_a_file_too_large_for_its_pixels_is_not_read(
    lgg: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sizes, "MAX_PICTURE_BYTES", 50)
    monkeypatch.setattr(pictures, "size_of", lambda *_: pytest.fail("opened"))
    with pytest.raises(UserError, match="SIZ03: TCGA_CS_4941_19960909: a file of "):
        convert_to("lgg", lgg)


def test_a_volume_without_a_published_shape_is_bounded_in_bytes_as_well() -> None:
    assert sizes.volume_too_large((512, 512, 500), 2 * 512 * 512 * 500, None, "case", "file") == []
    for shape, size in (((512, 512, 500), 8 * 512 * 512 * 500), ((1024, 1024, 1000), 1024 * 1024 * 1000)):
        (finding,) = sizes.volume_too_large(shape, size, None, "case", "file")
        assert finding.code == "SIZ01"


def test_too_little_memory_is_one_line(lgg: Path, convert_to: Convert, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    forms = {name: case_forms.Form(form.plan, no_memory) for name, form in case_forms.FORMS.items()}  # type: ignore[arg-type]
    monkeypatch.setattr(case_forms, "FORMS", forms)
    with pytest.raises(UserError, match=r"MEM01: TCGA_CS_4941_19960909: the memory does not suffice; the largest file"):
        convert_to("lgg", lgg)


def test_a_file_of_a_declared_size_is_read_to_its_end(
    tmp_path: Path, brats_case: Callable[..., Path], convert_to: Convert
) -> None:
    """A header within the bound, over content that is longer: no more than declared is kept."""
    folder = brats_case(tmp_path / "d", "BraTS2021_00000")
    brats_case(tmp_path / "d", "BraTS2021_00002", seed=1)
    path = folder / "BraTS2021_00000_t1.nii.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(1 << 24)))
    with pytest.raises(UserError, match=r"IO01: .*holds more than the .* bytes that its header declares"):
        convert_to("brats2021", tmp_path / "d")
