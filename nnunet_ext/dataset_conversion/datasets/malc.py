"""MALC: 134 structures of the brain in T1-weighted MR (MICCAI 2012 challenge on multi-atlas labelling).

The 35 scans show 30 people: five test cases are second scans of people who are in the data already, and no table says
of whom. The table of labels is that of the challenge; its last columns are the 32 coarse structures of QuickNAT, whose
public code (ai-med/quickNAT_pytorch) also lists the 15 training cases and the 15 test cases of people scanned once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from types import MappingProxyType

from nnunet_ext.dataset_conversion.datasets.resources import read_rows, read_text
from nnunet_ext.dataset_conversion.description import Choice, Dataset, Image, Pattern, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

_ROWS = [{key: value.strip() for key, value in row.items()} for row in read_rows("malc_labels.csv")]
_SPLIT = json.loads(read_text("malc_split.json"))
_RENUMBERED = "these labels look already renumbered"
#: Values that occur in the labels and that the challenge does not count; 74 is a tablet beside the head.
_IGNORED = (
    *(1, 2, 3, *range(5, 11), *range(12, 23), *range(24, 30), 33, 34, 42, 43, 53, 54, *range(63, 69), 70, 74),
    *(*range(80, 94), 97, 98, 99, 110, 111, 126, 127, 130, 131, 158, 159, 188, 189),
)


def _labels(column: str, name: str) -> LabelMap:
    """The numbering of one column of the table; a structure whose number there is 0 is background."""
    forward = {int(row["raw_value"]): int(row[column]) for row in _ROWS}
    names = {int(row[column]): row[name] for row in _ROWS if row[column] != "0"}
    return LabelMap(
        names={"background": 0} | {names[value]: value for value in sorted(names)},
        forward={0: 0} | forward,
        ignored=_IGNORED,
        # Numbers that neither a structure nor an ignored value has, but that a count from 0 on passes through.
        hints=dict.fromkeys((77, 78, 79, 94, 95, 96), _RENUMBERED),
        hallmarks=tuple(value for value in forward if value >= 100),  # the cortex
        hallmark_hint=_RENUMBERED,
    )


@cache
def official_split() -> Mapping[str, str]:
    """Case -> ``"train"`` or ``"test"``; the second scans are test cases."""
    test = _SPLIT["test15"] + _SPLIT["test_extra_rescans_inferred"]
    return MappingProxyType(
        {f"{number}_3": "train" for number in _SPLIT["train15"]} | {f"{number}_3": "test" for number in test}
    )


MALC = Dataset(
    name="malc",
    title="MALC: MICCAI 2012 grand challenge and workshop on multi-atlas labeling",
    years_or_release="2012",
    cases=35,
    test_cases=20,
    licence="CC BY-NC; credit OASIS for the images, and Neuromorphometrics under academic subscription for the labels",
    citation=("Landman, Warfield (editors), MICCAI 2012 Workshop on Multi-Atlas Labeling, 2012",),
    doi=(),
    download="http://www.neuromorphometrics.com/2012_MICCAI_Challenge_Data.html",
    layout="MICCAI-2012-Multi-Atlas-Challenge-Data/{training-images/1000_3.nii.gz, "
    "training-labels/1000_3_glm.nii.gz, testing-images/1003_3.nii.gz, testing-labels/1003_3_glm.nii.gz}",
    case_name=r"\d{4}_3",
    patterns=(
        Pattern(r"(?P<case>\d{4}_3)\.nii(\.gz)?", role="image"),
        Pattern(r"(?P<case>\d{4}_3)_glm\.nii(\.gz)?", role="label"),
    ),
    images=(Image("image", ("T1",)),),
    label="label",
    targets={
        "coarse": Target(546, "MALC32", ".nii.gz", "volume", _labels("coarse32", "coarse32_name")),
        "fine": Target(547, "MALC134", ".nii.gz", "volume", _labels("id134", "name")),
    },
    depth=2,
    official_split=official_split,
    submission_name="{case}_glm.nii.gz",
    rescans=tuple(f"{number}_3" for number in _SPLIT["test_extra_rescans_inferred"]),
    no_mirror=("left-right",),
    # Others make these of the images and labels, and leave them beside.
    extras=(r"\d{4}_3_.+\.nii(\.gz)?", r"MICCAI-Challenge-2012-Label-Information\..*", r"readme.*", r"license.*"),
    choices=(
        Choice(
            "--labels",
            "coarse",
            "coarse (32 structures, each hemisphere's cortex one; the default) or fine (134)",
            "target",
            ("coarse", "fine"),
        ),
        Choice(
            "--official-split",
            True,
            "the test cases of the challenge become imagesTs (default), or all labelled cases are for training",
            "official_split",
        ),
        Choice("--with-rescans", False, "also the five second scans; to train on them needs --groups", "rescans"),
    ),
)
