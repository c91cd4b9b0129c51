"""Tolerances between the files of one case."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from nnunet_ext.dataset_conversion.cases.geometry import compare
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.formats.nifti import Header

REFERENCE = Header(
    shape=(8, 7, 6),
    dtype="<i2",
    offset=352,
    spacing=(1.0, 1.0, 2.0),
    affine=((-1.0, 0.0, 0.0, 10.0), (0.0, -1.0, 0.0, 20.0), (0.0, 0.0, 2.0, 30.0)),
    slope=1.0,
    inter=0.0,
)


def moved(matrix: np.ndarray) -> Header:
    affine = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in matrix)
    sizes = np.linalg.norm(matrix[:, :3], axis=0)
    return replace(REFERENCE, affine=affine, spacing=(float(sizes[0]), float(sizes[1]), float(sizes[2])))


def matrix() -> np.ndarray:
    return np.array(REFERENCE.affine)


def found(other: Header, label: bool = False) -> list[Finding]:
    return compare(REFERENCE, other, "case", ("T1", "T2"), "file.nii.gz", label)


def test_equal_headers_give_no_finding() -> None:
    assert found(REFERENCE) == []


@pytest.mark.parametrize(("label", "code"), [(False, "GEO01"), (True, "GEO02")])
def test_another_shape_is_an_error(label: bool, code: str) -> None:
    (finding,) = found(replace(REFERENCE, shape=(8, 7, 5)), label)
    assert (finding.code, finding.severity) == (code, "error")
    assert "8x7x5" in finding.message
    assert "8x7x6" in finding.message


@pytest.mark.parametrize(("shift", "severity"), [(1e-5, "info"), (9e-3, "info"), (2e-2, "error"), (5.0, "error")])
def test_origin_limit_is_a_hundredth_of_a_millimetre(shift: float, severity: str) -> None:
    other = matrix()
    other[1, 3] += shift
    (finding,) = found(moved(other))
    assert (finding.code, finding.severity) == ("GEO04", severity)


def test_a_flipped_axis_is_an_error() -> None:
    other = matrix()
    other[0, 0] *= -1
    assert [(finding.code, finding.severity) for finding in found(moved(other))] == [("GEO04", "error")]


@pytest.mark.parametrize(("factor", "codes"), [(1 + 5e-4, ["info"]), (1.002, ["error"]), (1.2, ["error"])])
def test_spacing_limit_is_a_thousandth(factor: float, codes: list[str]) -> None:
    other = matrix()
    other[2, 2] *= factor
    findings = found(moved(other))
    assert [finding.severity for finding in findings] == codes
    assert findings[0].code == ("GEO03" if codes == ["error"] else "GEO04")
