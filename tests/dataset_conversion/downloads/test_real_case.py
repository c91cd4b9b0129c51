"""The real BraTS 2023 case, renamed into the layout of 2021: what converts, and what is refused.

Its label maps are outputs of algorithms: good for geometry and values, not for accuracy.
"""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest

_ROLES = {"t1c": "t1ce", "t1n": "t1", "t2f": "flair", "t2w": "t2"}
CASE = "BraTS2021_00001"
DATA = Path(os.environ.get("NNUNET_EXT_TEST_DATA", Path(__file__).resolve().parents[4] / "shared" / "data")) / "brats"

pytestmark = pytest.mark.skipif(
    not DATA.is_dir(), reason=f"no real BraTS case in {DATA} (NNUNET_EXT_TEST_DATA names the folder of test data)"
)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four images under their names of 2021, compressed."""
    folder = tmp_path_factory.mktemp("real")
    with tarfile.open(next(DATA.glob("BraTS-GLI-*.tar.xz")), "r:xz") as archive:
        for member in archive:
            sequence = member.name.removesuffix(".nii").rpartition("-")[2]
            if sequence in _ROLES:
                stream = archive.extractfile(member)
                assert stream is not None
                name = f"{CASE}_{_ROLES[sequence]}.nii.gz"
                (folder / name).write_bytes(gzip.compress(stream.read(), 1, mtime=0))
    return folder


@pytest.fixture
def source(images: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``source(which)``: the case with one of the three machine labels."""

    def make(which: str) -> Path:
        folder = tmp_path / "download" / CASE
        folder.mkdir(parents=True)
        for file in images.iterdir():
            (folder / file.name).hardlink_to(file)
        (label,) = (p for p in (DATA / "machine_segmentations").iterdir() if which in p.name)
        data = label.read_bytes()
        (folder / f"{CASE}_seg.nii.gz").write_bytes(data if data[:2] == b"\x1f\x8b" else gzip.compress(data, 1))
        return folder.parent

    return make


def test_the_real_case_converts_with_links_and_its_label_comes_back(source, command, nnunet_folders, tmp_path):
    given = source("isen")
    outcome = command("convert", "brats2021", "-i", given, "--splits", "0")
    assert outcome.code == 0, outcome.err
    assert "GEO07" not in outcome.out
    folder = nnunet_folders.raw / "Dataset521_BraTS2021"
    image = folder / "imagesTr" / f"{CASE}_0001.nii.gz"
    assert image.samefile(given / CASE / f"{CASE}_t1ce.nii.gz"), "an unchanged image is linked"
    label = nibabel.load(folder / "labelsTr" / f"{CASE}.nii.gz")
    assert label.shape == (240, 240, 155)
    assert np.array_equal(label.affine, nibabel.load(image).affine)
    counts = dict(zip(*np.unique(np.asarray(label.dataobj), return_counts=True), strict=True))
    # Numbers of voxels of the source, in the order of our labels: 2 edema, 1 necrosis, 4 enhancing.
    assert (counts[1], counts[2], counts[3]) == (79295, 17930, 22383)
    back = tmp_path / "back"
    assert command("to-submission", "brats2021", "-i", folder / "labelsTr", "-o", back).code == 0
    source_label = nibabel.load(given / CASE / f"{CASE}_seg.nii.gz")
    returned = nibabel.load(back / f"{CASE}_seg.nii.gz")
    assert np.array_equal(np.asarray(returned.dataobj), np.asarray(source_label.dataobj))


def test_a_label_in_the_coding_of_2023_is_refused(source, refused):
    given = source("BraTS23_1.")
    refused(
        "LAB01",
        ("3 (23327 voxels)", "looks like the 2023 convention", f"{CASE}_seg.nii.gz"),
        "convert",
        "brats2021",
        "-i",
        given,
        "--splits",
        "0",
        bad_case=CASE,
    )


def test_a_label_with_the_geometry_of_another_tool_is_refused(source, refused):
    given = source("mapped")
    refused(
        "GEO04",
        (CASE, "origin by 239 mm", f"{CASE}_seg.nii.gz"),
        "convert",
        "brats2021",
        "-i",
        given,
        "--splits",
        "0",
        bad_case=CASE,
    )


@pytest.mark.parametrize("share", [0.3, 0.999])
def test_a_real_image_cut_short_is_refused(share, source, refused):
    given = source("isen")
    file = given / CASE / f"{CASE}_flair.nii.gz"
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data[: int(len(data) * share)])
    refused("GZ01", (file.name, "ends early"), "convert", "brats2021", "-i", given, "--splits", "0", bad_case=CASE)


def test_a_real_image_one_slice_short_is_refused(source, refused, edit_nifti):
    given = source("isen")
    file = given / CASE / f"{CASE}_t2.nii.gz"
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data)
    edit_nifti(file, lambda values: values[:, :, :154])
    refused(
        "GEO01",
        ("240x240x154", "240x240x155", file.name),
        "convert",
        "brats2021",
        "-i",
        given,
        "--splits",
        "0",
        bad_case=CASE,
    )


def test_the_names_of_2023_are_not_taken_for_2021(refused, tmp_path):
    folder = tmp_path / "download"
    with tarfile.open(next(DATA.glob("BraTS-GLI-*.tar.xz")), "r:xz") as archive:
        for name in archive.getnames():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".nii"):
                (folder / name).write_bytes(b"n+1")
    refused("LAY01", ("no known layout", str(folder)), "convert", "brats2021", "-i", folder)
