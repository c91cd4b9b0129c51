"""Headers of NIfTI files: what they say of grid, geometry and storage. No voxel is read here."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nnunet_ext.dataset_conversion.formats.orientation import affine_as_simpleitk, is_grid, stored_qform, stored_sform
from nnunet_ext.errors import UserError

#: Bytes of a file that hold its header.
HEADER_BYTES = 352
#: Voxels of the largest image that is read, 1024 x 1024 x 1024: a header may declare what no memory holds.
MAX_VOXELS = 1 << 30
#: Bytes before the first voxel: the header and its extensions, which are text.
MAX_OFFSET = 1 << 24
_SIZE, _NIFTI_2_SIZE = 348, 540
_SCALARS = "uif"

_GEOMETRY = (
    "qform_code",
    "sform_code",
    "quatern_b",
    "quatern_c",
    "quatern_d",
    "qoffset_x",
    "qoffset_y",
    "qoffset_z",
    "srow_x",
    "srow_y",
    "srow_z",
    "xyzt_units",
)


@dataclass(frozen=True)
class Header:
    """What a NIfTI header says.

    Args:
        shape: (x, y, z), the order of storage, fastest first.
        dtype: numpy's name of the stored type, with byte order.
        offset: first byte of the voxels.
        spacing: (x, y, z) in mm, as stored.
        affine: three rows of the matrix from voxel to RAS coordinates, as SimpleITK reads it (``orientation``).
        as_written: the same of the sform as it is stored, whatever SimpleITK makes of it, or of the qform where there
            is no usable sform. Files that differ here are written with one geometry.
        slope, inter: voxel value = slope * stored + inter.
        squeezed: the file has further axes of length 1, which nnU-Net's reader would take for channels.
    """

    shape: tuple[int, int, int]
    dtype: str
    offset: int
    spacing: tuple[float, float, float]
    affine: tuple[tuple[float, float, float, float], ...]
    slope: float
    inter: float
    squeezed: bool = False
    as_written: tuple[tuple[float, float, float, float], ...] = ()

    @property
    def content_size(self) -> int:
        """Bytes that the uncompressed file must have."""
        return self.offset + math.prod(self.shape) * np.dtype(self.dtype).itemsize


def parse(raw: bytes, file: str) -> Header:
    """Read a NIfTI-1 header.

    Args:
        raw: the first bytes of the uncompressed file, ``HEADER_BYTES`` of them.
        file: name for messages.

    Raises:
        UserError: IO01 if this is no single-file NIfTI-1 or declares too many voxels, DT01, GEO05, GEO06.
    """
    header = _nibabel_header(raw, file)
    try:
        return _parsed(header, file)
    except (ArithmeticError, LookupError, ValueError, _header_error()) as error:
        raise _damaged(file, error) from error


def _parsed(header, file: str) -> Header:  # type: ignore[no-untyped-def]
    shape = tuple(int(size) for size in header.get_data_shape())
    if len(shape) < 3 or min(shape[:3]) < 2 or any(size != 1 for size in shape[3:]):
        raise UserError(
            f"{file} has shape {'x'.join(map(str, shape))}: not a 3D image",
            code="GEO05",
            remedy="give one volume with more than one voxel along each axis",
        )
    if math.prod(shape[:3]) > MAX_VOXELS:
        raise UserError(
            f"{file} declares {'x'.join(map(str, shape))} voxels, more than fit into memory",
            code="IO01",
            remedy="fetch the file again",
        )
    dtype = header.get_data_dtype()
    if dtype.kind not in _SCALARS or dtype.itemsize > 8:
        raise UserError(
            f"{file} stores {header.get_value_label('datatype')} voxels",
            code="DT01",
            remedy="integers or floats of at most 64 bits are needed",
        )
    spacing = (abs(float(header["pixdim"][1])), abs(float(header["pixdim"][2])), abs(float(header["pixdim"][3])))
    affine = affine_as_simpleitk(header, spacing, file)
    as_written = _as_written(header, spacing)
    slope, inter = header.get_slope_inter()
    if not math.isfinite(header["vox_offset"]) or header["vox_offset"] > MAX_OFFSET:
        raise UserError(
            f"{file} has a damaged NIfTI header: its voxels begin at byte {float(header['vox_offset']):g}",
            code="IO01",
            remedy="fetch the file again",
        )
    offset = max(int(header["vox_offset"]), header.single_vox_offset)
    x, y, z = shape[:3]
    return Header(
        shape=(x, y, z),
        dtype=dtype.str,
        offset=offset,
        spacing=spacing,
        affine=_rows(affine),
        slope=1.0 if slope is None else float(slope),
        inter=0.0 if inter is None else float(inter),
        squeezed=len(shape) > 3,
        as_written=_rows(as_written),
    )


def _rows(affine: np.ndarray) -> tuple[tuple[float, float, float, float], ...]:
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in affine[:3])


def _as_written(header, spacing: tuple[float, float, float]) -> np.ndarray:  # type: ignore[no-untyped-def]
    sform = stored_sform(header)
    if int(header["sform_code"]) > 0 and is_grid(sform):
        return sform
    qform = stored_qform(header, spacing) if int(header["qform_code"]) > 0 else None
    return np.diag([*spacing, 1.0]) if qform is None else qform


def _header_error() -> type[Exception]:
    from nibabel.spatialimages import HeaderDataError

    error: type[Exception] = HeaderDataError
    return error


def _damaged(file: str, error: Exception) -> UserError:
    return UserError(f"{file} has a damaged NIfTI header: {error}", code="IO01", remedy="fetch the file again")


def _nibabel_header(raw: bytes, file: str):  # type: ignore[no-untyped-def]
    # nibabel is imported where a header is read: workers get headers handed in and start faster without it.
    from nibabel.nifti1 import Nifti1Header

    sizes = (int.from_bytes(raw[:4], "little"), int.from_bytes(raw[:4], "big"))
    if _NIFTI_2_SIZE in sizes:
        raise UserError(
            f"{file} is NIfTI-2, which nnU-Net's reader cannot open", remedy="save it as NIfTI-1", code="IO01"
        )
    if len(raw) < _SIZE or _SIZE not in sizes:
        raise UserError(f"{file} is not a NIfTI file", remedy="fetch the file again", code="IO01")
    try:
        header = Nifti1Header(raw[:_SIZE], check=False)
        header.get_data_shape(), header.get_data_dtype(), header.get_slope_inter()
    except (_header_error(), ValueError, KeyError) as error:
        raise _damaged(file, error) from error
    if not header["magic"].item().startswith(b"n+"):
        raise UserError(f"{file} is a NIfTI header without its voxels", code="IO01", remedy="give a single .nii file")
    return header


def rewritten(raw: bytes, like: bytes | None = None, dtype: str | None = None) -> bytes:
    """A header for three axes and no extensions.

    Args:
        raw: header bytes of the file at hand.
        like: header bytes of the file whose grid and geometry count; None keeps those of ``raw``.
        dtype: new type of the voxels, little-endian, without scaling; None keeps type, byte order and scaling.

    Returns:
        All bytes before the first voxel.
    """
    header = _nibabel_header(raw, "header")
    if dtype is not None:
        header = header.copy() if header.endianness == "<" else header.as_byteswapped("<")
        header.set_data_dtype(np.dtype(dtype))
        header["scl_slope"], header["scl_inter"] = 1, 0
        header["cal_min"] = header["cal_max"] = 0
    if like is not None:
        other = _nibabel_header(like, "header")
        header["pixdim"][:4] = other["pixdim"][:4]
        for field in _GEOMETRY:
            header[field] = other[field]
    header.set_data_shape(header.get_data_shape()[:3])
    header["vox_offset"] = header.single_vox_offset
    return bytes(header.binaryblock) + bytes(4)


def new_header(shape: tuple[int, int, int], spacing: tuple[float, float, float], dtype: str) -> bytes:
    """All bytes before the first voxel of a file without a geometry of its own.

    The directions are those of ITK's identity: first axis to the left, second to the back, third upwards.
    """
    from nibabel.nifti1 import Nifti1Header

    header = Nifti1Header(endianness="<")
    header.set_data_shape(shape)
    header.set_data_dtype(np.dtype(dtype))
    header.set_zooms(spacing)
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    header.set_qform(affine, code=1)
    header.set_sform(affine, code=1)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"], header["magic"] = 1, 0, b"n+1"
    header["vox_offset"] = header.single_vox_offset
    return bytes(header.binaryblock) + bytes(4)


def voxels(content: bytes | memoryview, header: Header) -> np.ndarray:
    """The stored voxels as a flat array that shares the memory of ``content``, first axis fastest."""
    return np.frombuffer(content, np.dtype(header.dtype), count=math.prod(header.shape), offset=header.offset)
