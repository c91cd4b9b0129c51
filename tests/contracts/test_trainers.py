"""What every listed trainer promises."""

from __future__ import annotations

import inspect
import itertools
import json
import re

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.errors import UserError
from nnunet_ext.families import FAMILIES, LOSSES, NETWORK_SUFFIXES, NETWORKS, SCHEDULES, TRAINERS, load
from nnunet_ext.families import suffixes_of as network_suffixes_of
from nnunet_ext.families.rows import NUMBER
from nnunet_ext.families.rows import PUBLISHED as PUBLISHED_FORM
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.losses import loss_of
from nnunet_ext.trainers.published import PublishedTrainer
from nnunet_ext.trainers.registry import canonical_name, resolve
from nnunet_ext.trainers.schedules import schedule_of
from nnunet_ext.trainers.suffixes import SUFFIXES, suffixes_of


def examples(name: str) -> tuple[str, ...]:
    """One suffix of each group, as a name of this trainer can hold them together."""
    form = TRAINERS[name].form
    return tuple({suffix.group: suffix.example for suffix in SUFFIXES if form in suffix.forms}.values())


every_trainer = pytest.mark.parametrize("name", sorted(TRAINERS))


@every_trainer
def test_the_row_names_its_class(name):
    row, trainer = TRAINERS[name], resolve(name)
    assert row.name == name == trainer.__name__
    assert f"{trainer.__module__}:{name}" == row.class_path
    assert issubclass(trainer, BaseTrainer)
    assert row.summary
    assert row.network in NETWORKS
    assert trainer.network_class is load(NETWORKS[row.network].class_path)


@every_trainer
def test_what_is_published_is_said_by_row_and_class_alike(name):
    trainer = resolve(name)
    assert TRAINERS[name].published == trainer.builds_published_network == issubclass(trainer, PublishedTrainer)
    if trainer.builds_published_network:
        assert not trainer.recipe.deep_supervision
        assert trainer.alternative in TRAINERS
        patch = trainer.fixed_patch_size or trainer.published_patch_size
        assert patch is None or TRAINERS[name].dimensions == (len(patch),)


def network_on(trainer, plans, configuration, channels):
    adapted = PlansManager(trainer.adapted_plans(plans, configuration))
    return trainer.published_network(adapted.get_configuration(configuration), channels, 3)


@every_trainer
def test_a_published_trainer_refuses_plans_of_the_dimensions_that_it_does_not_train(name, small_plans):
    row, trainer = TRAINERS[name], resolve(name)
    if not row.published:
        assert row.dimensions == (2, 3)
        return
    channels = max(NETWORKS[row.network].minimum_image_channels, 4)
    plans = small_plans("Dataset501_Toy", image_channels=channels, patch_2d=(64, 64))
    for dimension, configuration in ((2, "2d"), (3, "3d_fullres")):
        if dimension in row.dimensions:
            assert trainer.adapted_plans(plans, configuration)
            continue
        with pytest.raises(UserError, match=trainer.alternative):
            network_on(trainer, plans, configuration, channels)


def test_no_two_families_share_a_name():
    for kind in ("networks", "trainers"):
        names = [row.name for family in FAMILIES for row in getattr(family, kind)]
        assert len(set(names)) == len(names)
    for kind in ("losses", "schedules"):
        rows = [row for family in FAMILIES for row in getattr(family, kind)]
        assert len({row.key for row in rows}) == len({row.suffix for row in rows}) == len(rows)


@pytest.mark.parametrize("row", NETWORK_SUFFIXES, ids=lambda row: row.name)
def test_a_suffix_of_a_network_is_letters_and_digits_and_no_other_suffix(row):
    example = row.name.replace(NUMBER, "8")
    assert example.isalnum()
    assert row.tag.replace(NUMBER, "8").isalnum()
    for network in row.networks:
        known = [suffix for suffix in suffixes_of(network) if re.fullmatch(suffix.pattern, example)]
        assert len(known) == 1
        options = set(NETWORKS[network].options)
        if row.forms == (PUBLISHED_FORM,):
            options |= set(inspect.signature(type(load(NETWORKS[network].class_path).reference())).parameters)
        assert set(row.options) <= options


@pytest.mark.parametrize("key", LOSSES)
def test_every_loss_is_made_from_its_row(key):
    loss = loss_of(key, regions=False, ignore_label=None)
    value = loss(torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4))
    assert torch.isfinite(value)


@pytest.mark.parametrize("key", ["poly", *SCHEDULES])
def test_every_schedule_is_a_positive_factor(key):
    factor = schedule_of(key)
    assert all(0 < factor(epoch, 20) <= 1 for epoch in range(20))


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
    assert recipe.schedule in ("poly", *SCHEDULES)
    assert recipe.loss in ("nnunet", *LOSSES)
    assert issubclass(getattr(torch.optim, recipe.optimizer), torch.optim.Optimizer)


@every_trainer
def test_every_suffix_and_every_pair_of_them_resolves_to_a_class_of_that_name(name):
    for number in (1, 2):
        for tokens in itertools.permutations(examples(name), number):
            requested = "_".join([name, *tokens])
            variant = resolve(requested)
            assert variant.__name__ == requested
            assert issubclass(variant, resolve(name))
            assert resolve(canonical_name(requested)).recipe == variant.recipe


@every_trainer
def test_all_suffixes_together_change_the_recipe_as_they_say(name):
    tokens = ["2epochs", "3its", "4vits", "NoMirroring", "bf16", "seed5", "lr1e-3", "wd2e-5"]
    tokens += [] if TRAINERS[name].published else ["NoDeepSupervision"]
    recipe = resolve("_".join([name, *tokens])).recipe
    changed = (recipe.epochs, recipe.iterations, recipe.validation_iterations, recipe.mirroring)
    assert changed == (2, 3, 4, False)
    assert (recipe.deep_supervision, recipe.bf16, recipe.seed) == (False, True, 5)
    assert (recipe.learning_rate, recipe.weight_decay) == (0.001, 2e-5)
    base = resolve(name).recipe
    assert (recipe.loss, recipe.schedule, recipe.optimizer) == (base.loss, base.schedule, base.optimizer)


@every_trainer
def test_a_listed_trainer_is_its_own_canonical_name(name):
    assert canonical_name(name) == name


@every_trainer
def test_a_suffix_of_the_other_form_is_refused_in_one_line_that_says_what_works(name):
    row = TRAINERS[name]
    for suffix in suffixes_of(row.network):
        if row.form in suffix.forms:
            continue
        with pytest.raises(UserError, match="does not know the suffix") as refused:
            resolve(f"{name}_{suffix.example}")
        assert "\n" not in str(refused.value)
        for offered in re.findall(r"train (nnUNetTrainer\w+)", refused.value.remedy):
            assert resolve(offered)


PUBLISHED = [
    (row.name, group)
    for row in TRAINERS.values()
    if row.published
    for group in dict.fromkeys(suffix.group for suffix in network_suffixes_of(row.network, row.form))
]


@pytest.mark.parametrize(("name", "group"), PUBLISHED)
def test_a_published_trainer_builds_what_its_suffixes_say(name, group, small_plans):
    """None is ignored. Of several sizes one may be what the trainer builds without a suffix."""
    network = TRAINERS[name].network
    channels = max(NETWORKS[network].minimum_image_channels, 4)
    patches = {"patch_2d": (64, 64), "patch_3d": (16, 16, 32)}
    plans = PlansManager(small_plans("Dataset501_Toy", image_channels=channels, **patches))
    configuration = plans.get_configuration("2d" if 2 in TRAINERS[name].dimensions else "3d_fullres")

    def shapes(trainer):
        with torch.device("meta"):
            state = trainer.published_network(configuration, channels, 3).state_dict()
        return {key: tuple(value.shape) for key, value in state.items() if isinstance(value, torch.Tensor)}

    suffixes = [
        suffix.name.replace(NUMBER, "8")
        for suffix in network_suffixes_of(network, TRAINERS[name].form)
        if suffix.group == group
    ]
    plain = shapes(resolve(name))
    ignored = [suffix for suffix in suffixes if shapes(resolve(f"{name}_{suffix}")) == plain]
    assert len(ignored) <= (1 if len(suffixes) > 1 else 0), ignored
