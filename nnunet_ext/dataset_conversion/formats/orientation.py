"""Origin and directions of a NIfTI file as SimpleITK, and so nnU-Net, reads them.

A header tells the place of its voxels up to three times: by the sform, a matrix; by the qform, a rotation as a
quaternion; and by their sizes, ``pixdim``. SimpleITK (ITK 5.4) takes the sizes of voxels from ``pixdim`` alone, and
origin and directions from the sform if its axes are orthogonal and

- the qform is not set (its code is 0), or
- the code of the sform is 1 (scanner coordinates), or
- sform and qform agree;

else from the qform. Scales of the sform that differ from ``pixdim`` have no effect.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nnunet_ext.errors import UserError

# SimpleITK 2.5 reads an affine sheared by 1e-4 and refuses one sheared by 3e-4.
_ORTHOGONAL = 1e-4
_AGREES = 1e-4
_SCANNER = 1
# What rounding to single precision leaves of a rotation's unit length.
_UNIT_LENGTH = 1e-3


def affine_as_simpleitk(header: Any, spacing: tuple[float, float, float], file: str) -> np.ndarray:
    """The matrix (4, 4) from voxel to RAS coordinates.

    Args:
        header: nibabel's NIfTI-1 header.
        spacing: (x, y, z) in mm.
        file: name for messages.

    Raises:
        UserError: GEO06 for a spacing of zero, axes that are not orthogonal, a qform that is no rotation.
    """
    qform_code, sform_code = int(header["qform_code"]), int(header["sform_code"])
    if not np.isfinite(spacing).all() or min(spacing) <= 0:
        sizes = "x".join(f"{size:g}" for size in spacing)
        raise _error(file, f"has a spacing of zero, or one that is not finite: {sizes} mm")
    matrix = _chosen(header, spacing, qform_code, sform_code, file)
    affine = np.eye(4)
    affine[:3, :3] = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0) * spacing
    affine[:3, 3] = matrix[:3, 3]
    return affine


def axis_letters(affine: Sequence[Sequence[float]]) -> str:
    """The direction in which each axis runs for the most part, in the order of storage: RAS, or LPS, ...

    Args:
        affine: three rows of the matrix from voxel to RAS coordinates.
    """
    from nibabel.orientations import aff2axcodes

    return "".join(aff2axcodes(np.vstack([affine, [0.0, 0.0, 0.0, 1.0]])))


def _chosen(
    header: Any, spacing: tuple[float, float, float], qform_code: int, sform_code: int, file: str
) -> np.ndarray:
    if qform_code <= 0 and sform_code <= 0:
        return np.diag([-1.0, -1.0, 1.0, 1.0])
    sform = stored_sform(header)
    usable = sform_code > 0 and is_grid(sform)
    if usable and (qform_code <= 0 or sform_code == _SCANNER):
        return sform
    if qform_code <= 0:
        what = "are not orthogonal" if _has_axes(sform) else "are zero or not finite"
        raise _error(file, f"has axes that {what}: its sform is sheared or damaged, and it has no qform")
    qform = stored_qform(header, spacing)
    if qform is None:
        raise _error(file, f"has a qform that is no rotation: its quaternion is {_quaternion_text(header)}")
    return sform if usable and _agree(sform, qform) else qform


def stored_sform(header: Any) -> np.ndarray:
    """The matrix (4, 4) of the sform, as it stands there."""
    rows = [np.asarray(header[name], np.float64) for name in ("srow_x", "srow_y", "srow_z")]
    return np.vstack([*rows, [0.0, 0.0, 0.0, 1.0]])


def stored_qform(header: Any, spacing: tuple[float, float, float]) -> np.ndarray | None:
    """The matrix (4, 4) of the qform; None where its quaternion is no rotation or its origin is not finite."""
    b, c, d, x, y, z = (float(header[f"q{name}"]) for name in _QFORM)
    length = b * b + c * c + d * d
    if not np.isfinite([length, x, y, z]).all() or length > 1 + _UNIT_LENGTH:
        return None
    if 1 - length < 1e-7:  # half a turn; rounding may have made it a little more
        b, c, d = (part / np.sqrt(length) for part in (b, c, d))
        a = 0.0
    else:
        a = np.sqrt(1 - length)
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
        ]
    )
    if float(header["pixdim"][0]) < 0:  # a left-handed grid
        rotation[:, 2] *= -1
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * spacing
    matrix[:3, 3] = x, y, z
    return matrix


_QFORM = ("uatern_b", "uatern_c", "uatern_d", "offset_x", "offset_y", "offset_z")


def _has_axes(affine: np.ndarray) -> bool:
    return bool(np.isfinite(affine).all() and np.linalg.norm(affine[:3, :3], axis=0).min() > 0)


def is_grid(affine: np.ndarray) -> bool:
    """Whether the axes of a matrix are finite, not zero and orthogonal."""
    if not _has_axes(affine):
        return False
    axes = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(axes @ axes.T - np.eye(3)).max() <= _ORTHOGONAL)


def _agree(sform: np.ndarray, qform: np.ndarray) -> bool:
    """ITK's test: singular values, left singular vectors and origins agree."""
    if np.abs(sform - qform).max() <= 1e-5:
        return True
    (left, sizes, _), (other_left, other_sizes, _) = (np.linalg.svd(matrix[:3, :3]) for matrix in (sform, qform))
    return bool(
        np.abs(sizes - other_sizes).max() <= _AGREES
        and np.abs(left @ np.linalg.inv(other_left) - np.eye(3)).max() <= _AGREES
        and np.abs(sform[:3, 3] - qform[:3, 3]).max() <= _AGREES
    )


def _quaternion_text(header: Any) -> str:
    return ", ".join(f"{float(header[f'quatern_{part}']):g}" for part in "bcd")


def _error(file: str, what: str) -> UserError:
    return UserError(f"{file} {what}", code="GEO06", remedy="repair the header, or resample the image to a grid")
