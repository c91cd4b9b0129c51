"""Kvasir-SEG (Jha et al. 2020, doi 10.1007/978-3-030-37734-2_37) as it is downloaded, with its quirks.

Names are public identifiers of real pictures, three of four from the training part of the published split, one from its
test part; what the files hold is synthetic.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.dataset_conversion.datasets.kvasir_seg import official_split
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.outline import SHAPE, axes, encode, outline, picture_size

_SIZES = 3
_MUCOSA, _POLYP, _VESSEL = ((205.0, 105.0, 80.0), (225.0, 120.0, 110.0), (150.0, 45.0, 45.0))
_IMAGE_QUALITY, _MASK_QUALITY = 90, 75


def _polyps(generator: np.random.Generator, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Depth below the outline of one polyp, or of the nearer of two."""
    depth = np.full(shape, -9, np.float32)
    for _ in range(1 + int(generator.random() < 0.2)):
        centre = generator.uniform(-0.45, 0.45, 2)
        radii = generator.uniform(0.18, 0.42) * generator.uniform(0.8, 1.25, 2)
        depth = np.maximum(
            depth, outline(generator, shape, (centre[0], centre[1]), (radii[0], radii[1]), generator.uniform(0.05, 0.2))
        )
    return depth


def _picture(generator: np.random.Generator, shape: tuple[int, int], depth: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Mucosa with vessels and folds, lit from the middle, polyps on it, glare, and the black frame of the endoscope."""
    y, x = axes(shape)
    light = 0.9 - 0.35 * (y * y + x * x) + 0.22 * smooth_field(generator, shape, 2)
    folds = smooth_field(generator, shape, 3)
    light = light + 0.25 * np.exp(-((folds / 0.15) ** 2))
    vessels = np.abs(smooth_field(generator, shape, 6)) < 0.08
    picture = np.empty((*shape, 3), np.float32)
    texture = smooth_field(generator, shape, max(4, min(shape) // 6))
    tint = generator.normal(0, 8, 3)
    inside = np.clip(depth / 0.12, 0, 1)
    # A polyp is a dome: brighter towards the light, with a shade around its foot.
    dome = 0.25 * np.clip(depth, 0, 1) - 0.25 * np.exp(-((depth / 0.10) ** 2))
    for channel in range(3):
        wall = np.where(vessels, _VESSEL[channel], _MUCOSA[channel] + tint[channel])
        colour = wall * (1 - inside) + (_POLYP[channel] + tint[channel] + 9 * texture) * inside
        picture[..., channel] = colour * np.clip(light + dome, 0.05, 1.3)
    glare = smooth_field(generator, shape, max(5, min(shape) // 5)) + light > 3.0
    picture[glare] = 250
    picture += generator.normal(0, 3, shape)[..., None]
    corner = np.abs(y) + np.abs(x) > generator.uniform(1.45, 1.65)
    picture[corner | (np.maximum(np.abs(y), np.abs(x)) > 0.96)] = 4
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    generator, outlines = study.generators(seed)
    depth = _polyps(outlines, picture_size(study, shape))
    mask = np.repeat(np.where(depth > 0, np.uint8(255), np.uint8(0))[..., None], 3, axis=2)
    image = encode(_picture(generator, mask.shape[:2], depth), "JPEG", _IMAGE_QUALITY)
    (top,) = study.prefixes
    return [
        (f"{top}images/{study.name}.jpg", image),
        (f"{top}masks/{study.name}.jpg", encode(mask, "JPEG", _MASK_QUALITY)),
    ]


def _boxes(studies: Sequence[Study], seed: int, shape: tuple[int, int, int]) -> Mapping[str, bytes]:
    """The table of sizes and bounding boxes; its name is misspelt in the real download as well."""
    table = {}
    for study in studies:
        depth = _polyps(study.generators(seed)[1], picture_size(study, shape))
        rows, columns = np.nonzero(depth > 0)
        box = {"xmin": columns.min(), "ymin": rows.min(), "xmax": columns.max(), "ymax": rows.max()}
        height, width = depth.shape
        table[study.name] = {
            "height": height + int(study.oddities.get("height off by", 0)),
            "width": width,
            "bbox": [{"label": "polyp", **{name: int(value) for name, value in box.items()}}],
        }
    return {f"{studies[0].prefixes[0]}kavsir_bboxes.json": json.dumps(table).encode()}


def kvasir_seg(cases: int, layout: str, quirks: bool) -> Download:
    """Kvasir-SEG, ``cases`` pairs: ``folder`` or ``zip``. Pictures have three sizes, masks are JPEG.

    Quirks: the table of bounding boxes gives a wrong height for the first picture.
    """
    parts: dict[str, list[str]] = {"train": [], "test": []}
    for name, part in sorted(official_split().items()):
        parts[part].append(name)
    names = []
    for number, name in enumerate(parts["train"]):
        names.append(name)
        if number % 3 == 2 and number // 3 < len(parts["test"]):
            names.append(parts["test"][number // 3])
    top = ("kvasir-seg.zip::" if layout == "zip" else "") + "Kvasir-SEG/"
    studies = []
    for number, name in enumerate(names[:cases]):
        odd = {"size": str(number % _SIZES)} | ({"height off by": "7"} if quirks and number == 0 else {})
        studies.append(Study(name, (top,), oddities=odd))
    return Download(tuple(studies), _write, {}, _boxes)


#: name of a dataset -> how its download is made up
PHANTOMS = {"kvasir-seg": PhantomDataset(kvasir_seg, ("folder", "zip"), SHAPE, 1000)}
