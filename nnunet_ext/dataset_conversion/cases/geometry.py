"""Do the files of one case lie on one grid? Small differences are mended, larger ones are errors."""

from __future__ import annotations

import numpy as np

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.formats.nifti import Header

SPACING_TOLERANCE = 1e-3  # relative
ORIGIN_TOLERANCE = 1e-2  # mm
DIRECTION_TOLERANCE = 1e-3


def compare(
    reference: Header, other: Header, case: str, names: tuple[str, str], file: str, label: bool
) -> list[Finding]:
    """Findings about one file against the first image of its case: GEO01, GEO02, GEO03, GEO04.

    Differences below the tolerances are one GEO04 of severity info: the file is then written with the geometry of the
    first image, since nnU-Net compares spacings exactly.
    """
    if reference.shape != other.shape:
        code = "GEO02" if label else "GEO01"
        return [
            Finding(
                code,
                f"{case}: {names[1]} has shape {_text(other.shape)}, {names[0]} {_text(reference.shape)}",
                case,
                file,
                "fetch the case again",
            )
        ]
    if (reference.affine, reference.as_written, reference.spacing) == (other.affine, other.as_written, other.spacing):
        return []
    found = []
    first, second = np.array(reference.affine), np.array(other.affine)
    # Voxel sizes are those of pixdim, also in the affines: SimpleITK reads no others.
    spacing = float(np.max(np.abs(np.array(other.spacing) / np.array(reference.spacing) - 1)))
    if spacing > SPACING_TOLERANCE:
        found.append(
            Finding(
                "GEO03",
                f"{case}: {names[1]} has spacing {_text(other.spacing)}, {names[0]} {_text(reference.spacing)}",
                case,
                file,
                "fetch the case again",
            )
        )
    origin = float(np.max(np.abs(first[:, 3] - second[:, 3])))
    direction = float(np.max(np.abs(first[:, :3] / reference.spacing - second[:, :3] / other.spacing)))
    if origin > ORIGIN_TOLERANCE or direction > DIRECTION_TOLERANCE:
        what = f"origin by {origin:.3g} mm" if origin > ORIGIN_TOLERANCE else f"direction by {direction:.3g}"
        found.append(
            Finding(
                "GEO04",
                f"{case}: {names[1]} and {names[0]} differ in {what}",
                case,
                file,
                "fetch the case again, or --allow GEO04 if the arrays are known to agree",
            )
        )
    if not found:
        found.append(
            Finding(
                "GEO04",
                f"{case}: {names[1]} differs slightly from {names[0]} in its header (origin by "
                f"{origin:.1g} mm); that of {names[0]} is written",
                case,
                file,
                severity="info",
            )
        )
    return found


def _text(values: tuple[float, ...]) -> str:
    return "x".join(f"{value:g}" for value in values)
