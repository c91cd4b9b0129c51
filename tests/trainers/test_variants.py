"""The suffix grammar of trainer names."""

from __future__ import annotations

import itertools
from dataclasses import fields

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORK_SUFFIXES, NETWORKS, trainers_of
from nnunet_ext.families.rows import NUMBER
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.registry import did_you_mean_trainer, resolve
from nnunet_ext.trainers.suffixes import SUFFIXES
from nnunet_ext.trainers.variants import applied, canonical, parse

BASE = "nnUNetTrainerCFNet"


def changes_of(name: str, base: str = BASE, network: str = "") -> dict:
    """All fields that the suffixes of a name change."""
    return {field: value for variation in parse(name, base, network) for field, value in variation.changes.items()}


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
        ("wd5e-4", "weight_decay", 0.0005),
        ("wd0", "weight_decay", 0.0),
        ("DiceFocal", "loss", "cfnet_paper"),
        ("DiceCE", "loss", "nnunet"),
        ("WarmupPoly", "schedule", "warmup_poly"),
    ],
)
def test_each_suffix_sets_its_field(suffix, field, value):
    assert changes_of(f"{BASE}_{suffix}") == {field: value}
    assert canonical(BASE, parse(f"{BASE}_{suffix}", BASE)) == f"{BASE}_{suffix}"


@pytest.mark.parametrize("suffix", SUFFIXES, ids=lambda suffix: suffix.spelling)
def test_every_example_is_canonical_and_sets_fields_of_the_recipe(suffix):
    variations = parse(f"{BASE}_{suffix.example}", BASE)
    assert canonical(BASE, variations) == f"{BASE}_{suffix.example}"
    assert set(variations[0].changes) <= {field.name for field in fields(Recipe)}
    assert applied(Recipe(), variations) != Recipe(loss="other", schedule="other")


def test_an_optimizer_comes_with_its_learning_rate_which_another_suffix_changes():
    recipe = applied(Recipe(), parse(f"{BASE}_AdamW", BASE))
    assert (recipe.optimizer, recipe.optimizer_options, recipe.learning_rate) == ("AdamW", {}, 3e-4)
    for name in (f"{BASE}_lr1e-4_AdamW_wd1e-2", f"{BASE}_AdamW_wd1e-2_lr1e-4"):
        recipe = applied(Recipe(), parse(name, BASE))
        assert (recipe.optimizer, recipe.learning_rate, recipe.weight_decay) == ("AdamW", 1e-4, 1e-2)
    with pytest.raises(UserError, match="twice"):
        parse(f"{BASE}_AdamW_SGD", BASE)


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
    variations = parse(f"{BASE}_{spelling}", BASE)
    assert canonical(BASE, variations) == f"{BASE}_{expected}"
    assert parse(canonical(BASE, variations), BASE) == variations


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


@pytest.mark.parametrize("row", NETWORK_SUFFIXES, ids=lambda row: row.name)
def test_a_networks_own_suffix_joins_its_options_and_comes_last(row):
    trainer = trainers_of(row.networks[0])[0].name
    suffix = row.name.replace(NUMBER, "8")
    variations = parse(f"{trainer}_{suffix}_5epochs", trainer, row.networks[0])
    assert canonical(trainer, variations) == f"{trainer}_5epochs_{suffix}"
    recipe = applied(Recipe(network_options={"another": 0.5}), variations)
    assert recipe.epochs == 5
    assert recipe.network_options == {"another": 0.5, **row.options_for()}
    knowing = {network for one in NETWORK_SUFFIXES if one.name == row.name for network in one.networks}
    for other in NETWORKS.keys() - knowing:
        with pytest.raises(UserError, match="unknown suffix"):
            parse(f"{trainers_of(other)[0].name}_{suffix}", trainers_of(other)[0].name, other)


@pytest.mark.parametrize("name", ["_small_base", "_CNNOnly_small_XFFOnly"])
def test_two_sizes_or_two_rows_of_the_ablation_are_an_error(name):
    with pytest.raises(UserError, match="twice"):
        parse(CFFORMER + name, CFFORMER, "CFFormer")


def test_a_size_and_a_row_of_the_ablation_go_together():
    variations = parse(f"{CFFORMER}_XFFOnly_base", CFFORMER, "CFFormer")
    assert canonical(CFFORMER, variations) == f"{CFFORMER}_base_XFFOnly"
    options = applied(Recipe(), variations).network_options
    assert options == {
        "preset": "base",
        "use_cnn": True,
        "use_transformer": True,
        "use_cfca": False,
        "use_xff": True,
    }


def test_canonical_names_hold_neither_a_double_underscore_nor_a_dot():
    name = canonical(BASE, parse(f"{BASE}_lr33e-6_1epochs_seed12_bf16_NoMirroring", BASE))
    assert name == f"{BASE}_1epochs_NoMirroring_bf16_seed12_lr33e-6"
    assert "__" not in name
    assert "." not in name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nnUNetTrainerCFNet_NoMiroring", "did you mean _NoMirroring?"),
        ("nnUNetTrainerCFNet_nomirroring", "did you mean _NoMirroring?"),
        ("nnUNetTrainerCFNet_50epoch", "did you mean _50epochs?"),
        ("nnUNetTrainerCFNet_epochs50", "did you mean _50epochs?"),
        ("nnUNetTrainerCFNet_sed1", "did you mean _seed1?"),
        ("nnUNetTrainerCFNet_lr", "did you mean _lr<X>?"),
        ("nnUNetTrainerCFNet_papper", "did you mean _paper?"),
        ("nnUNetTrainerCFNet_50epochs_paper", "_paper comes first: nnUNetTrainerCFNet_paper_50epochs"),
        ("nnUNetTrainerCFFormer_bas", "did you mean _base?"),
        ("nnUNetTrainerCFNet_base", "only trainers of CFFormer know _base"),
    ],
)
def test_a_typo_is_told_with_what_it_was_meant_to_be(name, hint):
    with pytest.raises(UserError) as refused:
        resolve(name)
    assert refused.value.remedy.startswith(hint)
    assert "known suffixes: " in refused.value.remedy


def test_a_suffix_like_no_other_gets_no_guess():
    with pytest.raises(UserError) as refused:
        resolve("nnUNetTrainerCFNet_qqq")
    assert refused.value.remedy.startswith("known suffixes: ")


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("nnUNetTrainerCFNett_50epochs", "did you mean nnUNetTrainerCFNet_50epochs?"),
        ("nnUNetTrainerCFFormer_papr_1epochs", "did you mean nnUNetTrainerCFFormer_paper_1epochs?"),
        ("nnUNetTrainerCFFromer", "did you mean nnUNetTrainerCFFormer?"),
        ("CFNet", "CFNet is a network; its trainers are nnUNetTrainerCFNet and nnUNetTrainerCFNet_paper"),
    ],
)
def test_a_name_that_is_no_trainers_is_told_with_ours_that_are_near(name, meant):
    assert did_you_mean_trainer(name).startswith(meant)
