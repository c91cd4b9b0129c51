"""Whether the demo succeeded: Dice of each model on unseen phantoms against what the ensemble must reach."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from nnunet_ext.demo.settings import CONFIGURATIONS, REQUIRED_DICE
from nnunet_ext.evaluation.evaluate import foreground_mean
from nnunet_ext.evaluation.metrics import DICE
from nnunet_ext.shown import text_table

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


def failures(dice: pd.DataFrame) -> list[str]:
    """One line for each requirement that the ensemble misses; empty if it meets them all.

    Args:
        dice: of ``dice_table``.
    """
    ensemble = float(dice.loc[ENSEMBLE, "mean"])
    lines = []
    # written so that NaN fails
    if not ensemble >= REQUIRED_DICE:
        lines.append(
            f"mean Dice of the ensemble on unseen phantoms is {ensemble:.3f}; at least {REQUIRED_DICE:.2f} is required"
        )
    members = dice.loc[list(CONFIGURATIONS), "mean"].astype(float)
    best = members.fillna(-1.0).idxmax()
    if not ensemble >= members[best]:
        lines.append(f"the ensemble (mean Dice {ensemble:.4f}) is worse than its member {best} ({members[best]:.4f})")
    return lines


def render(dice: pd.DataFrame) -> str:
    """The table as text, three decimals."""
    rows = [[str(model), *(f"{value:.3f}" for value in values)] for model, values in dice.iterrows()]
    heads = ["", *map(str, dice.columns)]
    return text_table([heads, *rows], right=range(1, len(heads)))
