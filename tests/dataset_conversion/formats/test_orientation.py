"""Of sform, qform and pixdim we take what SimpleITK, and so nnU-Net, takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.dataset_conversion.cases.geometry import compare
from nnunet_ext.dataset_conversion.formats.nifti import HEADER_BYTES, parse
from nnunet_ext.errors import UserError

ARRAY = np.arange(5 * 6 * 7, dtype=np.int16).reshape(5, 6, 7)
SPACING = np.array([0.5, 0.75, 3.0])


def rotation(seed: int) -> np.ndarray:
    axes, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    return axes


def file(seed: int, codes: tuple[int, int], sform: np.ndarray | None = None, **fields: Any) -> bytes:
    """A file whose qform is a rotated grid; ``codes`` of qform and sform; ``sform`` is multiplied into the sform."""
    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = rotation(seed) * SPACING, (10.0, -20.0, 30.0)
    image = nibabel.Nifti1Image(ARRAY, affine)
    image.set_qform(affine, codes[0])
    image.set_sform(affine if sform is None else affine @ sform, codes[1])
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    rows = affine if sform is None else affine @ sform
    for name, row in zip(("srow_x", "srow_y", "srow_z"), rows, strict=False):
        header[name] = row
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    return bytes(data)


def itk_affine(path: Path) -> np.ndarray:
    image = sitk.ReadImage(str(path))
    matrix = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
    return np.diag([-1, -1, 1]) @ np.column_stack([matrix, image.GetOrigin()])


SFORMS = {
    "the same": np.eye(4),
    "scales twice as large": np.diag([2.0, 2.0, 2.0, 1.0]),
    "one scale 1 % larger": np.diag([1.01, 1.0, 1.0, 1.0]),
    "another rotation": np.block([[rotation(99), np.zeros((3, 1))], [np.zeros((1, 3)), np.eye(1)]]),
    "another origin": np.eye(4) + np.outer([4.0, 0, 0, 0], [0, 0, 0, 1]),
    "sheared": np.eye(4) + np.outer([0.3, 0, 0, 0], [0, 1, 0, 0]),
}


@pytest.mark.parametrize("codes", [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 1), (2, 4)])
@pytest.mark.parametrize("sform", SFORMS)
def test_geometry_is_simpleitks_whatever_sform_and_qform_say(
    tmp_path: Path, sform: str, codes: tuple[int, int]
) -> None:
    for seed in range(3):
        data = file(seed, codes, SFORMS[sform])
        (tmp_path / "a.nii").write_bytes(data)
        try:
            expected = itk_affine(tmp_path / "a.nii")
        except RuntimeError:
            with pytest.raises(UserError, match="GEO06: a has axes that are not orthogonal"):
                parse(data[:HEADER_BYTES], "a")
        else:
            np.testing.assert_allclose(parse(data[:HEADER_BYTES], "a").affine, expected, atol=1e-3)


def test_a_sform_of_other_scales_is_no_other_spacing() -> None:
    """Label and image lie on one grid for SimpleITK: pixdim and qform are equal."""
    image = parse(file(1, (1, 1))[:HEADER_BYTES], "image")
    label = parse(file(1, (1, 1), SFORMS["scales twice as large"])[:HEADER_BYTES], "label")
    (finding,) = compare(image, label, "case", ("T1", "seg"), "seg.nii", label=True)
    assert (finding.code, finding.severity) == ("GEO04", "info")
    other = parse(file(1, (1, 1), pixdim=[1, 1, 0.75, 3, 0, 0, 0, 0])[:HEADER_BYTES], "other")
    (finding,) = compare(image, other, "case", ("T1", "T2"), "t2.nii", label=False)
    assert finding.code == "GEO03"
    assert "T2 has spacing 1x0.75x3, T1 0.5x0.75x3" in finding.message


BAD = {
    "a quaternion that is no rotation": (
        (1, 0),
        {"quatern_b": 2.0},
        "a qform that is no rotation: its quaternion is 2",
    ),
    "a quaternion that is no number": ((1, 0), {"quatern_c": np.nan}, "a qform that is no rotation"),
    "an origin that is no number": ((1, 0), {"qoffset_x": np.inf}, "a qform that is no rotation"),
    "a bad quaternion beside a sheared sform": (
        (1, 1),
        {"quatern_b": 2.0, "srow_x": [0.5, 0.4, 0, 0]},
        "a qform that is no rotation",
    ),
    "a sform of zeros": ((0, 1), {"srow_y": [0, 0, 0, 0]}, "its sform is sheared or damaged, and it has no qform"),
    "a spacing of zero": ((1, 1), {"pixdim": [1, 0, 1, 1, 0, 0, 0, 0]}, "a spacing of 0x1x1 mm"),
    "a spacing that is no number": ((1, 1), {"pixdim": [1, np.nan, 1, 1, 0, 0, 0, 0]}, "a spacing of nanx1x1 mm"),
}


@pytest.mark.parametrize("what", BAD)
def test_damage_in_the_geometry_is_named_for_what_it_is(what: str) -> None:
    codes, fields, text = BAD[what]
    with pytest.raises(UserError) as caught:
        parse(file(1, codes, **fields)[:HEADER_BYTES], "case_t1.nii.gz")
    assert caught.value.code == "GEO06"
    assert f"case_t1.nii.gz has {text}" in caught.value.message or text in caught.value.message


def test_a_bad_quaternion_does_no_harm_where_the_sform_counts() -> None:
    np.testing.assert_allclose(
        parse(file(1, (1, 1), quatern_b=2.0)[:HEADER_BYTES], "a").affine,
        parse(file(1, (1, 1))[:HEADER_BYTES], "a").affine,
    )


@pytest.mark.parametrize("place", [1e30, np.inf, np.nan, float(1 << 25)])
def test_a_place_of_voxels_beyond_any_header_is_named(place: float) -> None:
    with pytest.raises(
        UserError, match=r"IO01: a has a damaged NIfTI header: its voxels begin at byte (1e\+30|inf|nan|3)"
    ):
        parse(file(1, (1, 1), vox_offset=place)[:HEADER_BYTES], "a")
