"""Scores lesion by lesion, after the rules of BraTS 2023, with the parameters of each challenge.

A lesion of the reference is a group of its voxels that hang together once it is dilated. Every component of the
prediction that comes near a lesion is matched to it, whole, and to several lesions if it comes near several. Lesions
up to a volume do not count, found or missed; a component that comes near no lesion, even such a small one, is a false
positive, however small it is. The scores of the case are

    Dice = sum of Dice_i / (N + FP)        HD95 = (sum of HD95_i + 374 FP) / (N + FP)

over the N lesions i that count. A lesion that nothing is matched to has Dice 0 and HD95 374 mm; where N + FP = 0, Dice
is 1 and HD95 0. HD95 is the one of surface elements (``metrics.HD95_SURFEL``).

Source: the rules by which the BraTS 2023 challenges were scored (github.com/rachitsaluja/BraTS-2023-Metrics, state
43c9052), as docs/evaluation.md words them; written anew from that wording.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_dilation, find_objects, generate_binary_structure, label

from nnunet_ext.evaluation.formulas import dice, hausdorff_distance
from nnunet_ext.evaluation.masks import Box, MaskPair, bounding_box, joint_box
from nnunet_ext.evaluation.metrics import ALWAYS, BRATS_2023_PENALTY, Metric

_WITH_CORNERS = generate_binary_structure(3, 3)  # 26 neighbours
_WITH_EDGES = generate_binary_structure(3, 2)  # 18 neighbours


@dataclass(frozen=True)
class LesionRules:
    """Parameters of a challenge.

    Attributes:
        challenge: its short name.
        dilations: how often a reference is dilated to find its lesions, and a lesion to find what is matched to it.
        ignored_volume: mm3; lesions up to this volume do not count.
    """

    challenge: str
    dilations: int
    ignored_volume: float


CHALLENGES: Mapping[str, LesionRules] = {
    rules.challenge: rules
    for rules in (
        LesionRules("GLI", 3, 50.0),
        LesionRules("SSA", 3, 50.0),
        LesionRules("PED", 3, 50.0),
        LesionRules("MEN", 1, 50.0),
        LesionRules("MET", 1, 2.0),
    )
}


class LesionScores(NamedTuple):
    """Of one case and region.

    Attributes:
        dice: lesion-wise Dice.
        hd95: lesion-wise HD95 in mm.
        found: lesions that count and something is matched to.
        invented: components of the prediction that come near no lesion.
        missed: lesions that count and nothing is matched to.
    """

    dice: float
    hd95: float
    found: int
    invented: int
    missed: int


def lesion_scores(pair: MaskPair, rules: LesionRules) -> LesionScores:
    """Score each lesion of the reference; the spacing of the pair is that of the prediction's header.

    Raises:
        ValueError: masks of another dimension than three.
    """
    if pair.prediction.ndim != 3:
        raise ValueError(f"lesions are scored in three dimensions, not in {pair.prediction.ndim}")
    # What is dilated beyond the joint box meets nothing there that it does not meet inside.
    prediction, reference = pair.cut_out
    components, number = label(prediction, _WITH_CORNERS)
    boxes = find_objects(components)
    lesions = _lesions(reference, rules)
    matched: set[int] = set()
    dices: list[float] = []
    distances: list[float] = []
    missed = 0
    for index, box in enumerate(find_objects(lesions), 1):
        near = _near(lesions, index, box, components, rules)
        matched.update(near)
        lesion = lesions[box] == index
        if np.count_nonzero(lesion) * float(np.prod(pair.spacing)) <= rules.ignored_volume:
            continue
        if not near:
            missed += 1
            dices.append(0.0)
            distances.append(BRATS_2023_PENALTY)
            continue
        both = joint_box(box, *(boxes[component - 1] for component in near))
        assert both is not None
        part = MaskPair(np.isin(components[both], near), lesions[both] == index, pair.spacing)
        dices.append(dice(part))
        distances.append(hausdorff_distance(part, 95.0, "surfel"))
    invented = number - len(matched)
    counted = len(dices) + invented
    if not counted:
        return LesionScores(1.0, 0.0, 0, 0, 0)
    return LesionScores(
        sum(dices) / counted,
        (sum(distances) + BRATS_2023_PENALTY * invented) / counted,
        len(dices) - missed,
        invented,
        missed,
    )


def _lesions(reference: NDArray[np.bool_], rules: LesionRules) -> NDArray[np.int32]:
    """The number of its lesion for every voxel of the reference, 0 elsewhere."""
    if bounding_box(reference) is None:
        return np.zeros(reference.shape, dtype=np.int32)
    grown = binary_dilation(reference, _WITH_EDGES, iterations=rules.dilations)
    return np.where(reference, label(grown, _WITH_CORNERS)[0], 0)


def _near(
    lesions: NDArray[np.int32], index: int, box: Box, components: NDArray[np.int32], rules: LesionRules
) -> Sequence[int]:
    """Numbers of the components of the prediction that a lesion touches once it is dilated."""
    around = tuple(
        slice(max(0, axis.start - rules.dilations), min(length, axis.stop + rules.dilations))
        for axis, length in zip(box, lesions.shape, strict=True)
    )
    grown = binary_dilation(lesions[around] == index, _WITH_EDGES, iterations=rules.dilations)
    return [int(found) for found in np.unique(components[around][grown]) if found]


def lesion_metrics(rules: LesionRules) -> tuple[Metric, ...]:
    """The rows of the table for a challenge. They know empty masks themselves, the same under every policy."""

    def scored(pair: MaskPair) -> LesionScores:
        return pair.once(rules, lambda each: lesion_scores(each, rules))

    small = f"lesions up to {rules.ignored_volume:g} mm3 left out"
    definition = f"BraTS 2023, {rules.challenge}: dilations {rules.dilations}, {small}"

    def row(name: str, unit: str, higher_is_better: bool, field: str, formula: str) -> Metric:
        return Metric(
            name, unit, higher_is_better, lambda pair: float(getattr(scored(pair), field)), ALWAYS, definition, formula
        )

    return (
        row("LesionDice", "", True, "dice", "sum of the lesions' Dice / (N + FP)"),
        row("LesionHD95", "mm", False, "hd95", "(sum of the lesions' HD95 + 374 FP) / (N + FP)"),
        row("LesionTP", "", True, "found", "lesions found"),
        row("LesionFP", "", False, "invented", "components near no lesion"),
        row("LesionFN", "", False, "missed", "lesions missed"),
    )
