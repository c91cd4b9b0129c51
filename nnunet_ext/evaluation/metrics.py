"""The table of metrics: each compares one predicted mask with its reference.

A row of ``METRICS`` says everything of a metric: how it is computed where both masks hold a voxel, what it counts where
one is empty, its unit, which way is better, and which definition it follows where a name has several in the field.
Evaluation, means, the demo and figures read the table, so that adding a metric is adding a row.

Source: Maier-Hein et al., "Metrics reloaded: recommendations for image analysis validation", Nature Methods 2024, doi
10.1038/s41592-023-02151-z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from nnunet_ext.evaluation.formulas import (
    absolute_volume_error,
    average_distance,
    dice,
    hausdorff_distance,
    iou,
    pixel_accuracy,
    precision,
    recall,
    relative_volume_error,
    specificity,
    surface_dice,
)
from nnunet_ext.evaluation.masks import MaskPair

# The diagonal of a 240 x 240 x 155 mm BraTS volume, and what BraTS 2023 made of it.
BRATS_DIAGONAL = math.sqrt(240**2 + 240**2 + 155**2)
BRATS_2023_PENALTY = 374.0


class Empty(NamedTuple):
    """What a metric counts where a mask is empty: both of them, the prediction alone, the reference alone.

    NaN says that the metric is undefined there: the case is left out of means.
    """

    both: float
    prediction: float
    reference: float


@dataclass(frozen=True)
class Metric:
    """One row of the table.

    Attributes:
        name: column of a table of cases.
        unit: ``"mm"``, ``"mm3"``, or nothing for a share of 1 or a number.
        higher_is_better: the direction.
        compute: the value where neither mask is empty.
        empty: for each of ``POLICIES``, the value where one is; None where ``compute`` knows empty masks itself.
        definition: which one, where a name has several in the field.
        formula: in words or symbols, for people.
    """

    name: str
    unit: str
    higher_is_better: bool
    compute: Callable[[MaskPair], float]
    empty: Mapping[str, Empty | None]
    definition: str = ""
    formula: str = ""

    @property
    def follows_policy(self) -> bool:
        """Whether the policies on empty masks give different columns."""
        return self.empty["nnunet"] is not self.empty["brats"]

    def value(self, pair: MaskPair, policy: str) -> float:
        """Of two masks, under a policy on empty ones."""
        empty = self.empty[policy]
        return self.compute(pair) if empty is None or not pair.empty else float(getattr(empty, pair.empty))

    def columns(self, pair: MaskPair) -> dict[str, float]:
        """Column -> value. The column of the policy ``brats`` says so in its name; there is none where it says
        nothing else than the other."""
        if not self.follows_policy:
            return {self.name: self.value(pair, "nnunet")}
        if not pair.empty:
            return dict.fromkeys((self.name, brats_column(self)), self.compute(pair))
        return {self.name: self.value(pair, "nnunet"), brats_column(self): self.value(pair, "brats")}


def brats_column(metric: Metric) -> str:
    return f"{metric.name}_brats"


POLICIES: Mapping[str, str] = {
    "nnunet": "nnU-Net's summary.json: a region that neither mask shows is left out of the mean. nnU-Net has no HD95; "
    "without a surface on both sides it is undefined here",
    "brats": "nnU-Net's BraTS 2020 scripts: agreeing on nothing is perfect, a missed or invented region costs the "
    "diagonal of the volume",
}

_NAN = math.nan
_OVERLAP = {"nnunet": Empty(_NAN, 0.0, 0.0), "brats": Empty(1.0, 0.0, 0.0)}
_BY_PREDICTION = {"nnunet": Empty(_NAN, _NAN, 0.0), "brats": Empty(1.0, 0.0, 0.0)}
_BY_REFERENCE = {"nnunet": Empty(_NAN, 0.0, _NAN), "brats": Empty(1.0, 0.0, 0.0)}
_RELATIVE = {"nnunet": Empty(_NAN, 1.0, _NAN), "brats": Empty(0.0, 1.0, _NAN)}
ALWAYS: Mapping[str, Empty | None] = {"nnunet": None, "brats": None}


def _distance(penalty: float = BRATS_DIAGONAL) -> Mapping[str, Empty | None]:
    return {"nnunet": Empty(_NAN, _NAN, _NAN), "brats": Empty(0.0, penalty, penalty)}


def surface_dice_at(tolerance: float, counted: bool = False) -> Metric:
    """The row of the surface Dice at a tolerance in mm."""
    return Metric(
        f"NSD{'_counted' if counted else ''}@{tolerance:g}mm",
        "",
        True,
        partial(surface_dice, tolerance=tolerance, counted=counted),
        _OVERLAP,
        "border voxels, counted" if counted else "surface elements, weighted by area",
        f"share of both surfaces within {tolerance:g} mm of the other",
    )


#: mm; nnU-Net's author names the first one as a default next to Dice
TOLERANCES: Sequence[float] = (1.0, 2.0)

DICE = Metric("Dice", "", True, dice, _OVERLAP, formula="2 TP / (2 TP + FP + FN)")
IOU = Metric("IoU", "", True, iou, _OVERLAP, formula="TP / (TP + FP + FN)")
HD95 = Metric("HD95", "mm", False, hausdorff_distance, _distance(), "pooled", "95th percentile of D1 and D2 together")
HD95_SURFEL = Metric(
    "HD95_surfel",
    "mm",
    False,
    partial(hausdorff_distance, definition="surfel"),
    _distance(BRATS_2023_PENALTY),
    "surface elements, weighted by area; BraTS from 2023 on",
    "larger of the 95th percentiles of D1 and D2 by area",
)
METRICS: tuple[Metric, ...] = (
    DICE,
    IOU,
    Metric("Precision", "", True, precision, _BY_PREDICTION, formula="TP / (TP + FP)"),
    Metric("Recall", "", True, recall, _BY_REFERENCE, formula="TP / (TP + FN)"),
    Metric("Specificity", "", True, specificity, ALWAYS, formula="TN / (TN + FP)"),
    Metric("PixelAccuracy", "", True, pixel_accuracy, ALWAYS, formula="(TP + TN) / (TP + FP + FN + TN)"),
    Metric("RelativeVolumeError", "", False, relative_volume_error, _RELATIVE, formula="||P| - |R|| / |R|"),
    Metric("AbsoluteVolumeError", "mm3", False, absolute_volume_error, ALWAYS, formula="||P| - |R||, as a volume"),
    HD95,
    Metric(
        "HD95_max",
        "mm",
        False,
        partial(hausdorff_distance, definition="max_directed"),
        _distance(),
        "max_directed",
        "larger of the 95th percentiles of D1 and D2",
    ),
    HD95_SURFEL,
    Metric(
        "HD", "mm", False, partial(hausdorff_distance, percentile=100.0), _distance(), formula="maximum of D1 and D2"
    ),
    Metric("ASSD", "mm", False, average_distance, _distance(), "pooled", "mean of D1 and D2 together"),
    *(surface_dice_at(tolerance) for tolerance in TOLERANCES),
    *(surface_dice_at(tolerance, counted=True) for tolerance in TOLERANCES),
)
#: what tables of several models and figures show
MAIN_METRICS: tuple[Metric, ...] = (DICE, IOU, HD95)


def score(pair: MaskPair, policy: str, metrics: Iterable[Metric] = MAIN_METRICS) -> dict[str, float]:
    """Name -> value of each metric, under a policy on empty masks, a key of ``POLICIES``."""
    return {metric.name: metric.value(pair, policy) for metric in metrics}
