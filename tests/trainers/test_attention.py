"""Trainers of the attention family: plans of their own, what a 2d configuration says, and the published recipe."""

from __future__ import annotations

import json
import math
import pickle
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager
from torch.nn import functional

from nnunet_ext.architectures.attention_vnet_reference import AttentionVNetReference
from nnunet_ext.errors import UserError
from nnunet_ext.families.attention import NETWORKS as ROWS
from nnunet_ext.planning.plans_name import default_name
from nnunet_ext.trainers.attention_loss import WeightedDiceCrossEntropyLoss, class_weights
from nnunet_ext.trainers.attention_schedule import pam_paper
from nnunet_ext.trainers.registry import recipe_of, resolve

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "pam" / "losses.json").read_text(encoding="utf-8"))
SHORT = "2epochs_1its_1vits"


def generator(key: str) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(zlib.crc32(key.encode())))


@pytest.fixture
def golden():
    logits = torch.from_numpy(generator("loss_logits").standard_normal((2, 4, 4, 5, 6))).requires_grad_()
    labels = torch.from_numpy(generator("loss_labels").integers(0, 4, (2, 4, 5, 6)))[:, None]
    return logits, labels


# --- loss ---------------------------------------------------------------------------------------------------------


def test_weights_of_classes_are_those_of_the_papers_code():
    expected = GOLDEN["feedback"]
    assert class_weights(expected["train_dice_foreground"]) == pytest.approx(expected["coeff"], rel=1e-12)


def test_equal_classes_weigh_the_same_and_a_class_that_was_not_seen_weighs_one():
    assert class_weights([0.4, 0.4, 0.4]) == pytest.approx((1, 1, 1))
    assert class_weights([0.9, math.nan, 0.3])[1] == 1
    assert class_weights([math.nan, math.nan]) == (1, 1)
    assert class_weights([0.0]) == (1,)


def test_without_weight_of_the_background_the_loss_is_that_of_the_papers_code(golden):
    logits, labels = golden
    loss = WeightedDiceCrossEntropyLoss(background_weight=0.0)
    loss.follow(GOLDEN["feedback"]["train_dice_foreground"])
    value = loss(logits, labels)
    value.backward()
    expected = GOLDEN["combined_feedback"]
    assert value.item() == pytest.approx(expected["value"], rel=1e-9)
    assert logits.grad.abs().sum().item() == pytest.approx(expected["grad_abs_sum"], rel=1e-9)


def test_before_the_first_epoch_it_is_dice_plus_plain_cross_entropy(golden):
    logits, labels = golden
    dice = GOLDEN["dice_softmax_ignore_None"]["value"]
    entropy = functional.cross_entropy(logits, labels[:, 0]).item()
    assert WeightedDiceCrossEntropyLoss()(logits, labels).item() == pytest.approx(dice + entropy, rel=1e-9)


def test_the_dice_of_regions_is_that_of_the_papers_code_with_sigmoid(golden):
    logits, labels = golden
    target = functional.one_hot(labels[:, 0], 4).movedim(-1, 1)
    entropy = functional.binary_cross_entropy_with_logits(logits, target.double()).item()
    value = WeightedDiceCrossEntropyLoss(regions=True)(logits, target).item()
    assert value == pytest.approx(GOLDEN["dice_sigmoid_ignore_None"]["value"] + entropy, rel=1e-9)


@pytest.mark.parametrize("regions", [False, True])
def test_ignored_voxels_count_nowhere(golden, regions):
    logits, labels = golden
    logits, labels = logits.detach(), labels.clone()
    labels[:, :, 2:] = 4
    seen = functional.one_hot(labels[:, 0, :2], 5).movedim(-1, 1)[:, :4]
    hidden = functional.one_hot(labels[:, 0], 5).movedim(-1, 1)
    loss = WeightedDiceCrossEntropyLoss(regions, ignore_label=4)
    alone = WeightedDiceCrossEntropyLoss(regions)
    for each in (loss, alone):
        each.follow([0.9, 0.2, 0.5, 0.7][: 4 if regions else 3])
    part = alone(logits[:, :, :2], seen if regions else labels[:, :, :2])
    whole = loss(logits, hidden if regions else labels)
    assert whole.item() == pytest.approx(part.item(), rel=1e-12)


def test_each_region_weighs_what_its_dice_says(golden):
    logits, labels = golden[0].detach(), golden[1]
    target = functional.one_hot(labels[:, 0], 4).movedim(-1, 1)
    loss = WeightedDiceCrossEntropyLoss(regions=True)
    before = loss(logits, target).item()
    loss.follow([0.9, 0.6, 0.3, 0.6])
    weights = class_weights([0.9, 0.6, 0.3, 0.6])
    each = functional.binary_cross_entropy_with_logits(logits, target.double(), reduction="none")
    more = sum(
        (weight - 1) * float((each[:, region] * target[:, region]).sum()) for region, weight in enumerate(weights)
    )
    assert loss(logits, target).item() == pytest.approx(before + more / each.numel(), rel=1e-9)


def test_the_schedule_is_the_papers_at_its_length_and_the_same_steps_at_another():
    assert [pam_paper(epoch, 80) for epoch in (0, 9, 10, 39, 79)] == pytest.approx([1, 1, 0.1, 1e-3, 1e-7])
    assert [pam_paper(epoch, 1000) for epoch in (0, 124, 125, 999)] == pytest.approx([1, 1, 0.1, 1e-7])
    assert pam_paper(0, 1) == 1


# --- networks and names -------------------------------------------------------------------------------------------


def test_every_network_has_plans_of_a_name_of_its_own():
    names = [default_name(row.name, 8, row.built_with) for row in ROWS]
    assert names == [f"nnUNet{row.name}Plans" for row in ROWS]
    gated = recipe_of("nnUNetTrainerPAMUNet_gate").network_options
    assert default_name("PAMUNet", 8, gated) == "nnUNetPAMUNetGatePlans"
    fewer = recipe_of("nnUNetTrainerPAMUNet_reduction8_poolingboth").network_options
    assert default_name("PAMUNet", 8, fewer) == "nnUNetPAMUNetReduction8PoolingbothPlans"


@pytest.mark.parametrize("suffix", ["_reduction0", "_gate_gate", "_poolingmax_poolingboth", "_reduction4_reduction8"])
def test_suffixes_that_cannot_be_are_refused(suffix):
    with pytest.raises(UserError):
        resolve(f"nnUNetTrainerPAMUNet{suffix}")


def test_a_hint_is_a_name_that_works_or_none():
    with pytest.raises(UserError) as refused:
        resolve("nnUNetTrainerSEUNet_gate_paper")
    assert "comes first" not in str(refused.value)
    with pytest.raises(UserError, match="_paper comes first: nnUNetTrainerPAMUNet_paper_gate"):
        resolve("nnUNetTrainerPAMUNet_gate_paper")


@pytest.mark.parametrize("name", ["nnUNetTrainerAGUNet_gate", "nnUNetTrainerVNet_reduction4"])
def test_a_suffix_that_a_network_has_no_use_for_is_unknown_to_it(name):
    with pytest.raises(UserError, match="only trainers of"):
        resolve(name)


def test_a_trainer_is_found_again_by_pickle():
    for name in ("nnUNetTrainerSEVNet", "nnUNetTrainerPAMUNet_paper", "nnUNetTrainerCSAUNet_gate"):
        assert pickle.loads(pickle.dumps(resolve(name))) is resolve(name)


#: plans of every attention with all that suffixes and plans can say of it
FULL_PLANS = {
    "pam": {
        "gate": True,
        "channel_reduction": 4,
        "slice_reduction": 4,
        "channel_pooling": "max",
        "slice_pooling": "max",
    },
    "se": {"gate": True, "channel_reduction": 4, "channel_pooling": "max"},
    "dual": {"channel_reduction": 4},
    "none": {"gate": True},
    "stn": {},
}


@pytest.mark.parametrize("attention", FULL_PLANS)
def test_every_trainer_builds_its_own_network_on_plans_for_any_other(small_plans, attention):
    """One with the plans' own attention builds what they say; every other what it would build on nnU-Net's plans."""
    usual = PlansManager(small_plans("Dataset501_Toy")).get_configuration("3d_fullres")
    for row in ROWS:
        plans = small_plans("Dataset501_Toy", network_class=row.class_path.replace(":", "."))
        plans["configurations"]["3d_fullres"]["architecture"]["arch_kwargs"] |= {
            "attention": attention,
            "patch_size": [16, 16, 16],
            "recompute": False,
            **FULL_PLANS[attention],
        }
        manager = PlansManager(plans)
        trainer = resolve(f"nnUNetTrainer{row.name}")
        with torch.device("meta"):
            arguments = (manager.get_configuration("3d_fullres"), 2, 3)
            built = trainer.build_network_architecture(manager, *arguments)
            plain = trainer.build_network_architecture(manager, usual, 2, 3)
        same = shapes(built) == shapes(plain)
        planned = row.built_with == {"attention": attention} and bool(FULL_PLANS[attention])
        assert same != planned, f"{row.name} on plans of {attention}"


def shapes(network):
    return {key: tuple(value.shape) for key, value in network.state_dict().items()}


# --- training -----------------------------------------------------------------------------------------------------


def test_in_2d_the_log_says_once_that_slice_attention_is_the_identity(toy, train, log_of):
    toy()
    for name, times in (("PAMUNet", 1), ("SEUNet", 0)):
        trainer = train(f"nnUNetTrainer{name}_{SHORT}", "2d", checkpoints=False)
        assert log_of(trainer).count("slice attention is the identity") == times
        assert not any("slice" in key for key in trainer.network.state_dict())


def test_slice_attention_is_made_for_the_depth_of_the_patch(toy, make_trainer):
    toy()
    trainer = make_trainer("nnUNetTrainerPAMUNet")
    trainer.initialize()
    first = next(part for part in trainer.network.modules() if type(part).__name__ == "SliceAttention")
    assert first.depth == trainer.configuration_manager.patch_size[0]


def test_the_published_recipe_and_its_classes_follow_the_dice_of_the_epoch_before(toy, train, make_trainer):
    toy(channels=1, patch_3d=(16, 16, 16), shape=(18, 20, 22))
    name = f"nnUNetTrainerPAMUNet_paper_{SHORT}"
    trainer = train(name)
    (settings,) = trainer.optimizer.param_groups
    assert type(trainer.optimizer).__name__ == "Adam"
    assert (settings["weight_decay"], settings["lr"]) == (0, pytest.approx(2e-3 * 1e-4))
    first, second = trainer.logger.get_value("dice_per_class_or_region", None)
    assert trainer.loss.foreground_weights == pytest.approx(class_weights(first))
    resumed = make_trainer(name, resume=True)
    resumed.on_epoch_start()
    assert resumed.loss.foreground_weights == pytest.approx(class_weights(second))


def test_the_published_u_net_with_gates_is_a_suffix(toy, make_trainer):
    toy(channels=1, patch_3d=(16, 16, 16), shape=(18, 20, 22))
    trainer = make_trainer("nnUNetTrainerPAMUNet_paper_gate")
    trainer.initialize()
    assert sum(type(part).__name__ == "AttentionGate" for part in trainer.network.modules()) == 3
    for name in ("nnUNetTrainerSEUNet_paper_gate", "nnUNetTrainerPAMVNet_paper_gate"):
        with pytest.raises(UserError, match="does not know the suffix _gate"):
            resolve(name)


@pytest.mark.parametrize(("channels", "width"), [(1, 8), (4, 4), (8, 8)])
def test_the_published_v_net_takes_the_channels_that_its_first_maps_can_add(toy, train, channels, width):
    toy(channels=channels, patch_3d=(16, 16, 32), shape=(18, 20, 34))
    trainer = train(f"nnUNetTrainerVNet_paper_{SHORT.replace('2', '1')}", checkpoints=False)
    assert isinstance(trainer.network, AttentionVNetReference)
    assert trainer.network.state_dict()["head.seg_layers.0.weight"].shape[1] == width


def test_slice_attention_of_a_published_network_has_the_depth_that_a_suffix_names(toy, make_trainer):
    toy(channels=1, patch_3d=(16, 16, 32), shape=(18, 20, 34))
    for name in ("PAMUNet", "PAMVNet"):
        trainer = make_trainer(f"nnUNetTrainer{name}_paper_depth40")
        trainer.initialize()
        assert max(getattr(part, "depth", 0) for part in trainer.network.modules()) == 40
        with pytest.raises(UserError, match="8 slices or more"):
            make_trainer(f"nnUNetTrainer{name}_paper_depth7").initialize()


@pytest.mark.parametrize(
    ("name", "configuration", "options"),
    [
        ("PAMUNet", "2d", {}),
        ("PAMUNet", "3d_fullres", {"patch_3d": (4, 16, 16)}),
        ("PAMUNet", "3d_fullres", {"patch_3d": (8, 8, 8)}),
        ("VNet", "3d_fullres", {"patch_3d": (16, 32, 24), "shape": (18, 34, 26), "channels": 1}),
        ("VNet", "3d_fullres", {"patch_3d": (16, 16, 32), "shape": (18, 20, 34), "channels": 3}),
        ("VNet", "3d_fullres", {"patch_3d": (16, 16, 16), "shape": (18, 20, 22), "channels": 1}),
    ],
    ids=["2D", "four slices", "one voxel at the deepest level", "an edge of 24", "three channels", "one voxel"],
)
def test_what_a_published_network_cannot_do_names_the_trainer_that_can(toy, make_trainer, name, configuration, options):
    toy(**options)
    with pytest.raises(UserError, match=rf"use nnUNetTrainer{name}, which"):
        make_trainer(f"nnUNetTrainer{name}_paper", configuration).initialize()
