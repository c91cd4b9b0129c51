"""The demo fails loudly: below the required Dice, and when the ensemble is worse than one of its members."""

from __future__ import annotations

import math

import pandas as pd
import pytest

from nnunet_ext.demo.verdict import dice_table, failures, render


def dice(two, three, ensemble):
    means = {"2d": two, "3d_fullres": three, "ensemble": ensemble}
    return pd.DataFrame.from_dict({model: {"mean": mean} for model, mean in means.items()}, orient="index")


def test_a_good_ensemble_passes():
    assert failures(dice(0.81, 0.83, 0.84)) == []
    assert failures(dice(0.80, 0.80, 0.80)) == []


def test_a_dice_below_the_requirement_fails_and_says_by_how_much():
    (line,) = failures(dice(0.70, 0.75, 0.799))
    assert "0.799" in line
    assert "0.80 is required" in line


def test_an_ensemble_worse_than_its_best_member_fails_and_names_the_member():
    (line,) = failures(dice(0.85, 0.91, 0.909))
    assert "worse than its member 3d_fullres (0.9100)" in line


def test_an_undefined_dice_of_the_ensemble_never_passes():
    required, worse = failures(dice(0.9, 0.9, math.nan))
    assert "is required" in required
    assert "is worse than" in worse


def test_the_table_is_the_mean_over_cases_a_region_and_their_mean():
    rows = [
        {"case": case, "region": region, "policy": policy, "Dice": value if policy == "nnunet" else 0.0}
        for policy in ("nnunet", "brats")
        for case, values in (("a", (0.9, 0.5)), ("b", (0.7, math.nan)))
        for region, value in zip(("WT", "ET"), values, strict=True)
    ]
    table = dice_table({"ensemble": pd.DataFrame(rows)})
    assert table.loc["ensemble"].to_dict() == pytest.approx({"WT": 0.8, "ET": 0.5, "mean": 0.65})
    assert "0.650" in render(table)
