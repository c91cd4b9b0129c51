"""What every listed trainer promises."""

from __future__ import annotations

import inspect
import itertools
import json

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.architectures import NETWORKS
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.losses import LOSSES
from nnunet_ext.trainers.registry import TRAINERS, canonical_name, resolve
from nnunet_ext.trainers.schedules import SCHEDULES
from nnunet_ext.trainers.variants import SUFFIXES

EXAMPLES = ("2epochs", "3its", "4vits", "NoMirroring", "NoDeepSupervision", "bf16", "seed5", "lr1e-3")

every_trainer = pytest.mark.parametrize("name", sorted(TRAINERS))


def test_the_examples_cover_every_suffix():
    assert len(EXAMPLES) == len(SUFFIXES)


@every_trainer
def test_the_row_names_its_class(name):
    row, trainer = TRAINERS[name], resolve(name)
    assert row.name == name == trainer.__name__
    assert trainer.__module__ == row.module
    assert issubclass(trainer, BaseTrainer)
    assert row.summary


@every_trainer
def test_the_network_of_the_row_lists_the_trainer(name):
    network = next(row for row in NETWORKS if row.name == TRAINERS[name].network)
    assert name in network.trainers


def test_no_network_names_a_trainer_that_is_not_listed():
    assert {name for network in NETWORKS for name in network.trainers} == set(TRAINERS)


@every_trainer
def test_the_name_is_a_legal_part_of_a_results_folder(name):
    assert "__" not in name
    assert "." not in name
    # three parts and all suffixes must leave room for nnU-Net's ensemble folders
    assert len(f"{name}__nnUNetResEncUNetLPlans__3d_cascade_fullres") <= 110


@every_trainer
def test_nnunet_can_construct_it(name):
    parameters = list(inspect.signature(resolve(name).__init__).parameters)
    assert parameters == list(inspect.signature(nnUNetTrainer.__init__).parameters)


@every_trainer
def test_the_network_is_built_on_the_class_by_the_new_signature(name):
    method = inspect.getattr_static(resolve(name), "build_network_architecture")
    assert isinstance(method, classmethod)
    stock = inspect.signature(nnUNetTrainer.build_network_architecture)
    assert list(inspect.signature(resolve(name).build_network_architecture).parameters) == list(stock.parameters)


@every_trainer
def test_the_recipe_is_data_that_json_keeps(name):
    recipe = resolve(name).recipe
    assert json.loads(json.dumps(recipe.as_dict())) == recipe.as_dict()
    assert recipe.schedule in SCHEDULES
    assert recipe.loss == "nnunet" or recipe.loss in LOSSES
    assert issubclass(getattr(torch.optim, recipe.optimizer), torch.optim.Optimizer)


@every_trainer
def test_every_suffix_and_every_pair_of_them_resolves_to_a_class_of_that_name(name):
    for number in (1, 2):
        for tokens in itertools.permutations(EXAMPLES, number):
            requested = "_".join([name, *tokens])
            variant = resolve(requested)
            assert variant.__name__ == requested
            assert issubclass(variant, resolve(name))
            assert resolve(canonical_name(requested)).recipe == variant.recipe


@every_trainer
def test_all_suffixes_together_change_the_recipe_as_they_say(name):
    recipe = resolve("_".join([name, *EXAMPLES])).recipe
    changed = (recipe.epochs, recipe.iterations, recipe.validation_iterations, recipe.mirroring)
    assert changed == (2, 3, 4, False)
    assert (recipe.deep_supervision, recipe.bf16, recipe.seed, recipe.learning_rate) == (False, True, 5, 0.001)
    base = resolve(name).recipe
    assert (recipe.loss, recipe.schedule, recipe.optimizer) == (base.loss, base.schedule, base.optimizer)


@every_trainer
def test_a_listed_trainer_is_its_own_canonical_name(name):
    assert canonical_name(name) == name
