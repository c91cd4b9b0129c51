"""What we read from a NIfTI header is what SimpleITK, and so nnU-Net, reads from the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.dataset_conversion.formats import nifti as reading
from nnunet_ext.dataset_conversion.formats.nifti import Header, parse, rewritten
from nnunet_ext.errors import UserError

Make = Callable[..., bytes]
ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)


def rotation(rng: np.random.Generator) -> np.ndarray:
    axes, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return axes


def affine_of(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    affine = np.eye(4)
    affine[:3, :3] = rotation(rng) * rng.uniform(0.5, 3, 3)
    affine[:3, 3] = rng.uniform(-100, 100, 3)
    return affine


def itk_affine(image: sitk.Image) -> np.ndarray:
    """SimpleITK's geometry as a matrix from voxel to RAS."""
    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return np.diag([-1, -1, 1]) @ np.column_stack([matrix, image.GetOrigin()])


@pytest.mark.parametrize("seed", range(6))
def test_geometry_agrees_with_simpleitk(tmp_path: Path, nifti: Make, seed: int) -> None:
    data = nifti(ARRAY, affine_of(seed))
    (tmp_path / "a.nii").write_bytes(data)
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    header = parse(data, "a")
    assert header.shape == image.GetSize()
    np.testing.assert_allclose(header.spacing, image.GetSpacing(), rtol=1e-5)
    np.testing.assert_allclose(header.affine, itk_affine(image), atol=1e-3)
    assert len(data) == header.content_size
    np.testing.assert_array_equal(reading.voxels(data, header).reshape(7, 6, 5), sitk.GetArrayFromImage(image))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", ["|u1", "<u2"])
def test_a_label_header_has_the_geometry_of_its_image(tmp_path: Path, nifti: Make, seed: int, dtype: str) -> None:
    data = nifti(ARRAY.astype(np.float32), affine_of(seed), scl_slope=2.0, scl_inter=1.0, cal_max=7)
    label = np.random.default_rng(seed).integers(0, 4, ARRAY.size).astype(dtype)
    (tmp_path / "image.nii").write_bytes(data)
    (tmp_path / "label.nii").write_bytes(rewritten(data[:352], dtype=dtype) + label.tobytes())
    image, written = (sitk.ReadImage(str(tmp_path / name)) for name in ("image.nii", "label.nii"))
    assert (written.GetOrigin(), written.GetSpacing(), written.GetDirection()) == (
        image.GetOrigin(),
        image.GetSpacing(),
        image.GetDirection(),
    )
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written).ravel(), label)


def test_big_endian_files_are_read(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(ARRAY, affine_of(1), nibabel.Nifti1Header(endianness=">"))
    data = image.to_bytes()
    header = parse(data[:352], "big")
    np.testing.assert_array_equal(reading.voxels(data, header), ARRAY.ravel(order="F"))
    np.testing.assert_allclose(header.affine, affine_of(1)[:3], atol=1e-3)
    (tmp_path / "label.nii").write_bytes(rewritten(data[:352], dtype="|u1") + bytes(ARRAY.size))
    np.testing.assert_allclose(itk_affine(sitk.ReadImage(str(tmp_path / "label.nii"))), affine_of(1)[:3], atol=1e-3)


def test_a_trailing_axis_of_one_is_squeezed(nifti: Make) -> None:
    data = nifti(ARRAY[..., None])
    header = parse(data, "a")
    assert (header.shape, header.squeezed) == ((5, 6, 7), True)
    again = parse(rewritten(data[:352]), "a")
    assert (again.shape, again.squeezed) == ((5, 6, 7), False)


def sheared(amount: float) -> np.ndarray:
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[0, 1] = amount
    return affine


BAD: dict[str, tuple[str, Callable[[Make], bytes]]] = {
    "two axes": ("GEO05", lambda make: make(ARRAY[..., 0])),
    "one slice": ("GEO05", lambda make: make(ARRAY[..., :1])),
    "four time points": ("GEO05", lambda make: make(np.stack([ARRAY] * 4, -1))),
    "complex voxels": ("DT01", lambda make: make(ARRAY.astype(np.complex64))),
    "colour voxels": ("DT01", lambda make: make(ARRAY, datatype=128, bitpix=24)),
    "bits": ("DT01", lambda make: make(ARRAY, datatype=1, bitpix=1)),
    "zero spacing": ("GEO06", lambda make: make(ARRAY, pixdim=[1, 0, 1, 1, 0, 0, 0, 0])),
    "no data type": ("IO01", lambda make: make(ARRAY, datatype=77)),
    "header alone": ("IO01", lambda make: make(ARRAY, magic=b"ni1")),
    "NIfTI-2": ("IO01", lambda make: nibabel.Nifti2Image(ARRAY, np.eye(4)).to_bytes()),
    "no NIfTI": ("IO01", lambda make: bytes(600)),
    "short": ("IO01", lambda make: make(ARRAY)[:100]),
}


@pytest.mark.parametrize(("code", "bad"), BAD.values(), ids=BAD)
def test_a_file_nnunet_cannot_use_is_named(nifti: Make, code: str, bad: Callable[[Make], bytes]) -> None:
    with pytest.raises(UserError) as caught:
        parse(bad(nifti)[:352], "case_t1.nii.gz")
    assert caught.value.code == code
    assert "case_t1.nii.gz" in caught.value.message


@pytest.mark.parametrize("amount", [0.0, 1e-4, 1e-3, 0.05])
def test_sheared_axes_are_refused_where_simpleitk_refuses_them(tmp_path: Path, nifti: Make, amount: float) -> None:
    fields: dict[str, Any] = {"srow_x": sheared(amount)[0], "qform_code": 0}
    data = nifti(ARRAY, np.diag([-1.0, -1.0, 1.0, 1.0]), **fields)
    (tmp_path / "a.nii").write_bytes(data)
    try:
        sitk.ReadImage(str(tmp_path / "a.nii"))
    except RuntimeError:
        with pytest.raises(UserError, match="GEO06: a has axes that are not orthogonal"):
            parse(data, "a")
    else:
        assert parse(data, "a").shape == ARRAY.shape


def test_a_new_header_is_itk_identity(tmp_path: Path) -> None:
    data = reading.new_header((5, 6, 7), (1.0, 2.0, 3.0), "|u1") + bytes(ARRAY.size)
    (tmp_path / "a.nii").write_bytes(data)
    image = sitk.ReadImage(str(tmp_path / "a.nii"))
    assert image.GetSize() == (5, 6, 7)
    assert image.GetSpacing() == (1.0, 2.0, 3.0)
    assert image.GetDirection() == (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)
    assert isinstance(parse(data, "a"), Header)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_place_of_voxels_that_is_no_number_is_a_damaged_header(nifti: Make, value: float) -> None:
    with pytest.raises(UserError, match=r"IO01: a.nii has a damaged NIfTI header"):
        parse(nifti(ARRAY, vox_offset=value)[:352], "a.nii")
