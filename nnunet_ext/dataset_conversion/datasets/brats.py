"""BraTS 2019, 2020 and 2021: glioma in four co-registered MR sequences.

All three store 240x240x155 voxels of 1 mm in SRI24 space, skull-stripped, labels 0, 1 (necrosis and non-enhancing
tumour), 2 (edema), 4 (enhancing tumour). In the raw data of nnU-Net edema is 1, necrosis 2 and enhancing tumour 3, so
that the three nested regions of the challenge are painted in order, as nnU-Net's own Dataset042, 043 and 137 do.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets.resources import read_rows
from nnunet_ext.dataset_conversion.description import Dataset, Image, Pattern, Table, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

_IMAGES = (Image("t1", ("T1",)), Image("t1ce", ("T1ce",)), Image("t2", ("T2",)), Image("flair", ("FLAIR",)))

#: Numbering of the releases 2017 to 2021.
LABELS_2017_TO_2021 = LabelMap(
    names={"background": 0, "whole tumor": (1, 2, 3), "tumor core": (2, 3), "enhancing tumor": (3,)},
    forward={0: 0, 1: 2, 2: 1, 4: 3},
    regions_class_order=(1, 2, 3),
    hints={3: "this looks like the 2023 convention, where 3 is enhancing tumor"},
    tissues={1: "edema", 2: "necrotic core", 3: "enhancing tumor"},
)

_MENZE = "Menze et al., The Multimodal Brain Tumor Image Segmentation Benchmark (BRATS), IEEE TMI 34(10), 2015"
_BAKAS17 = "Bakas et al., Advancing The Cancer Genome Atlas glioma MRI collections, Scientific Data 4, 2017"
_BAKAS18 = (
    "Bakas et al., Identifying the best machine learning algorithms for brain tumor segmentation, arXiv:1811.02629"
)
_BAID = "Baid et al., The RSNA-ASNR-MICCAI BraTS 2021 benchmark, arXiv:2107.02314"
_DOI = ("10.1109/TMI.2014.2377694", "10.1038/sdata.2017.117", "10.48550/arXiv.1811.02629")

_SUFFIX = r"_(?P<role>flair|t1|t1ce|t2|seg)\.nii(\.gz)?"
_EXTRAS = (r"survival.*\.csv", r"readme.*", r".*\.pdf", r"license.*", r".*mapping.*\.(csv|xlsx)")


def _column(year: int) -> str:
    """Column of a mapping file that holds the names of one year: ``BraTS_2019_subject_ID``, ``BraTS2021``."""
    return rf"brats_?(20)?{year - 2000}(?!\d)"


def _names_of_other_years(own: int) -> dict[str, str]:
    return {f"brats{year}": _column(year) for year in (2017, 2018, 2019, 2020, 2021, 2023) if year != own}


def _target(dataset_id: int, year: int) -> dict[str, Target]:
    return {"3d": Target(dataset_id, f"BraTS{year}", ".nii.gz", "volume", LABELS_2017_TO_2021)}


@cache
def repeat_patients() -> Mapping[str, str]:
    """BraTS 2021 case -> patient, for the 118 patients that the release holds twice under unrelated numbers."""
    patients: dict[str, str] = {}
    for row in read_rows("brats21_repeat_patients.csv"):
        patients[row["brats2021_first"]] = patients[row["brats2021_second"]] = row["patient"]
    return MappingProxyType(patients)


_NAME_2019 = r"BraTS19_[A-Z0-9]+_[A-Z0-9]+_\d+"
BRATS2019 = Dataset(
    name="brats2019",
    title="Brain Tumor Segmentation Challenge 2019",
    years_or_release="2019",
    cases=335,
    test_cases=125,
    licence="registration required; research use under the terms of the CBICA portal",
    citation=(_MENZE, _BAKAS17, _BAKAS18),
    doi=_DOI,
    download="https://www.med.upenn.edu/cbica/brats2019/registration.html",
    layout="MICCAI_BraTS_2019_Data_Training/{HGG,LGG}/BraTS19_CBICA_ASH_1/"
    "BraTS19_CBICA_ASH_1_{flair,t1,t1ce,t2,seg}.nii[.gz], name_mapping.csv",
    case_name=_NAME_2019,
    patterns=(Pattern(rf"(?P<case>{_NAME_2019}){_SUFFIX}"),),
    images=_IMAGES,
    label="seg",
    targets=_target(519, 2019),
    depth=3,
    shape=(240, 240, 155),
    tables=(
        Table(
            r"name_mapping(?!_validation).*\.csv", _column(2019), {"stratum": "grade", **_names_of_other_years(2019)}
        ),
    ),
    strata_folders=("HGG", "LGG"),
    extras=_EXTRAS,
    family="brats",
)

_NAME_2020 = r"BraTS20_Training_\d{3}"
_TEST_NAME_2020 = r"BraTS20_(Validation|Testing)_\d{3}"
BRATS2020 = Dataset(
    name="brats2020",
    title="Brain Tumor Segmentation Challenge 2020",
    years_or_release="2020",
    cases=369,
    test_cases=125,
    licence="registration required; research use under the terms of the CBICA portal",
    citation=(_MENZE, _BAKAS17, _BAKAS18),
    doi=_DOI,
    download="https://www.med.upenn.edu/cbica/brats2020/registration.html",
    layout="MICCAI_BraTS2020_TrainingData/BraTS20_Training_001/BraTS20_Training_001_{flair,t1,t1ce,t2,seg}.nii[.gz], "
    "name_mapping.csv; MICCAI_BraTS2020_ValidationData/BraTS20_Validation_001/...",
    case_name=f"{_NAME_2020}|{_TEST_NAME_2020}",
    patterns=(
        Pattern(rf"(?P<case>{_NAME_2020}){_SUFFIX}"),
        Pattern(rf"(?P<case>{_TEST_NAME_2020}){_SUFFIX}", split="test"),
        # Case 355 of the Kaggle copy: its label is named W39_1998.09.19_Segm.nii.
        Pattern(r".+_Segm\.nii(\.gz)?", role="seg", fallback=True, published=True),
        Pattern(r".+\.nii(\.gz)?", role="seg", fallback=True),
    ),
    images=_IMAGES,
    label="seg",
    targets=_target(520, 2020),
    depth=3,
    shape=(240, 240, 155),
    tables=(
        Table(
            r"name_mapping(?!_validation).*\.csv", _column(2020), {"stratum": "grade", **_names_of_other_years(2020)}
        ),
    ),
    extras=_EXTRAS,
    family="brats",
)

_NAME_2021 = r"BraTS2021_\d{5}"
BRATS2021 = Dataset(
    name="brats2021",
    title="RSNA-ASNR-MICCAI Brain Tumor Segmentation Challenge 2021",
    years_or_release="2021",
    cases=1251,
    test_cases=219,
    licence="registration required; see https://www.synapse.org/#!Synapse:syn25829067/wiki/610863",
    citation=(_BAID, _MENZE, _BAKAS17),
    doi=("10.48550/arXiv.2107.02314", *_DOI[:2]),
    download="https://www.synapse.org/#!Synapse:syn25829067",
    layout="BraTS2021_Training_Data.tar, BraTS2021_00495.tar, BraTS2021_00621.tar (Kaggle) or "
    "RSNA_ASNR_MICCAI_BraTS2021_TrainingData/BraTS2021_00000/BraTS2021_00000_{flair,t1,t1ce,t2,seg}.nii.gz",
    case_name=_NAME_2021,
    patterns=(Pattern(rf"(?P<case>{_NAME_2021}){_SUFFIX}"),),
    images=_IMAGES,
    label="seg",
    targets=_target(521, 2021),
    depth=2,
    shape=(240, 240, 155),
    tables=(Table(r".*mapping.*\.csv", _column(2021), {"stratum": "site", **_names_of_other_years(2021)}),),
    patients=repeat_patients,
    extras=_EXTRAS,
    family="brats",
)
