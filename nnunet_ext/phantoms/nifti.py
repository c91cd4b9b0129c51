"""NIfTI-1 files as bytes: the header of BraTS files, no time stamp."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
from numpy.typing import NDArray


def brats_affine(shape: tuple[int, int, int]) -> NDArray[np.float64]:
    """Voxel-to-world matrix (RAS) of BraTS 2017-2023 at 240 voxels in y, carried over to other sizes; spacing 1 mm.

    Args:
        shape: (z, y, x).
    """
    affine = np.diag([-1.0, -1.0, 1.0, 1.0])
    affine[1, 3] = shape[1] - 1
    return affine


def nifti_bytes(array: NDArray[np.generic], affine: NDArray[np.float64], *, compress: bool) -> bytes:
    """A NIfTI-1 file in memory.

    Args:
        array: (z, y, x).
        affine: voxel-to-world matrix of the array in (x, y, z) order.
        compress: as ``.nii.gz`` (zlib level 1, time stamp 0) or plain ``.nii``.
    """
    image = nibabel.Nifti1Image(array.transpose(2, 1, 0), affine)
    image.header.set_xyzt_units("mm")
    image.set_qform(affine, code=1)
    image.set_sform(affine, code=1)
    plain = image.to_bytes()
    return gzip.compress(plain, compresslevel=1, mtime=0) if compress else plain
