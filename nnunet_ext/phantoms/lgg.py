"""LGG MRI segmentation (Buda et al. 2019, doi 10.1016/j.compbiomed.2019.05.002) as Kaggle ships it, with its quirks.

One RGB TIFF a slice (pre-contrast, FLAIR, post-contrast) and one mask of the FLAIR abnormality beside it. Patient names
are public identifiers of real cases; what the files hold is synthetic.
"""

from __future__ import annotations

import io

import numpy as np
import tifffile
from numpy.typing import NDArray

from nnunet_ext.phantoms.case import make_case
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study, csv_bytes

_REPLACED = {"TCGA_HT_A616_19991226": "pre+post", "TCGA_DU_6407_19860514": "post"}
_PATIENTS = (
    "TCGA_CS_4941_19960909",
    "TCGA_CS_4942_19970222",
    "TCGA_CS_4943_20000902",
    "TCGA_CS_5393_19990606",
    "TCGA_CS_5397_20010315",
    "TCGA_CS_6667_20011105",
    "TCGA_DU_5855_19951217",
    "TCGA_HT_7602_19951103",
    "TCGA_HT_7680_19970202",
    "TCGA_HT_7686_19950629",
    "TCGA_HT_7692_19960724",
    "TCGA_HT_7693_19950520",
    "TCGA_HT_7855_19951020",
    "TCGA_HT_7860_19960513",
    "TCGA_HT_7874_19950902",
)
_COLUMNS = (
    "Patient",
    "RNASeqCluster",
    "MethylationCluster",
    "miRNACluster",
    "CNCluster",
    "RPPACluster",
    "OncosignCluster",
    "COCCluster",
    "histological_type",
    "neoplasm_histologic_grade",
    "tumor_tissue_site",
    "laterality",
    "tumor_location",
    "gender",
    "age_at_initial_pathologic",
    "race",
    "ethnicity",
    "death01",
)
_README = b"# LGG Segmentation Dataset\n\nSynthetic phantoms in the layout of the real files.\n"

# Real stacks hold hardly a slice without brain: the stack is cut from a longer one.
_STACK_SURPLUS = 1.35
_ROWS_PER_STRIP = 11  # as in the real files


def _tif(array: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        array,
        photometric="rgb" if array.ndim == 3 else "minisblack",
        rowsperstrip=_ROWS_PER_STRIP,
        metadata=None,
        software=False,
    )
    return buffer.getvalue()


def _eight_bit(image: NDArray[np.int16]) -> NDArray[np.uint8]:
    bright = np.percentile(image[image > 0], 99.8)
    scaled = np.clip(np.rint(image * (255 / bright)), 0, 255).astype(np.uint8)
    return np.where(image > 0, np.maximum(scaled, 1), 0).astype(np.uint8)


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    generator, anatomy = study.generators(seed)
    slices = round(shape[0] * _STACK_SURPLUS)
    start = (slices - shape[0]) // 2
    kept = slice(start, start + shape[0])
    images, label = make_case(generator, (slices, *shape[1:]), anatomy=anatomy)
    pre, flair, post = (_eight_bit(images[sequence][kept]) for sequence in ("t1", "flair", "t1ce"))
    replaced = study.oddities.get("replaced", "")
    channels = [flair if "pre" in replaced else pre, flair, flair if "post" in replaced else post]
    stack = np.stack(channels, axis=-1)
    if "empty channel" in study.oddities:
        stack[0, ..., 1] = 0
    mask = np.where(label[kept] > 0, np.uint8(255), np.uint8(0))
    files = {}
    for index in range(shape[0]):
        files[f"{study.name}_{index + 1}.tif"] = _tif(stack[index])
        files[f"{study.name}_{index + 1}_mask.tif"] = _tif(mask[index])
    return [(prefix + name, content) for prefix in study.prefixes for name, content in files.items()]


def lgg(cases: int, layout: str, quirks: bool) -> Download:
    """LGG, ``cases`` patients: ``folder`` or ``zip``.

    Quirks: the tree is there twice, each with a table of another dialect and with empty cells; of four patients one has
    three equal channels, one has FLAIR for post-contrast, and one has a first slice whose FLAIR is zero.
    """
    others = (*_PATIENTS, *(f"TCGA_DU_{8900 + i}_1999{i // 28 + 1:02d}{i % 28 + 1:02d}" for i in range(93)))
    names = [others[0], *_REPLACED, *others[1:]] if quirks else list(others)
    names = sorted(names[:cases])
    archive = "archive.zip::" if layout == "zip" else ""
    trees = [f"{archive}kaggle_3m/", f"{archive}lgg-mri-segmentation/kaggle_3m/"][: 2 if quirks else 1]
    studies = []
    for name in names:
        odd = {"replaced": _REPLACED[name]} if quirks and name in _REPLACED else {}
        if quirks and name == others[1]:
            odd = {"empty channel": "first slice"}
        studies.append(Study(name, tuple(f"{tree}{name}/" for tree in trees), oddities=odd))
    rows = [list(_COLUMNS)]
    for i, name in enumerate(names):
        values = [str(1 + (i + k) % 4) for k in range(len(_COLUMNS) - 1)]
        if quirks:
            values[4] = values[14] = ""
        rows.append([name.rsplit("_", 1)[0], *values])
    tables = {f"{trees[0]}data.csv": csv_bytes(rows)}
    tables |= {f"{tree}data.csv": csv_bytes(rows, ";", "\r\n") for tree in trees[1:]}
    tables |= {f"{tree}README.md": _README for tree in trees}
    return Download(tuple(studies), _write, tables)


#: name of a dataset -> how its download is made up
PHANTOMS = {"lgg": PhantomDataset(lgg, ("folder", "zip"), (12, 64, 64), 108)}
