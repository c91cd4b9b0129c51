"""A folder of predictions against a folder of references: one row a case and region, and summaries of such a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.label_folders import case_files
from nnunet_ext.evaluation.metrics import DICE, HD95, MAIN_METRICS, POLICIES, Metric, score
from nnunet_ext.evaluation.regions import foreground, region_masks
from nnunet_ext.progress import with_progress


def _same_cases(predictions: Path, references: Path, file_ending: str) -> list[str]:
    predicted, known = (case_files(folder, file_ending).keys() for folder in (predictions, references))
    for problem, cases, folder in (
        ("has no prediction for", known - predicted, predictions),
        ("has no reference for", predicted - known, references),
    ):
        if cases:
            raise UserError(f"folder {problem} {len(cases)} case(s): {', '.join(sorted(cases)[:3])}", file=folder)
    if not known:
        raise UserError(f"no *{file_ending} files", file=references)
    return sorted(known)


def evaluate_case(
    prediction: Path,
    reference: Path,
    regions: Mapping[str, Sequence[int]],
    *,
    ignore: int | None = None,
    policies: Sequence[str] = tuple(POLICIES),
    metrics: Sequence[Metric] = MAIN_METRICS,
) -> list[dict]:
    """Rows of one case: region, policy, each metric, ``hd95_definition`` and the voxel counts.

    Raises as ``region_masks``, where the arguments are explained.
    """
    rows = []
    for region, pair in region_masks(prediction, reference, regions, ignore=ignore):
        rows += [
            {
                "region": region,
                "policy": policy,
                **score(pair, policy, metrics),
                "hd95_definition": HD95.definition,
                "voxels_prediction": pair.voxels_prediction,
                "voxels_reference": pair.voxels_reference,
            }
            for policy in policies
        ]
    return rows


def evaluate_folder(
    predictions: Path,
    references: Path,
    dataset: Mapping,
    *,
    policies: Sequence[str] = tuple(POLICIES),
) -> pd.DataFrame:
    """Compare every case of a folder with its reference.

    Args:
        predictions: folder of label maps as ``nnUNetv2_predict`` writes them.
        references: folder with a label map of the same name for each.
        dataset: content of dataset.json; its ``labels`` may be labels or regions.
        policies: what an empty mask counts, keys of ``metrics.POLICIES``; each row names its own.

    Returns:
        One row a case, region and policy; columns as in ``evaluate_case`` after ``case``.

    Raises:
        UserError: the folders hold different cases, or a pair does not fit.
    """
    ending = dataset["file_ending"]
    regions = foreground(dataset)
    ignore = dataset["labels"].get("ignore")
    rows = []
    cases = _same_cases(predictions, references, ending)
    for case in with_progress(cases, "evaluate", len(cases)):
        scores = evaluate_case(
            predictions / f"{case}{ending}",
            references / f"{case}{ending}",
            regions,
            ignore=ignore,
            policies=policies,
        )
        rows += [{"case": case, **row} for row in scores]
    return pd.DataFrame(rows)


def foreground_mean(table: pd.DataFrame, policy: str, metric: Metric = DICE) -> float:
    """Mean over regions of the mean over cases, as nnU-Net's ``foreground_mean``; undefined cases are left out."""
    chosen = table[table["policy"] == policy]
    if chosen.empty:
        raise ValueError(f"the table has no rows of policy '{policy}'")
    return float(chosen.groupby("region", sort=False)[metric.name].mean().mean())
