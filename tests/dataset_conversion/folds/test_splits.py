"""Folds: nnU-Net's own where nothing stands against it, and otherwise no patient divided."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from nnunet_ext.dataset_conversion.datasets.brats import repeat_patients
from nnunet_ext.dataset_conversion.folds.duplicates import merged_groups
from nnunet_ext.dataset_conversion.folds.given_splits import read_splits
from nnunet_ext.dataset_conversion.folds.splits import Fold, make_splits
from nnunet_ext.errors import UserError

GOLDEN = Path(__file__).parents[2] / "golden"


def leaking(folds: list[Fold], group_of: dict[str, str]) -> int:
    """Validation cases that have a case of their group in training."""
    return sum(group_of[case] in {group_of[other] for other in fold["train"]} for fold in folds for case in fold["val"])


@pytest.mark.parametrize("cases", [5, 6, 23, 100])
def test_without_groups_and_strata_the_folds_are_nnunets_own(cases: int) -> None:
    from nnunetv2.utilities.crossval_split import generate_crossval_split

    names = [f"case_{number}" for number in range(cases)]
    splits, findings = make_splits({name: name for name in names}, {}, 5)
    assert splits.folds == generate_crossval_split(sorted(names))
    assert "nnU-Net's own" in splits.rule
    assert findings == []


@pytest.mark.parametrize("seed", range(8))
def test_groups_are_never_divided_and_fold_sizes_differ_by_at_most_the_largest_group(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 12, rng.integers(6, 30))
    group_of = {f"g{group}_{number}": f"g{group}" for group, size in enumerate(sizes) for number in range(size)}
    stratum_of = {case: f"s{int(group[1:]) % 3 if seed % 2 else 0}" for case, group in group_of.items()}
    splits, _ = make_splits(group_of, stratum_of, 5, seed=seed)
    assert sorted(case for fold in splits.folds for case in fold["val"]) == sorted(group_of)
    for fold in splits.folds:
        assert not set(fold["train"]) & set(fold["val"])
        assert sorted(fold["train"] + fold["val"]) == sorted(group_of)
    assert leaking(splits.folds, group_of) == 0
    counts = [len(fold["val"]) for fold in splits.folds]
    assert max(counts) - min(counts) <= max(Counter(group_of.values()).values()), splits.rule


def test_brats_2021_keeps_the_118_repeat_patients_together() -> None:
    rows = list(csv.DictReader((GOLDEN / "brats2021_sites.csv").read_text().splitlines()))
    assert len(rows) == 1251
    patients = repeat_patients()
    assert len(patients) == 236
    assert len(set(patients.values())) == 118
    group_of = {row["case"]: patients.get(row["case"], row["case"]) for row in rows}
    site_of: dict[str, str | None] = {row["case"]: row["site"] for row in rows}
    splits, _ = make_splits(group_of, site_of, 5)
    assert [len(fold["val"]) for fold in splits.folds] == [251, 250, 250, 250, 250]
    assert [sum(site_of[case] == "18" for case in fold["val"]) for fold in splits.folds] == [76, 76, 76, 77, 77]
    assert leaking(splits.folds, group_of) == 0
    fold_of = {case: number for number, fold in enumerate(splits.folds) for case in fold["val"]}
    golden = json.loads((GOLDEN / "folds.json").read_text())["brats2021, all 1251 cases"]
    assert "".join(str(fold_of[case]) for case in sorted(fold_of)) == golden
    default, _ = make_splits({case: case for case in group_of}, {}, 5)
    assert leaking(default.folds, group_of) == 198, "nnU-Net's default split of the 2021 names leaks 198 cases"


def test_rare_strata_are_told_and_do_not_stop_the_rest() -> None:
    cases = {f"c{number:02d}": f"c{number:02d}" for number in range(20)}
    strata = {case: "rare" if case in ("c00", "c07") else "common" for case in cases}
    splits, findings = make_splits(cases, strata, 5)
    assert [(finding.code, finding.message) for finding in findings] == [
        ("SPL03", "stratum rare has 2 groups for 5 folds")
    ]
    assert len(splits.folds) == 5
    held = [sum(strata[case] == "rare" for case in fold["val"]) for fold in splits.folds]
    assert max(held) == 1, "two rare cases in one fold"


def test_strata_smaller_than_the_folds_are_left_out() -> None:
    cases = {f"c{number}": f"c{number}" for number in range(6)}
    splits, findings = make_splits(cases, {case: f"s{case[1:]}" for case in cases}, 5)
    assert "nnU-Net's own" in splits.rule
    assert len(findings) == 6


def test_strata_are_balanced() -> None:
    cases = {f"c{number:02d}": f"c{number:02d}" for number in range(40)}
    strata = {case: "a" if int(case[1:]) % 4 == 0 else "b" for case in cases}
    splits, _ = make_splits(cases, strata, 5)
    assert [sum(strata[case] == "a" for case in fold["val"]) for fold in splits.folds] == [2] * 5


def test_too_few_groups_are_an_error() -> None:
    with pytest.raises(UserError, match="SPL01: 3 groups cannot make 5 folds - --splits 3"):
        make_splits({f"c{number}": f"g{number % 3}" for number in range(9)}, {}, 5)


def test_the_seed_changes_the_folds_and_nothing_else_does() -> None:
    cases = {f"c{number}": f"c{number}" for number in range(20)}
    backwards = dict(reversed(cases.items()))
    first, _ = make_splits(cases, {}, 4, seed=1)
    assert make_splits(backwards, {}, 4, seed=1)[0] == first
    assert make_splits(cases, {}, 4, seed=2)[0] != first


def test_the_names_of_groups_do_not_matter() -> None:
    names = [f"c{number:02d}" for number in range(30)]
    first, _ = make_splits({name: f"g{int(name[1:]) // 3}" for name in names}, {}, 5)
    second, _ = make_splits({name: f"x{99 - int(name[1:]) // 3}" for name in names}, {}, 5)
    assert first == second


def test_merged_groups_are_transitive() -> None:
    groups = merged_groups({"a": "1", "b": "2", "c": "3", "d": "3", "e": "5"}, [("a", "b"), ("b", "c")])
    assert groups == {"a": "1", "b": "1", "c": "1", "d": "1", "e": "5"}


BAD = {
    "names the unknown case z": [{"train": ["a"], "val": ["z"]}],
    "has a in training and validation": [{"train": ["a", "b"], "val": ["a"]}],
    "has patient in training and validation": [{"train": ["a"], "val": ["c"]}],
    "cannot be read": [["a"]],
    "hold no fold": [],
    "fold 1 has an empty val": [{"train": ["a"], "val": ["b"]}, {"train": ["a"], "val": []}],
    "fold 0 has an empty train": [{"train": [], "val": ["b"]}],
    "fold 0 has something other than names in val": [{"train": ["a"], "val": [["b"]]}],
}


@pytest.mark.parametrize(("text", "folds"), BAD.items())
def test_a_given_split_is_checked(tmp_path: Path, text: str, folds: list[object]) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps(folds))
    with pytest.raises(UserError, match=f"SPL02: .*{text}"):
        read_splits(path, {"a": "patient", "b": "b", "c": "patient"}, "any")


def test_a_given_split_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([{"train": ["b"], "val": ["a"]}]))
    splits, findings = read_splits(path, {"a": "a", "b": "b"}, "any")
    assert splits.folds == [{"train": ["b"], "val": ["a"]}]
    assert findings == []


def test_a_given_split_that_is_no_cross_validation_is_told(tmp_path: Path) -> None:
    path = tmp_path / "splits.json"
    path.write_text(json.dumps([{"train": ["b"], "val": ["a"]}, {"train": ["c"], "val": ["a"]}]))
    _, findings = read_splits(path, {case: case for case in "abcd"}, "any")
    assert [(finding.code, finding.message) for finding in findings] == [
        ("SPL07", "cases in no fold: 1, such as d"),
        ("SPL07", "cases in the validation of several folds: 1, such as a"),
    ]


def test_a_group_of_two_strata_has_none() -> None:
    """Repeats filed under two classes; two strata are equally divided without them."""
    groups = {f"{stratum}{number}": f"{stratum}{number}" for stratum in "ab" for number in range(10)}
    strata: dict[str, str | None] = {case: case[0] for case in groups}
    groups |= {"a_repeat": "mixed", "b_repeat": "mixed", "c_repeat": "mixed"}
    strata |= {"a_repeat": "a", "b_repeat": "b", "c_repeat": "c"}
    splits, findings = make_splits(groups, strata, 5)
    assert findings == [], "neither c nor the lack of a stratum is a rare stratum"
    for fold in splits.folds:
        assert ("a_repeat" in fold["val"]) == ("b_repeat" in fold["val"])
        own = [case for case in fold["val"] if "repeat" not in case]
        assert sorted(case[0] for case in own) == ["a", "a", "b", "b"]
