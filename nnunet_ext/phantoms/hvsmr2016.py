"""HVSMR 2016 (Pace et al. 2015, doi 10.1007/978-3-319-24574-4_10) as its users unpack it, with its quirks.

A heart in a chest: two ventricles with their walls, atria, and a great vessel. File names are those of real cases; what
the files hold is synthetic. As in the published copy of patient 0, the axes of the files are permuted, and labels are
stored in 16 bits without sign.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.phantoms.anatomy import require_size
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.nifti import nifti_bytes

MYOCARDIUM, BLOOD = 1, 2
#: A 2 with its two bytes swapped, which the published label of patient 0 holds.
SWAPPED = 512
_SWAPPED_VOXELS = 5

#: The directions of the stored axes in RAS coordinates: to the front, to the feet, to the right.
_DIRECTIONS = np.array([[0.0, 0.0, 1.0], [-1.0, 0.0, 0.0], [0.0, -1.0, 0.0]])
_FOLDERS = {"axial_crop": "Axial-cropped/", "axial_full": "Axial/"}


def _grid(shape: tuple[int, int, int]) -> list[NDArray[np.float32]]:
    lines = [np.linspace(-1, 1, 2 * n + 1, dtype=np.float32)[1::2] for n in shape]
    return [line.reshape([-1 if own == axis else 1 for own in range(3)]) for axis, line in enumerate(lines)]


def _heart(generator: np.random.Generator, shape: tuple[int, int, int]) -> NDArray[np.uint16]:
    """The label map (z, y, x): walls of the ventricles 1, everything that holds blood 2."""
    z, y, x = _grid(shape)

    def distance(centre: tuple[float, float, float], radii: tuple[float, float, float]) -> NDArray[np.float32]:
        moved = [c + generator.uniform(-0.04, 0.04) for c in centre]
        scaled = [(axis - np.float32(c)) / np.float32(r) for axis, c, r in zip((z, y, x), moved, radii, strict=True)]
        outline = 1 + np.float32(0.08) * smooth_field(generator, shape, 3)
        found: NDArray[np.float32] = np.sqrt(sum(part * part for part in scaled)) * outline
        return found

    left = distance((-0.15, 0.05, 0.25), (0.38, 0.32, 0.28))
    right = distance((-0.12, -0.22, -0.25), (0.36, 0.28, 0.25))
    atria = distance((0.38, 0.15, 0.0), (0.20, 0.26, 0.42))
    vessel = distance((0.65, -0.05, 0.02), (0.45, 0.15, 0.16))
    label = np.zeros(shape, np.uint16)
    label[(left < 1.4) | (right < 1.2)] = MYOCARDIUM
    label[(left < 1) | (right < 1) | (atria < 1) | (vessel < 1)] = BLOOD
    return label


def _image(generator: np.random.Generator, label: NDArray[np.uint16]) -> NDArray[np.int16]:
    """Blood is bright, walls and the chest are grey, lungs are dark; with shading and noise."""
    z, y, x = _grid((label.shape[0], label.shape[1], label.shape[2]))
    grey = np.full(label.shape, 0.45, np.float32)
    grey[(np.abs(x) > 0.55) & (np.abs(x) < 0.9) & (np.abs(y) < 0.8) & (np.abs(z) < 2)] = 0.08
    grey[label == MYOCARDIUM] = generator.uniform(0.38, 0.48)
    grey[label == BLOOD] = generator.uniform(0.85, 1.0)
    grey *= 1 + np.float32(0.1) * smooth_field(generator, label.shape, 2)
    grey += np.float32(0.04) * generator.standard_normal(label.shape, dtype=np.float32)
    return np.clip(np.rint(800 * grey), 0, 32767).astype(np.int16)


def _affine(generator: np.random.Generator) -> NDArray[np.float64]:
    spacing = np.full(3, round(generator.uniform(0.73, 1.15), 3))
    spacing[2] += 0.005
    affine = np.eye(4)
    affine[:3, :3] = _DIRECTIONS * spacing
    affine[:3, 3] = (-60.0, 70.0, 80.0)
    return affine


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    require_size(shape)
    generator, anatomy = study.generators(seed)
    label = _heart(anatomy, shape)
    image = _image(generator, label)
    affine = _affine(anatomy)
    if "swapped" in study.oddities:
        blood = np.flatnonzero(label == BLOOD)[:_SWAPPED_VOXELS]
        label.reshape(-1)[blood] = SWAPPED
    ending = study.oddities.get("ending", ".nii.gz")
    images, labels = study.prefixes
    files = [(f"{images}{study.name}{ending}", nifti_bytes(image, affine, compress=ending == ".nii.gz"))]
    if study.labelled:
        files.append((f"{labels}{study.name}-label.nii.gz", nifti_bytes(label, affine, compress=True)))
    return files


def hvsmr2016(cases: int, layout: str, quirks: bool) -> Download:
    """HVSMR 2016: ``folder``, ``zip``, or ``variants``, which holds every patient both cropped and whole.

    To the training patients comes one test patient without a label. Quirks: the label of the first patient holds the
    value 512; the image of the second is not compressed.
    """
    archive = "HVSMR2016.zip::" if layout == "zip" else ""
    studies = []
    for variant in ("axial_crop", "axial_full")[: 2 if layout == "variants" else 1]:
        top = archive + _FOLDERS[variant]
        for number in range(cases):
            odd = {0: {"swapped": "yes"}, 1: {"ending": ".nii"}}.get(number, {}) if quirks else {}
            name = f"training_{variant}_pat{number}"
            prefixes = (f"{top}Training dataset/", f"{top}Ground truth/")
            studies.append(Study(name, prefixes, brain=f"pat{number}", oddities=odd))
        test = f"testing_{variant}_pat10"
        studies.append(Study(test, (f"{top}Test dataset/", ""), brain="pat10", labelled=False))
    return Download(tuple(studies), _write, {})


#: name of a dataset -> how its download is made up
PHANTOMS = {"hvsmr2016": PhantomDataset(hvsmr2016, ("folder", "zip", "variants"), (32, 40, 40), 10)}
