"""The suffix grammar of trainer names."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.variants import FAMILY_SUFFIXES, SUFFIXES, applied, canonical, parse

BASE = "nnUNetTrainerCFNet"


@pytest.mark.parametrize(
    ("suffix", "field", "value"),
    [
        ("50epochs", "epochs", 50),
        ("7its", "iterations", 7),
        ("3vits", "validation_iterations", 3),
        ("NoMirroring", "mirroring", False),
        ("NoDeepSupervision", "deep_supervision", False),
        ("bf16", "bf16", True),
        ("seed0", "seed", 0),
        ("lr1e-3", "learning_rate", 0.001),
        ("lr25e-4", "learning_rate", 0.0025),
        ("lr1", "learning_rate", 1.0),
    ],
)
def test_each_suffix_sets_its_field(suffix, field, value):
    assert parse(f"{BASE}_{suffix}", BASE) == {field: value}
    assert canonical(BASE, {field: value}) == f"{BASE}_{suffix}"


def test_every_suffix_sets_a_field_of_the_recipe_and_no_two_the_same():
    names = [suffix.field for suffix in SUFFIXES]
    assert len(set(names)) == len(names)
    assert set(names) <= {field.name for field in fields(Recipe)}


def test_any_order_gives_the_same_changes_and_the_same_canonical_name():
    tokens = ["5epochs", "NoMirroring", "seed3", "lr1e-2"]
    expected = f"{BASE}_5epochs_NoMirroring_seed3_lr1e-2"
    for order in itertools.permutations(tokens):
        assert canonical(BASE, parse("_".join([BASE, *order]), BASE)) == expected


@pytest.mark.parametrize(
    ("spelling", "expected"),
    [("lr10e-4", "lr1e-3"), ("lr001e-3", "lr1e-3"), ("lr2e1", "lr2e1"), ("lr20", "lr2e1"), ("05epochs", "5epochs")],
)
def test_equal_numbers_have_one_canonical_spelling(spelling, expected):
    changes = parse(f"{BASE}_{spelling}", BASE)
    assert canonical(BASE, changes) == f"{BASE}_{expected}"
    assert parse(canonical(BASE, changes), BASE) == changes


@pytest.mark.parametrize(
    "name",
    [f"{BASE}_50epoch", f"{BASE}_nomirroring", f"{BASE}__5epochs", f"{BASE}_lr0.001", f"{BASE}_", f"{BASE}_5epochs_x"],
)
def test_an_unknown_suffix_is_an_error_that_lists_the_known_ones(name):
    with pytest.raises(UserError, match="unknown suffix") as error:
        parse(name, BASE)
    for suffix in SUFFIXES:
        assert suffix.spelling in str(error.value)


@pytest.mark.parametrize("name", [f"{BASE}_5epochs_6epochs", f"{BASE}_bf16_seed1_bf16"])
def test_a_suffix_twice_is_an_error(name):
    with pytest.raises(UserError, match="twice"):
        parse(name, BASE)


@pytest.mark.parametrize("suffix", ["0epochs", "0its", "0vits", "lr0", "lr1e-999", "lr1e999", "seed4294967296"])
def test_a_number_out_of_range_is_an_error_naming_the_suffix(suffix):
    with pytest.raises(UserError, match=f"_{suffix}"):
        parse(f"{BASE}_{suffix}", BASE)


CFFORMER = "nnUNetTrainerCFFormer"


@pytest.mark.parametrize("row", FAMILY_SUFFIXES, ids=lambda row: row.spelling)
def test_a_networks_own_suffix_joins_its_options_and_comes_last(row):
    name = f"{CFFORMER}{row.spelling}_5epochs"
    changes = parse(name, CFFORMER, "CFFormer")
    assert canonical(CFFORMER, changes, "CFFormer") == f"{CFFORMER}_5epochs{row.spelling}"
    recipe = applied(Recipe(network_options={"drop_path": 0.5}), changes)
    assert recipe.epochs == 5
    assert recipe.network_options == {"drop_path": 0.5, **row.value("")}
    with pytest.raises(UserError, match="unknown suffix"):
        parse(f"{BASE}{row.spelling}", BASE, "CFNet")


@pytest.mark.parametrize("name", ["_small_base", "_CNNOnly_small_XFFOnly"])
def test_two_presets_or_two_rows_of_the_ablation_are_an_error(name):
    with pytest.raises(UserError, match="twice"):
        parse(CFFORMER + name, CFFORMER, "CFFormer")


def test_a_preset_and_a_row_of_the_ablation_go_together():
    changes = parse(f"{CFFORMER}_XFFOnly_base", CFFORMER, "CFFormer")
    assert canonical(CFFORMER, changes, "CFFormer") == f"{CFFORMER}_base_XFFOnly"


def test_canonical_names_hold_neither_a_double_underscore_nor_a_dot():
    changes = {"epochs": 1, "learning_rate": 3.3e-05, "seed": 12, "bf16": True, "mirroring": False}
    name = canonical(BASE, changes)
    assert "__" not in name
    assert "." not in name
    assert parse(name, BASE) == changes
