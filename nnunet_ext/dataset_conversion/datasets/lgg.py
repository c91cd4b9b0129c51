"""LGG: FLAIR abnormality in 110 patients of The Cancer Genome Atlas, one RGB picture a slice (Buda et al. 2019).

The three colours are the sequences before contrast, FLAIR and after contrast. Where a sequence is missing the publisher
put FLAIR in its place; the converter measures this and compares it with the table measured on the full public copy
(10 patients; the download's own README counts 9).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets.resources import read_rows
from nnunet_ext.dataset_conversion.description import Choice, Dataset, Image, Pattern, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

CHANNELS = ("pre-contrast", "FLAIR", "post-contrast")
_SHORT = {"pre": "pre-contrast", "post": "post-contrast"}
_NAME = r"(?P<group>TCGA_(?P<stratum>[A-Z]{2})_[A-Z0-9]{4})_\d{8}"
_LABELS = LabelMap(
    names={"background": 0, "FLAIR abnormality": 1},
    forward={0: 0, 255: 1},
    threshold=127,
)


@cache
def replaced_channels() -> Mapping[str, tuple[str, ...]]:
    """Case -> channels that are copies of FLAIR, in the full public copy."""
    rows = read_rows("lgg_replaced_channels.csv")
    return MappingProxyType(
        {row["case"]: tuple(_SHORT[channel] for channel in row["channels_equal_to_flair"].split("+")) for row in rows}
    )


LGG = Dataset(
    name="lgg",
    title="LGG segmentation dataset (Brain MRI segmentation, Buda)",
    years_or_release="2019",
    cases=110,
    test_cases=None,
    licence="CC BY-NC-SA 4.0 as the Kaggle page states it",
    citation=(
        "Buda, Saha, Mazurowski, Association of genomic subtypes of lower-grade gliomas with shape features "
        "automatically extracted by a deep learning algorithm, Computers in Biology and Medicine 109, 2019",
    ),
    doi=("10.1016/j.compbiomed.2019.05.002",),
    download="https://www.kaggle.com/datasets/mateuszbuda/lgg-mri-segmentation",
    layout="kaggle_3m/TCGA_CS_4941_19960909/TCGA_CS_4941_19960909_1.tif and ..._1_mask.tif",
    case_name=r"TCGA_[A-Z]{2}_[A-Z0-9]{4}_\d{8}",
    patterns=(
        Pattern(rf"(?P<case>{_NAME})_(?P<slice>\d+)\.tif", role="image"),
        Pattern(rf"(?P<case>{_NAME})_(?P<slice>\d+)_mask\.tif", role="mask"),
    ),
    images=(Image("image", CHANNELS),),
    label="mask",
    targets={
        "2d": Target(535, "LGGSlices", ".png", "slices", _LABELS),
        "3d": Target(536, "LGGVolumes", ".nii.gz", "stack", _LABELS, spacing=(1.0, 1.0, 1.0)),
    },
    depth=2,
    equal_channels=replaced_channels,
    extras=(r"data\.csv", r"readme.*"),
    choices=(
        Choice("--as", "2d", "2d (slices, the default) or 3d (stacks)", "target", ("2d", "3d")),
        Choice("--only-tumour-slices", False, "leave out slices with an empty mask (2d)", "drop_empty_slices"),
    ),
)
