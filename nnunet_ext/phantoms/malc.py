"""MALC (MICCAI 2012 challenge on multi-atlas labelling) as its users unpack it, with its quirks.

The brain of ``anatomy.py``, divided into the 134 structures: their numbers are those of the challenge, their places are
roughly right. File names are those of real cases; what the files hold is synthetic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.dataset_conversion.datasets.malc import MALC, official_split
from nnunet_ext.phantoms.anatomy import BACKGROUND, FLUID, GREY, NUCLEI, WHITE, Brain, make_brain
from nnunet_ext.phantoms.contrast import TISSUE
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study, csv_bytes
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.nifti import brats_affine, nifti_bytes

TABLET, WITHOUT_MEANING = 74, 15
_CORTEX = range(100, 208)
_WHITE_MATTER, _CSF = (44, 45), 46

#: Right and left number, centre (z, y, distance from the midline) and radius, in units of the brain.
_PAIRED = (
    (59, 60, (-0.05, 0.15, 0.14), 0.16),  # thalamus
    (36, 37, (0.12, -0.20, 0.16), 0.15),  # caudate
    (57, 58, (-0.05, -0.05, 0.38), 0.15),  # putamen
    (55, 56, (-0.08, 0.05, 0.26), 0.11),  # pallidum
    (23, 30, (-0.18, -0.28, 0.14), 0.10),  # accumbens
    (31, 32, (-0.38, -0.12, 0.36), 0.12),  # amygdala
    (47, 48, (-0.38, 0.14, 0.38), 0.14),  # hippocampus
    (49, 50, (-0.30, 0.30, 0.42), 0.10),  # inferior lateral ventricle
    (51, 52, (0.18, 0.22, 0.12), 0.14),  # lateral ventricle
    (61, 62, (-0.25, 0.12, 0.15), 0.11),  # ventral diencephalon
    (76, 75, (-0.26, -0.16, 0.14), 0.10),  # basal forebrain
    (38, 39, (-0.62, 0.50, 0.30), 0.28),  # cerebellum, exterior
    (40, 41, (-0.60, 0.45, 0.25), 0.14),  # cerebellum, white matter
)
#: The same on the midline.
_MIDLINE = (
    (35, (-0.58, 0.15, 0.0), 0.20),  # brain stem
    (4, (-0.12, 0.02, 0.0), 0.08),  # third ventricle
    (11, (-0.50, 0.36, 0.0), 0.08),  # fourth ventricle
    (69, (-0.34, -0.12, 0.0), 0.08),  # optic chiasm
    (71, (-0.42, 0.48, 0.0), 0.10),  # vermal lobules
    (72, (-0.54, 0.62, 0.0), 0.10),
    (73, (-0.70, 0.52, 0.0), 0.10),
)


def _cortex_centres() -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The numbers of the cortex and a place for each: right ones (even) and left ones mirror each other."""
    values = np.array(sorted(set(MALC.targets["fine"].labels.forward) & set(_CORTEX)))
    pairs = len(values) // 2
    turn = np.arange(pairs) * (np.pi * (3 - np.sqrt(5)))  # a spiral that spreads points evenly
    x = (np.arange(pairs) + 0.5) / pairs
    ring = np.sqrt(1 - x * x)
    centres = np.repeat(np.stack([ring * np.cos(turn), ring * np.sin(turn), -x], axis=1), 2, axis=0)
    centres[1::2, 2] *= -1
    return values, centres.astype(np.float32)


def _structures(brain: Brain) -> NDArray[np.int16]:
    """The numbers of the challenge in the box of a brain. x runs to the left."""
    z, y, x = brain.coordinates
    left = np.broadcast_to(x > 0, brain.tissue.shape)
    label = np.where(left, np.int16(_WHITE_MATTER[1]), np.int16(_WHITE_MATTER[0]))
    values, centres = _cortex_centres()
    grey = np.argwhere(brain.tissue == GREY)
    places = np.stack([axis.reshape(-1)[grey[:, number]] for number, axis in enumerate((z, y, x))], axis=1)
    places /= np.maximum(np.linalg.norm(places, axis=1, keepdims=True), np.float32(1e-6))
    # The sum is written out: a matrix product's last digits depend on the library and its threads.
    closeness = sum(places[:, axis, None] * centres[None, :, axis] for axis in range(3))
    label[tuple(grey.T)] = values[np.argmax(closeness, axis=1)]
    label[brain.tissue == FLUID] = _CSF
    for right_value, left_value, (cz, cy, cx), radius in _PAIRED:
        inside = (z - cz) ** 2 + (y - cy) ** 2 + (np.abs(x) - cx) ** 2 < radius**2
        label[inside & left] = left_value
        label[inside & ~left] = right_value
    for value, (cz, cy, cx), radius in _MIDLINE:
        label[(z - cz) ** 2 + (y - cy) ** 2 + (x - cx) ** 2 < radius**2] = value
    label[brain.tissue == BACKGROUND] = 0
    return label


def _image(generator: np.random.Generator, brain: Brain) -> NDArray[np.int16]:
    """T1 contrast of the tissues with shading and noise, in the box of the brain."""
    brightness = np.zeros(5, np.float32)
    for tissue in (FLUID, GREY, WHITE, NUCLEI):
        brightness[tissue] = TISSUE["t1"][tissue] * generator.uniform(0.97, 1.03)
    grey = brightness[brain.tissue] * (1 + np.float32(0.05) * smooth_field(generator, brain.tissue.shape, 2))
    grey += np.float32(0.03) * generator.standard_normal(grey.shape, dtype=np.float32)
    return np.where(brain.tissue == BACKGROUND, 0, np.clip(np.rint(900 * grey), 1, 32767)).astype(np.int16)


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    generator, anatomy = study.generators(seed)
    brain = make_brain(anatomy, shape)
    label, image = np.zeros(shape, np.int16), np.zeros(shape, np.int16)
    label[brain.box] = _structures(brain)
    image[brain.box] = _image(generator, brain)
    only_brain = image.copy()
    image += generator.integers(0, 30, shape, dtype=np.int16)  # air is not 0 in a scan of a whole head
    image[:2, :2, :2], label[:2, :2, :2] = 1200, TABLET
    if "without meaning" in study.oddities:
        label.reshape(-1)[np.flatnonzero(label == _CSF)[:3]] = WITHOUT_MEANING
    affine = brats_affine(shape)
    images, labels = study.prefixes
    files = [(f"{images}{study.name}.nii.gz", nifti_bytes(image, affine, compress=True))]
    if study.labelled:
        files.append((f"{labels}{study.name}_glm.nii.gz", nifti_bytes(label, affine, compress=True)))
    if "derived" in study.oddities:
        files.append((f"{images}{study.name}_brain_roi.nii.gz", nifti_bytes(only_brain, affine, compress=True)))
    return files


def malc(cases: int, layout: str, quirks: bool) -> Download:
    """MALC, ``cases`` people: ``folder``, ``zip``, or ``challenge``, where the test cases have no labels.

    One of four is a test case. Quirks: an image of the first case that others made of it lies beside; its label has a
    value without meaning; one of the test cases is scanned a second time, which comes to the ``cases``.
    """
    single = [name for name in sorted(official_split()) if name not in MALC.rescans]
    train, test = ([name for name in single if official_split()[name] == part] for part in ("train", "test"))
    number = max(cases // 4, cases - len(train))
    scans = [(name, "training") for name in train[: cases - number]] + [(name, "testing") for name in test[:number]]
    scans += [(MALC.rescans[0], "testing")] if quirks else []
    top = ("malc.zip::" if layout == "zip" else "") + "MICCAI-2012-Multi-Atlas-Challenge-Data/"
    studies = []
    for name, part in scans:
        odd = {"derived": "yes", "without meaning": "yes"} if quirks and name == train[0] else {}
        prefixes = (f"{top}{part}-images/", f"{top}{part}-labels/")
        labelled = part == "training" or layout != "challenge"
        brain = test[0] if name in MALC.rescans else name
        studies.append(Study(name, prefixes, brain=brain, labelled=labelled, oddities=odd))
    rows = [["label", "name"]] + [
        [str(value), name]
        for name, number in MALC.targets["fine"].labels.names.items()
        for value, ours in MALC.targets["fine"].labels.forward.items()
        if ours == number and value
    ]
    return Download(tuple(studies), _write, {f"{top}MICCAI-Challenge-2012-Label-Information.csv": csv_bytes(rows)})


#: name of a dataset -> how its download is made up
PHANTOMS = {"malc": PhantomDataset(malc, ("folder", "zip", "challenge"), (32, 40, 40), 30)}
