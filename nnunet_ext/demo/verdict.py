"""Whether the demo succeeded: Dice of each model on unseen phantoms against what the ensemble must reach."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from nnunet_ext.demo.settings import CONFIGURATIONS, REQUIRED_DICE
from nnunet_ext.evaluation.folders import foreground_mean
from nnunet_ext.evaluation.metrics import DICE

POLICY = "nnunet"
ENSEMBLE, POSTPROCESSED = "ensemble", "ensemble + postprocessing"


def dice_table(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rows: models; columns: mean Dice of each region over cases, and ``mean``, the mean of these.

    Args:
        tables: model -> table of ``evaluate_folder``. A region absent from both masks of a case is left out there
            (policy ``nnunet``).
    """
    rows = {}
    for model, table in tables.items():
        chosen = table[table["policy"] == POLICY]
        rows[model] = {
            **chosen.groupby("region", sort=False)[DICE.name].mean().to_dict(),
            "mean": foreground_mean(table, POLICY),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def failures(dice: pd.DataFrame, members: Sequence[str] = CONFIGURATIONS, required: float = REQUIRED_DICE) -> list[str]:
    """One line for each requirement that the ensemble misses; empty if it meets them all.

    Args:
        dice: of ``dice_table``.
        members: rows that the ensemble is made of.
        required: the least mean Dice of the ensemble.
    """
    ensemble = float(dice.loc[ENSEMBLE, "mean"])
    lines = []
    # written so that NaN fails
    if not ensemble >= required:
        lines.append(
            f"mean Dice of the ensemble on unseen phantoms is {ensemble:.3f}; at least {required:.2f} is required"
        )
    best = max(members, key=lambda member: -1.0 if math.isnan(dice.loc[member, "mean"]) else dice.loc[member, "mean"])
    if not ensemble >= float(dice.loc[best, "mean"]):
        lines.append(
            f"the ensemble (mean Dice {ensemble:.4f}) is worse than its member {best} ({dice.loc[best, 'mean']:.4f})"
        )
    return lines


def render(dice: pd.DataFrame) -> str:
    """The table as text, three decimals."""
    return dice.to_string(float_format=lambda value: f"{value:.3f}")
