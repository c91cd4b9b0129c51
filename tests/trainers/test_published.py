"""The one line in which a training of a published network lists every way in which it is not the published one."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from nnunet_ext.families import TRAINERS
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.published import PublishedTrainer, recipe_differences
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.registry import resolve

PUBLISHED = [row.name for row in TRAINERS.values() if row.published]
# a value that no recipe has, for each field
OTHER = {
    "optimizer": "RMSprop",
    "optimizer_options": {"betas": (0.8, 0.9)},
    "learning_rate": 0.123,
    "weight_decay": 0.321,
    "schedule": "other",
    "loss": "other",
    "gradient_clip": 77.0,
    "epochs": 7,
    "bf16": True,
    "deep_supervision": True,
    "network_options": {"preset": "base"},
    "undecayed": ("bias",),
}
START = " ('nnunet_ext pretrained' makes a start)"


def differences(log: str) -> list[str]:
    (line,) = [line for line in log.splitlines() if "what differs from the paper: " in line]
    return line.partition("what differs from the paper: ")[2].strip().removesuffix(" (docs/trainers.md)").split("; ")


@pytest.mark.parametrize(
    ("name", "channels", "expected"),
    [
        (
            "nnUNetTrainerCFNet_paper",
            4,
            [
                "learning rate 0.001 instead of 0.01",
                "loss cfnet_paper instead of cfnet_paper_coded_focal",
                "epochs 2 instead of 200",
                "augmentation on instead of off",
                "mirroring on instead of off",
                "iterations 3 instead of 500",
                "patches of 32 x 32 instead of 240 x 240",
                "batches of 2 instead of 12",
                f"random weights of the encoders{START}",
            ],
        ),
        (
            "nnUNetTrainerCFFormer_paper",
            1,
            [
                "learning rate 0.001 instead of 0.0003",
                "epochs 2 instead of 130",
                "iterations 3 instead of a pass over the data",
                "1 image channel instead of 3, which is our extension",
                f"random weights of the CNN and the transformer{START}",
                "patches of images of 24 x 24 instead of whole images resized to 224 x 224",
                "nnU-Net's normalisation instead of ImageNet's",
            ],
        ),
    ],
)
def test_a_short_training_lists_exactly_what_it_changes(
    toy, make_trainer, log_of, monkeypatch, name, channels, expected
):
    toy(channels=channels, patch_2d=(32, 32))
    trainer = make_trainer(f"{name}_2epochs_3its_lr1e-3", "2d")
    trainer.initialize()
    monkeypatch.setattr(BaseTrainer, "on_train_start", lambda self: None)  # which loads data
    trainer.on_train_start()
    assert differences(log_of(trainer)) == expected


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("field", [each.name for each in fields(Recipe)])
def test_no_field_of_the_recipe_is_forgotten(name, field):
    published = resolve(name).published_recipe
    value = OTHER.get(field, not getattr(published, field))
    if field in ("validation_iterations", "seed", "iterations"):
        assert recipe_differences(replace(published, **{field: 3}), published) == []
        return
    (said,) = recipe_differences(replace(published, **{field: value}), published)
    assert said.startswith(field.replace("_", " "))
    assert " instead of " in said


@pytest.mark.parametrize("suffix", ["tiny", "50its", "seed1"])
def test_what_the_paper_did_too_is_no_difference(suffix):
    trainer = resolve(f"nnUNetTrainerCFFormer_paper_{suffix}")
    assert recipe_differences(trainer.recipe, trainer.published_recipe) == []


def test_another_size_and_a_row_of_the_ablation_are_named():
    trainer = resolve("nnUNetTrainerCFFormer_paper_base_XFFOnly")
    (said,) = recipe_differences(trainer.recipe, trainer.published_recipe)
    assert "preset base" in said
    assert "use_cfca off" in said


def test_patch_and_batch_that_a_trainer_fixes_replace_those_of_the_plans_each_alone(small_plans):
    plans = small_plans("Dataset501_Toy", image_channels=4, patch_2d=(64, 64))
    before = plans["configurations"]["2d"]

    def fixing(**fixed):
        return type("Fixing", (PublishedTrainer,), fixed)

    for fixed in ({"patch_size": [32, 32]}, {"batch_size": 7}, {"patch_size": [32, 32], "batch_size": 7}):
        trainer = fixing(**{f"fixed_{name}": value for name, value in fixed.items()})
        assert trainer.adapted_plans(plans, "2d")["configurations"]["2d"] == before | fixed
        assert trainer.fixes_patch_or_batch()
    reporting = fixing(published_patch_size=(32, 32), published_batch_size=7)
    assert reporting.adapted_plans(plans, "2d") is plans
    assert not reporting.fixes_patch_or_batch()
