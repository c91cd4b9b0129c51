"""What the plugin knows of the inside of nnU-Net is still so. Where a test fails, the release has moved it: read
``planning/private_nnunet.py`` against the new one."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from nnunetv2.experiment_planning.experiment_planners.default_experiment_planner import ExperimentPlanner
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager

from nnunet_ext.planning.planner import NetworkPlanner
from nnunet_ext.planning.private_nnunet import BEST_DICE, IMPORTED_KEYWORDS, best_dice, set_best_dice
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.random_crop import RandomCropTransform


def private_names(source: str) -> set[str]:
    """Names with one underscore in front that a class defines, reads or sets on itself."""
    return set(re.findall(r"(?:self\.|cls\.|def )(_[a-zA-Z]\w*)", source))


def test_nnunet_makes_the_loss_by_the_method_that_is_overridden() -> None:
    assert hasattr(nnUNetTrainer, "_build_loss"), "nnUNetTrainer._build_loss is gone"
    assert "_build_loss" in nnUNetTrainer.initialize.__code__.co_names, "nnU-Net makes the loss in another way"
    assert list(inspect.signature(nnUNetTrainer._build_loss).parameters) == ["self"]
    assert "_build_loss" in vars(BaseTrainer)


@pytest.mark.parametrize("method", [nnUNetTrainer.save_checkpoint, nnUNetTrainer.load_checkpoint])
def test_nnunet_keeps_the_best_dice_under_the_name_that_is_read(method: Any) -> None:
    assert BEST_DICE in nnUNetTrainer.__init__.__code__.co_names, f"no attribute {BEST_DICE} at the start"
    assert BEST_DICE in nnUNetTrainer.on_epoch_end.__code__.co_names, "checkpoint_best is chosen by another attribute"
    source = inspect.getsource(method)
    assert f"'{BEST_DICE}'" in source, f"checkpoints have no key {BEST_DICE}"
    assert f"self.{BEST_DICE}" in source


def test_the_best_dice_is_read_and_set_where_nnunet_keeps_it() -> None:
    trainer = nnUNetTrainer.__new__(nnUNetTrainer)
    set_best_dice(trainer, 0.5)
    assert getattr(trainer, BEST_DICE) == best_dice(trainer) == 0.5


def test_plans_name_imported_keywords_under_the_key_that_is_read() -> None:
    read = inspect.getsource(ConfigurationManager.network_arch_init_kwargs_req_import.fget)
    assert f"['{IMPORTED_KEYWORDS}']" in read, f"nnU-Net reads another key than {IMPORTED_KEYWORDS}"
    written = inspect.getsource(ExperimentPlanner.get_plans_for_configuration)
    assert f"'{IMPORTED_KEYWORDS}'" in written, f"nnU-Net writes another key than {IMPORTED_KEYWORDS}"


def test_the_planner_hands_over_its_cache_by_position() -> None:
    assert list(inspect.signature(ExperimentPlanner.get_plans_for_configuration).parameters)[-1] == "_cache"
    assert "_cache=" not in inspect.getsource(ExperimentPlanner.plan_experiment)


@pytest.mark.parametrize(
    ("ours", "theirs", "meant"),
    [
        (BaseTrainer, nnUNetTrainer, {"_build_loss"}),
        (NetworkPlanner, ExperimentPlanner, set()),
        (RandomCropTransform, SpatialTransform, set()),
    ],
)
def test_no_other_private_name_of_ours_is_one_of_theirs(ours: type, theirs: type, meant: set[str]) -> None:
    inherited = {name for base in theirs.__mro__[:-1] for name in private_names(inspect.getsource(base))}
    assert private_names(inspect.getsource(ours)) & inherited == meant
