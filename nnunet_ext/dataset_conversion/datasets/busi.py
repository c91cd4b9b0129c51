"""BUSI: breast ultrasound images of 600 women, benign, malignant and without lesion (Al-Dhabyani et al. 2020).

About a fifth of the pictures repeat others, some of them in the other class. The table of near duplicates was measured
on the full public copy: pairs whose difference hashes (``formats/pictures.py``) differ in at most 4 of 64 bits, a
plateau of the number of pairs; 290 pictures in 131 groups.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets.resources import read_rows
from nnunet_ext.dataset_conversion.description import Choice, Dataset, Image, Pattern, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

_NAME = r"(?P<stratum>benign|malignant|normal)[ _]?\(\d+\)"
_LABELS = LabelMap(
    names={"background": 0, "lesion": 1},
    forward={0: 0, 255: 1},
    threshold=127,
)


@cache
def near_duplicates() -> Mapping[str, str]:
    """Picture -> its group of near duplicates, in the full public copy."""
    rows = read_rows("busi_near_duplicates.csv")
    return MappingProxyType({row["image"]: f"repeats {int(row['group']):03d}" for row in rows})


def identifier(name: str) -> str:
    """``benign (12)`` becomes ``benign_0012``."""
    stratum, number = re.findall(r"[a-z]+|\d+", name.lower())
    return f"{stratum}_{int(number):04d}"


BUSI = Dataset(
    name="busi",
    title="Breast Ultrasound Images Dataset (BUSI)",
    years_or_release="2020",
    cases=780,
    test_cases=None,
    licence="CC0 as its Kaggle page states it; the archive itself states none",
    citation=(
        "Al-Dhabyani, Gomaa, Khaled, Fahmy, Dataset of breast ultrasound images, Data in Brief 28, 2020, 104863",
        "Pawlowska, Karwat, Zolek, Letter to the Editor (errors of the dataset), Data in Brief 48, 2023, 109247",
    ),
    doi=("10.1016/j.dib.2019.104863", "10.1016/j.dib.2023.109247"),
    download="https://www.kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset",
    layout="Dataset_BUSI_with_GT/{benign,malignant,normal}/benign (1).png, benign (1)_mask.png, further lesions "
    "benign (4)_mask_1.png",
    case_name=_NAME.replace("?P<stratum>", "?:"),
    patterns=(
        Pattern(rf"(?P<case>{_NAME})\.png", role="image"),
        Pattern(rf"(?P<case>{_NAME})_mask(_(?P<part>\d+))?\.png", role="mask"),
    ),
    images=(Image("image", ("R", "G", "B")),),
    label="mask",
    targets={"2d": Target(531, "BUSI", ".png", "picture", _LABELS)},
    depth=2,
    patients=near_duplicates,
    normal="normal",
    normal_cases=133,
    near_duplicates=4,
    case_id=identifier,
    extras=(r"readme.*", r"license.*"),
    choices=(Choice("--with-normal", False, "also the images without a lesion", "normal"),),
)
