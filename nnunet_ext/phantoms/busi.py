"""BUSI (Al-Dhabyani et al. 2020, doi 10.1016/j.dib.2019.104863) as Kaggle ships it, with its quirks.

Names are those of real pictures; what the files hold is synthetic. The second appearance is that of another machine and
another clinic: finer speckle, flatter contrast, smaller lesions nearer to the surface, black borders. A network trained
on one appearance and used on the other meets a domain shift whose causes are known.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.dataset_conversion.datasets.busi import near_duplicates
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study
from nnunet_ext.phantoms.fields import smooth_field
from nnunet_ext.phantoms.outline import SHAPE, SIZES, axes, encode, outline, picture_size

_NUMBERS = {"benign": 437, "malignant": 210, "normal": 133}


@dataclass(frozen=True)
class _Machine:
    """How one machine draws: pixels a speckle along y and x, its strength, echo of a lesion relative to the tissue,
    exponent of the grey curve, mean depth (-1 to 1) and radius of a lesion, width of the black border."""

    grain: tuple[float, float]
    speckle: float
    lesion: float
    curve: float
    depth: float
    radius: float
    border: float


_MACHINES = {
    "1": _Machine((1.6, 2.6), 0.32, 0.30, 1.0, 0.0, 0.30, 0.0),
    "2": _Machine((1.0, 1.4), 0.18, 0.52, 0.65, -0.2, 0.22, 0.1),
}


@dataclass(frozen=True)
class _Lesion:
    depth: NDArray[np.float32]
    parts: tuple[NDArray[np.bool_], ...]


def _lesions(generator: np.random.Generator, study: Study, shape: tuple[int, int], machine: _Machine) -> _Lesion:
    """Outlines of all lesions: benign ones are wide and smooth, malignant ones tall and rough."""
    number = int(study.oddities.get("lesions", 1))
    malignant = study.oddities["class"] == "malignant"
    depth = np.full(shape, -9, np.float32)
    parts = []
    for index in range(number):
        radius = machine.radius * generator.uniform(0.75, 1.3) / (1 if number == 1 else 2)
        radii = (1.2 * radius, 0.8 * radius) if malignant else (0.75 * radius, 1.3 * radius)
        middle = generator.uniform(-0.35, 0.35) if number == 1 else -0.6 + 1.2 * (index + 0.5) / number
        centre = (machine.depth + generator.uniform(-0.15, 0.25), middle)
        own = outline(generator, shape, centre, radii, 0.30 if malignant else 0.12)
        parts.append(own > 0)
        depth = np.maximum(depth, own)
    return _Lesion(depth, tuple(parts))


def _picture(
    generator: np.random.Generator, study: Study, shape: tuple[int, int], lesion: _Lesion | None, machine: _Machine
) -> NDArray[np.uint8]:
    """Skin, fat with dark lobules, gland and muscle under speckle; behind a lesion a shadow or a brighter stripe."""
    y, x = axes(shape)
    layers = y + 0.12 * smooth_field(generator, shape, 2)
    echo = np.full(shape, 0.42, np.float32)
    echo = np.where(layers < -0.85, np.float32(0.8), echo)
    echo = np.where(layers > generator.uniform(0.4, 0.7), np.float32(0.3), echo)
    echo = echo * (1 + 0.3 * smooth_field(generator, shape, 3))
    lobules = smooth_field(generator, shape, 5)
    echo = np.where((lobules > 1.1) & (layers < 0.2), 0.6 * echo, echo)
    echo = echo + 0.25 * np.exp(-((smooth_field(generator, shape, (6, 2)) / 0.08) ** 2))
    if lesion is not None:
        inside = np.clip(lesion.depth / 0.10, 0, 1)
        behind = np.cumsum(lesion.depth > 0, axis=0) > 0
        change = 0.55 if study.oddities["class"] == "malignant" else 1.35
        echo = np.where(behind & (lesion.depth <= 0), change * echo, echo)
        echo = echo * (1 - inside) + machine.lesion * np.clip(echo, 0.1, 0.42) * inside
    knots = tuple(max(3, round(n / grain)) for n, grain in zip(shape, machine.grain, strict=True))
    speckle = np.hypot(smooth_field(generator, shape, knots), smooth_field(generator, shape, knots)) / 1.25
    grey = np.clip(echo, 0.02, None) * (1 + machine.speckle * 2 * (speckle - 1))
    grey = np.clip(grey, 0, 1) ** np.float32(machine.curve) * (1 - 0.12 * y)
    if "near" in study.oddities:  # the same scene, stored a second time: brighter, with other noise
        grey = 1.04 * grey + generator.normal(0, 0.01, shape)
    grey = np.where(np.abs(x) > 1 - machine.border, 0, grey)
    picture = np.repeat(np.clip(np.rint(230 * grey), 0, 255).astype(np.uint8)[..., None], 3, axis=2)
    if "marks" in study.oddities:
        picture[2:5, 2:12] = (220, 200, 40)
    return picture


def _mask(mask: NDArray[np.bool_], mode: str) -> bytes:
    """A mask as 1-bit, RGB or RGBA picture."""
    if mode == "1":
        return encode(mask, "PNG")
    grey = np.where(mask, np.uint8(255), np.uint8(0))
    colours = [grey] * 3 + ([np.full_like(grey, 255)] if mode == "RGBA" else [])
    return encode(np.stack(colours, axis=-1), "PNG")


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    generator, outlines = study.generators(seed)
    size = picture_size(study, shape)
    machine = _MACHINES[study.oddities.get("appearance", "1")]
    normal = study.oddities["class"] == "normal"
    lesion = None if normal else _lesions(outlines, study, size, machine)
    parts = lesion.parts if lesion is not None else (np.zeros(size, bool),)
    files = {f"{study.name}.png": encode(_picture(generator, study, size, lesion, machine), "PNG")}
    for number, part in enumerate(parts):
        mode = "RGB" if normal else study.oddities.get(f"mode {number}", "1")
        files[f"{study.name}_mask{f'_{number}' if number else ''}.png"] = _mask(part, mode)
    return [(prefix + name, content) for prefix in study.prefixes for name, content in files.items()]


def _names(kind: str, taken: frozenset[str]) -> Iterator[str]:
    """Names of a class: first those that the real release does not repeat, then the others."""
    every = [f"{kind} ({number})" for number in range(1, _NUMBERS[kind] + 1)]
    repeated = near_duplicates()
    yield from (name for name in sorted(every, key=lambda name: name in repeated) if name not in taken)


#: name -> oddities; the pictures of the last two are those of another one, exactly and nearly.
_QUIRKS: dict[str, dict[str, str]] = {
    "benign (4)": {"lesions": "2", "mode 1": "RGBA"},
    "benign (195)": {"lesions": "3"},
    "benign (433)": {},
    "malignant (145)": {"picture of": "benign (433)"},
    "benign (255)": {"marks": "yes"},
    "benign (51)": {},
    "benign (133)": {"picture of": "benign (51)", "near": "yes"},
}


def busi(cases: int, layout: str, quirks: bool) -> Download:
    """BUSI, ``cases`` pictures with lesions, one malignant of three: ``folder`` or ``zip``.

    To four of them comes one normal picture, at least one in all. Quirks: two and three lesions in masks of their own,
    an RGBA mask, a picture that occurs in both classes, one with coloured marks, and a near repeat.
    """
    odd = _QUIRKS if quirks else {}
    names = list(odd)[:cases]
    taken = frozenset(odd)
    kinds = {kind: _names(kind, taken) for kind in _NUMBERS}
    for number in count():
        if len(names) == cases:
            break
        wanted = "malignant" if number % 3 == 2 else "benign"
        name = next(kinds[wanted], None) or next(kinds["benign" if wanted == "malignant" else "malignant"])
        names.append(name)
    names += [next(kinds["normal"]) for _ in range(min(max(1, cases // 4), _NUMBERS["normal"]))]
    archive = "archive.zip::" if layout == "zip" else ""
    studies = []
    for number, name in enumerate(names):
        own = dict(odd.get(name, {}))
        shown = own.pop("picture of", name)
        kind = name.split(" ", maxsplit=1)[0]
        # A repeated picture has the size and the lesion of the first, whatever class it is filed under.
        own |= {"size": str(names.index(shown) % len(SIZES) if shown in names else number % len(SIZES))}
        own |= {"class": shown.split(" ", maxsplit=1)[0]}
        prefix = f"{archive}Dataset_BUSI_with_GT/{kind}/"
        studies.append(Study(name, (prefix,), images=shown, brain=shown, oddities=own))
    return Download(tuple(studies), _write, {})


#: name of a dataset -> how its download is made up
PHANTOMS = {"busi": PhantomDataset(busi, ("folder", "zip"), SHAPE, 647, appearances=2)}
