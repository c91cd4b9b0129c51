"""Kvasir-SEG: 1000 colonoscopy pictures with one or more polyps each (Jha et al. 2020), image and mask as JPEG.

The first author's repository publishes a split of 880 and 120 pictures; the 120 become nnU-Net's test cases. There are
no patient identifiers. Five pairs of pictures show the same polyp in nearly the same view (measured on the full set by
the difference hash of ``formats/pictures.py``; looked at, all five are repeats, and none of the eight pairs at the next
distance is), one of them across the published split.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets.resources import read_text
from nnunet_ext.dataset_conversion.description import Choice, Dataset, Image, Pattern, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

_NAME = r"(?P<case>c[a-z0-9]{24})"
_LABELS = LabelMap(
    names={"background": 0, "polyp": 1},
    forward={0: 0, 255: 1},
    threshold=127,
)


@cache
def official_split() -> Mapping[str, str]:
    """Case -> ``"train"`` or ``"test"``: train.txt, val.txt of DebeshJha/2020-MediaEval-Medico-polyp-segmentation."""
    lists = json.loads(read_text("kvasir_seg_split.json"))
    return MappingProxyType(dict.fromkeys(lists["train"], "train") | dict.fromkeys(lists["val"], "test"))


KVASIR_SEG = Dataset(
    name="kvasir-seg",
    title="Kvasir-SEG polyp segmentation",
    years_or_release="2020",
    cases=1000,
    test_cases=None,
    licence="research and education; see https://datasets.simula.no/kvasir-seg",
    citation=("Jha et al., Kvasir-SEG: A Segmented Polyp Dataset, MultiMedia Modeling (MMM) 2020",),
    doi=("10.1007/978-3-030-37734-2_37",),
    download="https://datasets.simula.no/kvasir-seg",
    layout="Kvasir-SEG/{images,masks}/cju0qkwl35piu0993l0dewei2.jpg, Kvasir-SEG/kavsir_bboxes.json",
    case_name=r"c[a-z0-9]{24}",
    patterns=(
        Pattern(rf"images/{_NAME}\.jpe?g", role="image"),
        Pattern(rf"masks/{_NAME}\.jpe?g", role="mask"),
    ),
    images=(Image("image", ("R", "G", "B")),),
    label="mask",
    targets={"2d": Target(537, "KvasirSEG", ".png", "picture", _LABELS)},
    depth=2,
    official_split=official_split,
    near_duplicates=4,
    sizes=r"ka[vs]{2}ir_bboxes\.json",  # the download spells it kavsir
    extras=(r"readme.*", r"(train|val)\.txt", r"license.*"),
    choices=(
        Choice(
            "--official-split",
            True,
            "the published test cases become imagesTs (default), or all cases are for training",
            "official_split",
        ),
    ),
)
