"""The table of scores: means first, values rounded, policies in words, and read again as it was written."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.evaluation.metrics import DICE, HD95, MAIN_METRICS, POLICIES
from nnunet_ext.report.scores_csv import CASE, OVER_CASES, OVER_REGIONS, empty_mask_rule, read_scores, write_scores


def table(names=("001", "NA"), regions=("WT", "NA"), policies=("nnunet", "brats")):
    rng = np.random.default_rng(0)
    rows = [
        {
            "case": case,
            "region": region,
            "policy": policy,
            **{metric.name: rng.random() for metric in MAIN_METRICS},
            "hd95_definition": "pooled",
            "voxels_prediction": 12,
            "voxels_reference": 0,
        }
        for case in names
        for region in regions
        for policy in policies
    ]
    rows[0] |= dict.fromkeys((metric.name for metric in MAIN_METRICS), math.nan)
    return pd.DataFrame(rows)


def raw(path):
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def test_means_are_those_of_the_defined_values_of_one_policy(tmp_path):
    scores = table()
    rows = raw(write_scores({"2d": scores}, tmp_path / "new" / "dice.csv"))
    assert rows["kind"].unique().tolist() == [OVER_REGIONS, OVER_CASES, CASE]
    for policy in POLICIES:
        chosen = scores[scores["policy"] == policy]
        by_region = chosen.groupby("region")["Dice"].mean()
        of_policy = rows[rows["policy"] == policy]
        means = of_policy[of_policy["kind"] == OVER_CASES].set_index("region")
        assert means["Dice"].astype(float).to_dict() == pytest.approx(by_region.to_dict(), abs=5e-5)
        assert means["cases"].to_dict() == chosen.groupby("region")["Dice"].count().astype(str).to_dict()
        (overall,) = of_policy[of_policy["kind"] == OVER_REGIONS]["Dice"]
        assert float(overall) == pytest.approx(by_region.mean(), abs=5e-5)


def test_values_are_rounded_and_have_their_unit(tmp_path):
    rows = raw(write_scores({"2d": table()}, tmp_path / "dice.csv"))
    for column, decimals in (("Dice", 4), ("IoU", 4), ("HD95 [mm]", 2)):
        fractions = [value.partition(".")[2] for value in rows[column]]
        assert max(map(len, fractions)) == decimals
    assert set(rows["voxels_prediction"]) == {"", "12"}, "a count is a whole number"


def test_what_an_empty_mask_counts_is_said_in_words(tmp_path):
    rows = raw(write_scores({"2d": table()}, tmp_path / "dice.csv"))
    assert {policy: group["empty masks"].unique().tolist() for policy, group in rows.groupby("policy")} == {
        policy: [empty_mask_rule(policy)] for policy in POLICIES
    }
    assert empty_mask_rule("nnunet", (DICE, HD95)) == ("both: Dice left out, HD95 left out; one: Dice 0, HD95 left out")
    assert empty_mask_rule("brats", (DICE, HD95)) == "both: Dice 1, HD95 0; one: Dice 0, HD95 373.13"


def test_rows_of_cases_are_read_again_whatever_their_names(tmp_path):
    scores = {"2d": table(), "NA": table(names=("mean", "1e5"))}
    again = read_scores(write_scores(scores, tmp_path / "dice.csv"))
    assert list(again) == ["2d", "NA"]
    for model, written in scores.items():
        rounded = written.round({metric.name: 2 if metric.unit else 4 for metric in MAIN_METRICS})
        pd.testing.assert_frame_equal(
            again[model].reset_index(drop=True)[list(written)], rounded, check_dtype=False, check_like=True
        )


def test_a_cell_that_a_spreadsheet_would_run_becomes_text(tmp_path):
    path = write_scores({"=model()": table(names=("=cmd()",), regions=("@x",))}, tmp_path / "dice.csv")
    (rows,) = read_scores(path).values()
    assert set(rows["case"]) == {"'=cmd()"}
    assert set(rows["region"]) == {"'@x"}


def test_the_same_scores_give_the_same_bytes(tmp_path):
    first, second = (write_scores({"2d": table()}, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second
