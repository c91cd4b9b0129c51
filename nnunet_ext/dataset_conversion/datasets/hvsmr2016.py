"""HVSMR 2016: heart and great vessels in MR of children with congenital heart disease (Pace et al. 2015).

The download holds every patient up to three times: cropped and whole in axial orientation, and in short-axis
orientation. One of these variants is converted. The published label of patient 0 (axial_crop) holds 54 voxels of value
512 among those of value 2: a 2 whose two bytes are swapped. They become background and are counted.
"""

from __future__ import annotations

import re

from nnunet_ext.dataset_conversion.description import Choice, Dataset, Image, Pattern, Target
from nnunet_ext.dataset_conversion.label_map import LabelMap

VARIANTS = ("axial_crop", "axial_full", "sa_crop")
_TWO_RATERS = "this looks like a re-upload with four classes by two raters, not like the labels of the challenge"
_NUMBERED = rf"_(?P<variant>{'|'.join(VARIANTS)})_(?P<group>pat\d{{1,2}})"
_TRAINING, _TEST = rf"(?P<case>training{_NUMBERED})", rf"(?P<case>testing{_NUMBERED})"
_LABELS = LabelMap(
    names={"background": 0, "myocardium": 1, "blood pool": 2},
    forward={0: 0, 1: 1, 2: 2},
    ignored=(512,),
    hints={3: _TWO_RATERS, 4: _TWO_RATERS},
)


def identifier(name: str) -> str:
    """``training_axial_crop_pat3`` becomes ``pat03``: patients are numbered through training and test."""
    number = re.search(r"\d+$", name)
    return f"pat{int(number[0]):02d}" if number else name


HVSMR2016 = Dataset(
    name="hvsmr2016",
    title="HVSMR 2016: MICCAI challenge on whole-heart and great vessel segmentation from 3D cardiovascular MRI",
    years_or_release="2016",
    cases=10,
    test_cases=10,
    licence="registration required; see the page of the challenge",
    citation=(
        "Pace, Dalca, Geva, Powell, Moghari, Golland, Interactive Whole-Heart Segmentation in Congenital Heart "
        "Disease, MICCAI 2015",
    ),
    doi=("10.1007/978-3-319-24574-4_10",),
    download="http://segchd.csail.mit.edu, later https://hvsmr2016.weebly.com",
    layout="Axial-cropped/{Training dataset/training_axial_crop_pat0.nii.gz, "
    "Ground truth/training_axial_crop_pat0-label.nii.gz, Test dataset/testing_axial_crop_pat10.nii.gz}, also .nii",
    case_name=rf"(training|testing)_({'|'.join(VARIANTS)})_pat\d{{1,2}}",
    patterns=(
        # Of two raters the first is read, so that what its values are can be told; the second is known and not needed.
        Pattern(rf"{_TRAINING}[-_]label(_A)?\.nii(\.gz)?", role="label"),
        Pattern(rf"{_TEST}[-_]label(_A)?\.nii(\.gz)?", role="label", split="test"),
        Pattern(rf"{_TRAINING}\.nii(\.gz)?", role="image"),
        Pattern(rf"{_TEST}\.nii(\.gz)?", role="image", split="test"),
    ),
    images=(Image("image", ("MR",)),),
    label="label",
    targets={"3d": Target(545, "HVSMR2016", ".nii.gz", "volume", _LABELS)},
    depth=2,
    case_id=identifier,
    submission_name="{case}-label.nii.gz",
    extras=(r".*_label_B\.nii(\.gz)?", r"readme.*", r"license.*"),
    choices=(
        Choice(
            "--variant",
            VARIANTS[0],
            f"which form of the images is converted: {', '.join(VARIANTS)}; {VARIANTS[0]} where none is named",
            "variant",
            VARIANTS,
        ),
    ),
)
