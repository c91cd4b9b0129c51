"""Removing a small enhancing tumour, as winners of BraTS did: fewer voxels than a threshold become necrosis.

Where the reference shows no enhancing tumour, one false voxel costs a case its whole Dice under the rules of BraTS. The
threshold is looked for on predictions of the cross-validation alone: each case by the model that did not see it.

Source: F. Isensee et al., "nnU-Net for Brain Tumor Segmentation", BrainLes 2020, doi 10.1007/978-3-030-72087-2_11.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from nnunet_ext.errors import UserError

#: voxels that are tried as threshold
GRID = tuple(range(0, 751, 10))


@dataclass(frozen=True)
class Rule:
    """What becomes of a region that is too small.

    Attributes:
        region: its name in dataset.json.
        labels: values that make it up.
        replacement: the value they become.
        threshold: fewer voxels than this are too few; 0 changes nothing.
    """

    region: str
    labels: tuple[int, ...]
    replacement: int
    threshold: int

    def applied(self, label_map: np.ndarray) -> np.ndarray:
        """The label map with the rule applied, the given one where it changes nothing."""
        inside = np.isin(label_map, self.labels)
        count = int(np.count_nonzero(inside))
        if not 0 < count < self.threshold:
            return label_map
        return np.where(inside, np.asarray(self.replacement, label_map.dtype), label_map)


@dataclass(frozen=True)
class Found:
    """The best threshold of a search.

    Attributes:
        threshold: voxels; the smallest of equals, 0 where none is better than changing nothing.
        before, after: mean Dice over cases, empty masks counted as BraTS does.
        cases: looked at.
        changed: of them, those in which the region is removed.
    """

    threshold: int
    before: float
    after: float
    cases: int
    changed: int


def rule_for(regions: Mapping[str, Sequence[int]], region: str, threshold: int = 0) -> Rule:
    """The rule for a region that lies in a larger one: its voxels become what the larger one has besides.

    Args:
        regions: name -> label values, as in dataset.json.
        region: name of the smallest region.
        threshold: of the rule.

    Raises:
        UserError: no such region, or none around it that has exactly one label more.
    """
    if region not in regions:
        raise UserError(f"dataset.json has no region '{region}'", remedy=f"choose one of {', '.join(regions)}")
    labels = set(regions[region])
    around = [set(values) - labels for values in regions.values() if labels < set(values)]
    single = [rest for rest in around if len(rest) == 1]
    if not single:
        raise UserError(
            f"no region of dataset.json is '{region}' and one label more, which its voxels could become",
            remedy="postprocess regions that lie in one another, such as those of BraTS",
        )
    return Rule(region, tuple(sorted(labels)), next(iter(single[0])), threshold)


def best_threshold(table: pd.DataFrame, region: str, grid: Sequence[int] = GRID) -> Found:
    """The threshold with the largest mean Dice.

    Args:
        table: of ``run.evaluate``: one row a case and region, with ``Dice_brats`` and the counts of voxels; of
            cross-validation predictions.
        region: to be removed where it is small.
        grid: thresholds tried, ascending, beginning with 0.

    Raises:
        UserError: the table has no rows of that region.
    """
    rows = table[table["region"] == region]
    if rows.empty:
        raise UserError(f"nothing was evaluated for region '{region}'")
    voxels = rows["voxels_prediction"].to_numpy()
    dice = rows["Dice_brats"].to_numpy(float)
    removed = np.where(rows["voxels_reference"].to_numpy() == 0, 1.0, 0.0)
    means = [float(np.where(voxels < threshold, removed, dice).mean()) for threshold in grid]
    best = int(np.argmax(means))
    small = (voxels > 0) & (voxels < grid[best])
    return Found(grid[best], means[0], means[best], len(rows), int(small.sum()))
