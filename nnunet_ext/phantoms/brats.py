"""BraTS 2019, 2020 and 2021 as they are downloaded, with the quirks of the real downloads.

Case names are public identifiers of real cases; what the files hold is synthetic. The same seed gives the cases that
2019 and 2020 share (``SHARED_2020``) the same images in both, as in reality.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from nnunet_ext.phantoms.case import make_case
from nnunet_ext.phantoms.download import Download, Files, PhantomDataset, Study, csv_bytes
from nnunet_ext.phantoms.nifti import brats_affine, nifti_bytes
from nnunet_ext.phantoms.tumour import EDEMA, NECROSIS, PARTS

# 2020 case -> its name in 2019, from the organisers' mapping table.
SHARED_2020: Mapping[str, str] = {
    "BraTS20_Training_001": "BraTS19_CBICA_AAB_1",
    "BraTS20_Training_002": "BraTS19_CBICA_AAG_1",
    "BraTS20_Training_003": "BraTS19_CBICA_AAL_1",
    "BraTS20_Training_004": "BraTS19_CBICA_AAP_1",
    "BraTS20_Training_005": "BraTS19_CBICA_ABB_1",
    "BraTS20_Training_006": "BraTS19_CBICA_ABE_1",
    "BraTS20_Training_007": "BraTS19_CBICA_ABM_1",
    "BraTS20_Training_008": "BraTS19_CBICA_ABN_1",
}

_TOP_2019 = "MICCAI_BraTS_2019_Data_Training/"
_TOP_2020 = "MICCAI_BraTS2020_TrainingData/"
_TOP_2020_VALIDATION = "MICCAI_BraTS2020_ValidationData/"
_TOP_2021 = "RSNA_ASNR_MICCAI_BraTS2021_TrainingData_16July2021/"
_SINGLE_TARS = (495, 621)


def _write(study: Study, seed: int, shape: tuple[int, int, int]) -> Files:
    ending = study.oddities.get("ending", ".nii.gz")
    generator, anatomy = study.generators(seed)
    images, label = make_case(generator, shape, parts=study.parts, anatomy=anatomy)
    affine = brats_affine(shape)

    def encode(array: NDArray[np.generic]) -> bytes:
        return nifti_bytes(array, affine, compress=ending == ".nii.gz")

    files = {f"{study.name}_{sequence}{ending}": encode(image) for sequence, image in images.items()}
    if study.labelled:
        name = study.oddities.get("label name", f"{study.name}_seg{ending}")
        files[name] = encode(label.astype(study.oddities.get("label dtype", "uint8")))
    return [(prefix + name, content) for prefix in study.prefixes for name, content in sorted(files.items())]


def _survival(names: Iterable[str], header: str, first: str | None = None) -> bytes:
    """The survival table of a year; only its form matters here."""
    rows = [
        [name, f"{40 + 3 * i % 40}.{i % 10}", str(100 + 37 * i), ("GTR", "STR", "NA")[i % 3]]
        for i, name in enumerate(names)
    ]
    if first and rows:
        rows[0][2] = first
    return csv_bytes([header.split(","), *rows])


def brats2019(cases: int, layout: str, quirks: bool) -> Download:
    """BraTS 2019: ``folder`` or ``zip``; three in four cases are high-grade.

    Quirks: the top folder is doubled (as in Kaggle copies); the first low-grade case does not enhance, the second is
    all edema.
    """
    high = [*SHARED_2020.values(), "BraTS19_TCIA01_425_1", "BraTS19_TCIA01_190_1", "BraTS19_TMC_06290_1"]
    high += ["BraTS19_2013_10_1"]
    high += [f"BraTS19_CBICA_X{chr(65 + i // 26)}{chr(65 + i % 26)}_1" for i in range(247)]
    low = [f"BraTS19_2013_{i}_1" for i in (0, 6, 16, 15, 8, 24)]
    low += [f"BraTS19_TCIA09_{i}_1" for i in range(100, 170)]
    num_low = min(cases // 4, len(low))
    grades = dict.fromkeys(high[: cases - num_low], "HGG") | dict.fromkeys(low[:num_low], "LGG")
    top = _TOP_2019 * 2 if quirks else _TOP_2019
    base = {"folder": top, "zip": f"BraTS2019.zip::{top}"}[layout]
    fewer = {low[0]: frozenset({NECROSIS, EDEMA}), low[1]: frozenset({EDEMA})}
    studies = []
    for name in sorted(grades):
        parts = fewer.get(name, PARTS) if quirks else PARTS
        studies.append(Study(name, (f"{base}{grades[name]}/{name}/",), parts=parts))
    mapping = [
        ["Grade", "BraTS_2017_subject_ID", "BraTS_2018_subject_ID", "TCGA_TCIA_subject_ID", "BraTS_2019_subject_ID"]
    ]
    for name, grade in grades.items():
        tail = name.removeprefix("BraTS19_")
        known = tail.startswith(("CBICA_A", "TCIA", "2013"))
        collection_free = tail.replace("TCIA01_", "TCIA_").replace("TCIA09_", "TCIA_")
        earlier = [f"Brats17_{collection_free}", f"Brats18_{tail}"] if known else ["NA", "NA"]
        mapping.append([grade, *earlier, "NA", name])
    return Download(
        tuple(studies),
        _write,
        {
            f"{base}name_mapping.csv": csv_bytes(mapping),
            f"{base}survival_data.csv": _survival(
                (n for n, g in grades.items() if g == "HGG"), "BraTS19ID,Age,Survival,ResectionStatus"
            ),
        },
    )


def brats2020(cases: int, layout: str, quirks: bool) -> Download:
    """BraTS 2020: ``kaggle`` (uncompressed ``.nii``), ``folder`` (the organisers' ``.nii.gz``) or ``zip`` (Kaggle's).

    One validation case without a label is part of every layout. Quirks: the label of case 355 has its odd name
    (Kaggle), a mapping row has no folder, a survival time is a sentence.
    """
    first = (1, 2, 355, 367) if quirks else ()
    numbers = sorted([*first, *(n for n in range(1, 370) if n not in first)][:cases])
    kaggle = layout != "folder"
    archive = "archive.zip::" if layout == "zip" else ""
    training = archive + ("BraTS2020_TrainingData/" if kaggle else "") + _TOP_2020
    validation = archive + ("BraTS2020_ValidationData/" if kaggle else "") + _TOP_2020_VALIDATION
    ending = {"ending": ".nii" if kaggle else ".nii.gz"}
    studies = []
    for number in numbers:
        name = f"BraTS20_Training_{number:03d}"
        odd = {"label name": "W39_1998.09.19_Segm.nii"} if quirks and kaggle and number == 355 else {}
        shared = SHARED_2020.get(name, name)
        studies.append(Study(name, (f"{training}{name}/",), brain=shared, images=shared, oddities=ending | odd))
    unlabelled = "BraTS20_Validation_001"
    studies.append(Study(unlabelled, (f"{validation}{unlabelled}/",), labelled=False, oddities=ending))
    names = [study.name for study in studies if study.labelled]
    mapping = [
        [
            "Grade",
            "BraTS_2017_subject_ID",
            "BraTS_2018_subject_ID",
            "TCGA_TCIA_subject_ID",
            "BraTS_2019_subject_ID",
            "BraTS_2020_subject_ID",
        ]
    ]
    mapped = [*names, f"BraTS20_Training_{max(numbers) % 369 + 1:03d}"] if quirks and cases < 369 else names
    for name in mapped:
        grade = "LGG" if 260 <= int(name[-3:]) <= 335 or int(name[-3:]) % 4 == 3 else "HGG"
        mapping.append([grade, "NA", "NA", "NA", SHARED_2020.get(name, "NA"), name])
    survival = _survival(
        names, "Brats20ID,Age,Survival_days,Extent_of_Resection", "ALIVE (361 days later)" if quirks else None
    )
    evaluation = [["BraTS20ID", "Age", "ResectionStatus"], [unlabelled, "61.2", "GTR"]]
    return Download(
        tuple(studies),
        _write,
        {
            f"{training}name_mapping.csv": csv_bytes(mapping),
            f"{training}survival_info.csv": survival,
            f"{validation}name_mapping_validation_data.csv": csv_bytes([["BraTS_2020_subject_ID"], [unlabelled]]),
            f"{validation}survival_evaluation.csv": csv_bytes(evaluation),
        },
    )


def brats2021(cases: int, layout: str, quirks: bool) -> Download:
    """BraTS 2021: ``folder`` (Synapse), ``zip`` (the same in one archive) or ``kaggle`` (a tar).

    Quirks: cases 00008 and 01559 are one patient; two cases of the tar come again in tars of their own; one label is
    stored as float32.
    """
    first = (8, 1559, *_SINGLE_TARS) if quirks else ()
    # Every third number is missing, as at the head of the real list (00000, 00002, 00003, 00005, ...).
    others = (n for n in range(1667) if n % 3 != 1 and n not in first)
    numbers = sorted([*first, *others][:cases])
    base = {"folder": _TOP_2021, "zip": f"BraTS2021.zip::{_TOP_2021}", "kaggle": "BraTS2021_Training_Data.tar::"}[
        layout
    ]
    studies = []
    for number in numbers:
        name = f"BraTS2021_{number:05d}"
        prefixes = [f"{base}{name}/"]
        if quirks and layout == "kaggle" and number in _SINGLE_TARS:
            prefixes.append(f"{name}.tar::")
        odd = {"label dtype": "float32"} if quirks and number == numbers[0] else {}
        brain = "BraTS2021_00008" if quirks and number == 1559 else name
        studies.append(Study(name, tuple(prefixes), brain=brain, oddities=odd))
    return Download(tuple(studies), _write, {})


_SHAPE = (32, 40, 40)
_OWN = ("CNT01", "GEO07", "SPL03")
#: name of a dataset -> how its download is made up
PHANTOMS = {
    "brats2019": PhantomDataset(brats2019, ("folder", "zip"), _SHAPE, 335, own_findings=_OWN),
    "brats2020": PhantomDataset(brats2020, ("kaggle", "folder", "zip"), _SHAPE, 369, own_findings=_OWN),
    "brats2021": PhantomDataset(brats2021, ("folder", "kaggle", "zip"), _SHAPE, 1111, own_findings=(*_OWN, "CSV01")),
}
