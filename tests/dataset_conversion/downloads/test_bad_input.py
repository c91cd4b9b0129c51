"""Downloads with something wrong in their files: each is refused in one line that names the file, nothing half-written.

Row numbers are those of the table of malformed inputs on the design page of the datasets.
"""

from __future__ import annotations

import gzip
import io
import shutil
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

CASE = "BraTS2021_00002"
PATIENT = "TCGA_CS_4941_19960909"


def _file(download: Path, role: str, case: str = CASE) -> Path:
    return next(download.rglob(f"{case}_{role}.nii*"))


# --- names and layout (rows 6-10, 13, 20) ------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "named"), [("t1ce", "T1ce"), ("t1", "T1"), ("flair", "FLAIR"), ("seg", "seg")])
def test_a_missing_modality_or_label_is_named_with_its_case(role, named, download, refused):
    source = download("brats2021")
    _file(source, role).unlink()
    refused("NAM01", (f"{CASE} lacks {named}", f"/{CASE}"), "convert", "brats2021", "-i", source)


def test_a_case_that_lacks_everything_but_its_label_is_an_error(download, refused):
    source = download("brats2021")
    for role in ("t1", "t1ce", "t2", "flair"):
        _file(source, role).unlink()
    refused("NAM01", (CASE, "seg without image"), "convert", "brats2021", "-i", source)


def test_several_faults_are_counted_and_the_first_is_told(download, refused):
    source = download("brats2021")
    for case in ("BraTS2021_00002", "BraTS2021_00003", "BraTS2021_00005"):
        _file(source, "t2", case).unlink()
    refused("NAM01", ("BraTS2021_00002 lacks T2", "2 more errors"), "convert", "brats2021", "-i", source)


def test_two_labels_of_one_case_with_different_content_are_refused(download, refused, edit_nifti):
    source = download("brats2021")
    label = _file(source, "seg")
    plain = label.with_suffix("")
    plain.write_bytes(gzip.decompress(label.read_bytes()))
    edit_nifti(plain, lambda values: np.where(values == 4, 1, values).astype(values.dtype))
    refused("NAM02", (f"{CASE}: two files for seg", "seg.nii"), "convert", "brats2021", "-i", source)


def test_two_labels_of_one_case_with_equal_content_are_one(download, command, nnunet_folders):
    source = download("brats2021")
    label = _file(source, "seg")
    label.with_suffix("").write_bytes(gzip.decompress(label.read_bytes()))
    assert command("convert", "brats2021", "-i", source).code == 0
    assert len(list(nnunet_folders.raw.rglob("labelsTr/*.nii.gz"))) == 6


def test_two_odd_files_in_place_of_the_label_of_case_355_are_too_many(download, refused):
    source = download("brats2020", quirks=True)
    odd = next(source.rglob("W39*.nii"))
    shutil.copy(odd, odd.with_name("other.nii"))
    refused("NAM01", ("BraTS20_Training_355 lacks seg (2 candidates)",), "convert", "brats2020", "-i", source)


def test_two_copies_of_the_lgg_tree_that_differ_in_one_mask_are_refused(download, refused):
    source = download("lgg", quirks=True)
    mask = next((source / "lgg-mri-segmentation").rglob(f"{PATIENT}_6_mask.tif"))
    tifffile.imwrite(mask, 255 - tifffile.imread(mask), photometric="minisblack", rowsperstrip=11, metadata=None)
    refused("LAY05", ("the two copies of kaggle_3m differ", f"{PATIENT}_6_mask.tif"), "convert", "lgg", "-i", source)


def test_a_missing_slice_is_named(download, refused):
    source = download("lgg")
    for file in source.rglob(f"{PATIENT}_7*.tif"):
        file.unlink()
    refused("SLC01", (f"{PATIENT} slice 7 missing",), "convert", "lgg", "-i", source)


def test_a_slice_without_mask_is_named(download, refused):
    source = download("lgg")
    next(source.rglob(f"{PATIENT}_7_mask.tif")).unlink()
    refused("NAM01", (f"{PATIENT} slice 7 lacks mask",), "convert", "lgg", "-i", source)


def test_one_case_in_two_sources_with_different_bytes_is_refused(download, refused, edit_nifti):
    first, second = download("brats2021"), download("brats2021", name="again")
    edit_nifti(_file(second, "t2"), lambda values: values + values.dtype.type(1))
    shown = refused("DUP02", (CASE,), "convert", "brats2021", "-i", first, "-i", second)
    assert f"{CASE}_t2.nii.gz" in shown


def test_one_case_in_two_sources_with_equal_bytes_is_one_case(download, command, nnunet_folders):
    first, second = download("brats2021"), download("brats2021", name="again")
    assert command("convert", "brats2021", "-i", first, "-i", second).code == 0
    assert len(list(nnunet_folders.raw.rglob("imagesTr/*_0000.nii.gz"))) == 6


def test_a_case_in_the_tar_and_another_version_of_it_in_a_folder_is_refused(download, refused, edit_nifti):
    archive = download("brats2021", name="kaggle", layout="kaggle")
    folder = download("brats2021")
    edit_nifti(_file(folder, "t1"), lambda values: values + values.dtype.type(2))
    refused("DUP02", (CASE,), "convert", "brats2021", "-i", archive, "-i", folder)


# --- damaged files (rows 28-36) ----------------------------------------------------------------------------------

HTML = b"<!DOCTYPE html><html><body>Please log in</body></html>"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 123\n"


def _flip(data: bytes) -> bytes:
    """One bit of the last stored block changed so that the stream still ends where it did: only the CRC can tell."""
    content = bytearray(gzip.decompress(data))
    content[len(content) // 2] ^= 1
    return gzip.compress(bytes(content), 1, mtime=0)[:-8] + data[-8:]


DAMAGES = {
    "cut in half (28)": (lambda data: data[: len(data) // 2], "GZ01", "ends early"),
    "cut within the trailer (28)": (lambda data: data[:-5], "GZ01", "ends early"),
    "one voxel other than the CRC says (29)": (_flip, "GZ01", "CRC"),
    "wrong CRC (29)": (lambda data: data[:-8] + bytes([data[-8] ^ 255]) + data[-7:], "GZ01", "CRC"),
    "wrong length (30)": (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "GZ01", "length"),
    "bytes after the end": (lambda data: data + b"tail", "GZ01", "damaged"),
    "plain NIfTI (31)": (gzip.decompress, "IO01", "is not gzip"),
    "empty (32)": (lambda _: b"", "IO02", "is empty"),
    "a web page (33)": (lambda _: HTML, "IO02", "is a web page"),
    "a Git LFS pointer (34)": (lambda _: POINTER, "IO02", "is a Git LFS pointer"),
    "no image": (lambda _: gzip.compress(b"nothing of the kind" * 99, 1, mtime=0), "IO01", "is not a NIfTI file"),
    "fewer voxels than its header declares": (
        lambda data: gzip.compress(gzip.decompress(data)[:-64], 1, mtime=0),
        "IO01",
        "bytes that its header declares",
    ),
    "more voxels than its header declares": (
        lambda data: gzip.compress(gzip.decompress(data) + bytes(64), 1, mtime=0),
        "IO01",
        "that its header declares",
    ),
}


@pytest.mark.parametrize("role", ["t1", "flair", "seg"])
@pytest.mark.parametrize("what", DAMAGES)
def test_a_damaged_file_is_refused(what, role, download, refused):
    damage, code, text = DAMAGES[what]
    source = download("brats2021")
    file = _file(source, role)
    file.write_bytes(damage(file.read_bytes()))
    refused(code, (text, file.name), "convert", "brats2021", "-i", source, bad_case=CASE)


def test_a_damaged_stream_that_a_reader_would_take_is_refused_wherever_the_damage_is(download, refused, command):
    # A changed byte of the deflate stream may give any error, or only a wrong CRC; never silence.
    source = download("brats2021")
    file = _file(source, "t2")
    whole = file.read_bytes()
    for place in range(18, len(whole), max(1, len(whole) // 12)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        outcome = command("convert", "brats2021", "-i", source, "--restart")
        assert outcome.code == 2, f"byte {place} of {len(whole)}"
        assert file.name in outcome.err


def test_an_error_in_one_case_keeps_the_others_and_mending_it_finishes_the_job(
    download, refused, command, tree, tmp_path
):
    source = download("brats2021")
    file = _file(source, "t1")
    good = file.read_bytes()
    file.write_bytes(good[:-3])
    line = refused("GZ01", (file.name,), "convert", "brats2021", "-i", source, bad_case=CASE)
    assert "report.md" in line
    file.write_bytes(good)
    assert command("convert", "brats2021", "-i", source).code == 0
    undisturbed = tmp_path / "undisturbed"
    assert command("convert", "brats2021", "-i", source, "-o", undisturbed).code == 0
    resumed = tree(tmp_path / "nnUNet_raw" / "Dataset521_BraTS2021")
    expected = tree(undisturbed / "Dataset521_BraTS2021")
    assert {k: v for k, v in resumed.items() if k != "provenance.json"} == {
        k: v for k, v in expected.items() if k != "provenance.json"
    }


def _tif(pixels: np.ndarray, **how) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, metadata=None, **how)
    return buffer.getvalue()


def _jpeg(data: bytes) -> bytes:
    buffer = io.BytesIO()
    Image.open(io.BytesIO(data)).convert("RGB").save(buffer, "JPEG")
    return buffer.getvalue()


PICTURES = {
    "cut short (35)": ("_5.tif", lambda data: data[: len(data) // 2], "IO01", "cannot be decoded"),
    "JPEG data (36)": ("_5.tif", _jpeg, "IO01", "is JPEG data in a .tif name"),
    "empty (32)": ("_5_mask.tif", lambda _: b"", "IO02", "is empty"),
    "a web page (33)": ("_5.tif", lambda _: HTML, "IO02", "is a web page"),
    "mask of another size (39)": ("_5_mask.tif", lambda _: _tif(np.zeros((16, 17), np.uint8)), "GEO02", "shape"),
    "slice of another size": (
        "_5.tif",
        lambda _: _tif(np.ones((16, 17, 3), np.uint8), photometric="rgb"),
        "GEO01",
        "shape",
    ),
    "grey photograph as mask (61)": (
        "_5_mask.tif",
        lambda _: _tif(np.tile(np.arange(18, dtype=np.uint8) * 12, (16, 1))),
        "LAB03",
        "neither",
    ),
    "mask in alpha alone (62)": (
        "_5_mask.tif",
        lambda _: _tif(
            np.dstack([np.zeros((16, 18, 3), np.uint8), np.tri(16, 18, dtype=np.uint8) * 255]),
            photometric="rgb",
            extrasamples="unassalpha",
        ),
        "LAB03",
        "only in alpha",
    ),
    "16-bit picture": ("_5.tif", lambda _: _tif(np.ones((16, 18), np.uint16)), "DT01", "8-bit"),
}


@pytest.mark.parametrize("form", ["2d", "3d"])
@pytest.mark.parametrize("what", PICTURES)
def test_a_damaged_picture_is_refused(what, form, download, refused):
    ending, damage, code, text = PICTURES[what]
    source = download("lgg")
    file = next(source.rglob(f"{PATIENT}{ending}"))
    file.write_bytes(damage(file.read_bytes()))
    alone = ("--limit", "1", "--splits", "0")  # the first patient is the broken one; the others only take time
    refused(code, (text, file.name), "convert", "lgg", "--as", form, "-i", source, *alone, bad_case=PATIENT)


# --- geometry (rows 37-47) ---------------------------------------------------------------------------------------


def _shift(header, millimetres: float) -> None:
    header["srow_x"][3] += millimetres
    header["qoffset_x"] += millimetres


def _flip_x(header) -> None:
    header["srow_x"][0] *= -1
    header["qform_code"] = 0


def _spacing(header, value: float) -> None:
    header["pixdim"][3] = value
    header["srow_z"][2] = value


def _shear(header) -> None:
    header["srow_x"][1] = 0.3
    header["qform_code"] = 0


GEOMETRY = {
    "one slice less (37)": ("t2", lambda v: v[:, :, :-1], None, "GEO01", "shape"),
    "label with one slice less (38)": ("seg", lambda v: v[:, :, :-1], None, "GEO02", "shape"),
    "spacing 1.2 (40)": ("t1ce", None, lambda h: _spacing(h, 1.2), "GEO03", "spacing"),
    "label spacing 1.2 (40)": ("seg", None, lambda h: _spacing(h, 1.2), "GEO03", "spacing"),
    "label shifted by 5 mm (41)": ("seg", None, lambda h: _shift(h, 5), "GEO04", "origin by 5 mm"),
    "image shifted by 5 mm (41)": ("flair", None, lambda h: _shift(h, 5), "GEO04", "origin by 5 mm"),
    "label flipped in its header (42)": ("seg", None, _flip_x, "GEO04", "direction"),
    "four time points (44)": ("t1", lambda v: np.stack([v] * 4, axis=-1), None, "GEO05", "not a 3D image"),
    "one slice (45)": ("t2", lambda v: v[:, :, 3], None, "GEO05", "not a 3D image"),
    "sheared affine (46)": ("t1", None, _shear, "GEO06", "orthogonal"),
    "zero spacing (47)": ("t1", None, lambda h: _spacing(h, 0.0), "GEO06", "spacing of zero"),
}


@pytest.mark.parametrize("what", GEOMETRY)
def test_geometry_that_does_not_fit_is_refused(what, download, refused, edit_nifti):
    role, array, header, code, text = GEOMETRY[what]
    source = download("brats2021")
    file = _file(source, role)
    edit_nifti(file, array or (lambda values: values), header or (lambda _: None))
    refused(code, (text, file.name), "convert", "brats2021", "-i", source, bad_case=CASE)


def test_an_origin_off_by_rounding_is_rewritten_with_that_of_the_image(download, command, edit_nifti, nnunet_folders):
    import SimpleITK

    source = download("brats2021")
    edit_nifti(_file(source, "seg"), header=lambda h: _shift(h, 1e-5))
    edit_nifti(_file(source, "t2"), header=lambda h: _shift(h, 1e-5))
    assert command("convert", "brats2021", "-i", source).code == 0
    out = nnunet_folders.raw / "Dataset521_BraTS2021"
    files = [out / "labelsTr" / f"{CASE}.nii.gz", *sorted((out / "imagesTr").glob(f"{CASE}_*"))]
    origins = {SimpleITK.ReadImage(str(file)).GetOrigin() for file in files}
    assert len(files) == 5
    assert len(origins) == 1


# --- voxels (rows 48-54, 57) -------------------------------------------------------------------------------------


def _one(value):
    def put(values: np.ndarray) -> np.ndarray:
        changed = values.astype(np.float32)
        changed[tuple(size // 2 for size in changed.shape)] = value
        return changed

    return put


def _label(value):
    def put(values: np.ndarray) -> np.ndarray:
        changed = values.astype(np.int16)
        changed[5, 5, 5] = value
        return changed

    return put


def _rgb(values: np.ndarray) -> np.ndarray:
    colour = np.zeros(values.shape, dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colour["R"] = values > 0
    return colour


VOXELS = {
    "complex (48)": ("t1", lambda v: v.astype(np.complex64), "DT01", "complex64"),
    "colour (50)": ("t1", _rgb, "DT01", "RGB"),
    "fractional label (49)": ("seg", _one(1.5), "DT01", "fractional"),
    "NaN (51)": ("t2", _one(np.nan), "NAN01", "T2 has 1 voxels"),
    "infinity (52)": ("t1", _one(np.inf), "NAN01", "T1 has 1 voxels"),
    "all zero (53)": ("t1ce", np.zeros_like, "IMG01", "T1ce is 0 everywhere"),
    "3 in a 2021 label (54)": ("seg", _label(3), "LAB01", "looks like the 2023 convention"),
    "7 in a label": ("seg", _label(7), "LAB01", "7 (1 voxels)"),
    "negative label (57)": ("seg", _label(-1), "LAB01", "-1 (1 voxels)"),
    "NaN in a label": ("seg", _one(np.nan), "DT01", "fractional"),
}


@pytest.mark.parametrize("what", VOXELS)
def test_voxels_that_mean_nothing_are_refused(what, download, refused, edit_nifti):
    role, array, code, text = VOXELS[what]
    source = download("brats2021")
    file = _file(source, role)
    edit_nifti(file, array)
    refused(code, (text, CASE, file.name), "convert", "brats2021", "-i", source, bad_case=CASE)


def test_what_may_be_allowed_passes_as_a_warning_and_nan_becomes_zero(download, command, edit_nifti, nnunet_folders):
    import SimpleITK

    source = download("brats2021")
    edit_nifti(_file(source, "t2"), _one(np.nan))
    assert command("convert", "brats2021", "-i", source, "--allow", "NAN01").code == 0
    written = nnunet_folders.raw / "Dataset521_BraTS2021" / "imagesTr" / f"{CASE}_0002.nii.gz"
    values = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(written)))
    assert np.isfinite(values).all()
    assert values[tuple(size // 2 for size in values.shape)] == 0


@pytest.mark.parametrize("code", ["LAB01", "GZ01", "NAM01"])
def test_damage_and_foreign_labels_can_never_be_allowed(code, pristine, command):
    outcome = command("convert", "brats2021", "-i", pristine("brats2021"), "--allow", code)
    assert outcome.code == 2
    assert f"{code} cannot be allowed" in outcome.err


def test_a_float_label_with_whole_values_is_accepted(download, command, edit_nifti):
    source = download("brats2021")
    edit_nifti(_file(source, "seg"), lambda values: values.astype(np.float64))
    assert command("convert", "brats2021", "-i", source).code == 0


def test_a_crc_helper_of_these_tests_makes_what_it_says():
    data = gzip.compress(bytes(range(200)) * 20, 1, mtime=0)
    flipped = _flip(data)
    with pytest.raises(gzip.BadGzipFile, match="CRC"):
        gzip.decompress(flipped)
    assert zlib.decompressobj(31).decompress(flipped[:-8]), "the stream itself is sound"
