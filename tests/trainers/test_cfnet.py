"""The two trainers of CFNet: what is theirs beyond the base."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.cfnet_loss import DiceFocalLoss

PAPER = "nnUNetTrainerCFNet_paper_1epochs_1its_1vits"
REGIONS = {"background": 0, "whole": [1, 2], "inner": 2}


def test_one_image_channel_is_refused_with_what_to_use_instead(toy, train):
    toy(channels=1)
    with pytest.raises(UserError, match=r"CFNet needs at least two image channels.* use nnU-Net's own nnUNetTrainer"):
        train("nnUNetTrainerCFNet_1epochs_1its_1vits")


def test_the_published_recipe(toy, make_trainer):
    toy(channels=4, patch_2d=(32, 32))
    trainer = make_trainer("nnUNetTrainerCFNet_paper_200epochs", "2d")
    trainer.initialize()
    settings = trainer.optimizer.param_groups[0]
    assert (settings["momentum"], settings["nesterov"], settings["weight_decay"]) == (0.9, False, 5e-4)
    trainer.lr_scheduler.step(10)
    assert settings["lr"] == pytest.approx(0.01 * 0.96**21, rel=1e-12)
    assert isinstance(trainer.loss, DiceFocalLoss)
    assert not trainer.loss.coded_focal


def test_the_published_recipe_bounds_no_gradient(toy, train, monkeypatch):
    toy(channels=4, patch_2d=(32, 32))
    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", lambda *_: pytest.fail("the gradient was clipped"))
    train(PAPER, "2d", checkpoints=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"labels": REGIONS, "region_order": [1, 2]}, marks=pytest.mark.slow),
        pytest.param(
            {"labels": {"background": 0, "outer": 1, "inner": 2, "ignore": 3}, "ignore": True}, marks=pytest.mark.slow
        ),
        {"labels": {**REGIONS, "ignore": 3}, "region_order": [1, 2], "ignore": True},
    ],
    ids=["labels", "regions", "ignore label", "regions and ignore label"],
)
def test_the_published_network_trains_and_validates(toy, train, options):
    toy(channels=4, patch_2d=(32, 32), shape=(6, 32, 32), **options)
    trainer = train(f"{PAPER}_bf16_NoMirroring", "2d", checkpoints=False)
    trainer.perform_actual_validation()
    assert np.isfinite(trainer.logger.get_value("train_losses", None)).all()


@pytest.mark.parametrize(
    ("configuration", "options"),
    [
        ("3d_fullres", {"channels": 4}),
        ("2d", {"channels": 3, "patch_2d": (32, 32)}),
        ("2d", {"channels": 4, "patch_2d": (32, 40)}),
        ("2d", {"channels": 4, "patch_2d": (31, 32)}),
    ],
    ids=["3D", "three channels", "size 40", "size 31"],
)
def test_what_the_published_network_cannot_do_names_the_trainer_that_can(toy, train, configuration, options):
    toy(**options)
    with pytest.raises(UserError, match=r"use nnUNetTrainerCFNet\b"):
        train(PAPER, configuration)


def test_the_published_pairs_are_taken_in_the_channel_order_of_nnunet(toy, make_trainer):
    toy(channels=4, patch_2d=(32, 32))
    trainer = make_trainer(PAPER, "2d")
    trainer.initialize()
    network = trainer.network.eval()
    images = torch.randn(1, 4, 32, 32, generator=torch.Generator().manual_seed(0))
    published = type(trainer).network_class.reference(num_classes=3, stream_channels=((0, 1), (2, 3))).eval()
    published.load_state_dict(network.state_dict())
    with torch.no_grad():
        # T1, T1ce, T2, FLAIR -> T1, T2, T1ce, FLAIR, the order of the authors' code
        assert torch.equal(network(images), published(images[:, [0, 2, 1, 3]]))
        assert not torch.equal(network(images), published(images))


def test_the_published_network_of_prediction_takes_the_weights_of_training(toy, make_trainer):
    toy(channels=4, patch_2d=(32, 32))
    trainer = make_trainer(PAPER, "2d")
    trainer.initialize()
    network = type(trainer).build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 4, 3, enable_deep_supervision=False
    )
    network.load_state_dict(trainer.network.state_dict())


@pytest.mark.slow
def test_nnunets_predictor_segments_with_the_published_network(toy, train):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    toy(channels=4, patch_2d=(32, 32))
    trainer = train(PAPER, "2d")
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,), "checkpoint_final.pth")
    images = np.random.default_rng(0).normal(size=(4, 3, 40, 36)).astype(np.float32)
    segmentation = predictor.predict_single_npy_array(images, {"spacing": [1.0, 1.0, 1.0]}, None, None, False)
    assert segmentation.shape == (3, 40, 36)
    assert set(np.unique(segmentation)) <= {0, 1, 2}
