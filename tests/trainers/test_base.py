"""What all trainers share: nnU-Net's own training where the recipe says nothing else, and each suffix doing what it
says."""

from __future__ import annotations

import copy
import inspect
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from nnunetv2.training.dataloading.nnunet_dataset import nnUNetDatasetBlosc2
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.errors import UserError
from nnunet_ext.trainers.base import BaseTrainer
from nnunet_ext.trainers.cfnet import nnUNetTrainerCFNet
from nnunet_ext.trainers.recipe import Recipe

SHORT = "nnUNetTrainerCFNet_1epochs_1its_1vits"
EVERYTHING = "nnUNetTrainerCFNet_1epochs_1its_1vits_NoMirroring_NoDeepSupervision_bf16_seed5_lr1e-3"


def _losses(trainer):
    return trainer.logger.get_value("train_losses", None), trainer.logger.get_value("val_losses", None)


def _mirrors(trainer):
    steps = trainer.dataloader_train.data_loader.transforms.transforms
    return [step for step in steps if isinstance(step, MirrorTransform)]


# --- nnU-Net's own training is the default ---------------------------------------------------------------------------


def test_the_default_recipe_is_that_of_nnunet(toy, make_trainer):
    toy()
    ours, stock = make_trainer("nnUNetTrainerCFNet"), make_trainer("nnUNetTrainer")
    for trainer in (ours, stock):
        trainer.initialize()
    names = [
        "initial_lr", "weight_decay", "num_epochs", "num_iterations_per_epoch", "num_val_iterations_per_epoch",
        "enable_deep_supervision", "save_every", "oversample_foreground_percent", "probabilistic_oversampling",
    ]  # fmt: skip
    assert {name: getattr(ours, name) for name in names} == {name: getattr(stock, name) for name in names}
    settings = [
        {key: value for key, value in trainer.optimizer.param_groups[0].items() if key not in ("params", "initial_lr")}
        for trainer in (ours, stock)
    ]
    assert settings[0] == settings[1]
    assert type(ours.optimizer) is type(stock.optimizer)
    assert ours.loss.weight_factors == stock.loss.weight_factors
    assert type(ours.loss.loss) is type(stock.loss.loss)


@pytest.mark.parametrize("factor", [1, 1e4], ids=["gradient within its bound", "gradient clipped"])
def test_a_training_step_is_bit_for_bit_that_of_nnunet(toy, make_trainer, factor):
    toy()
    ours = make_trainer("nnUNetTrainerCFNet")
    ours.initialize()
    loss_function = ours.loss
    ours.loss = lambda output, target: factor * loss_function(output, target)
    ours.on_train_start()
    batch = next(ours.dataloader_train)
    state, optimizer_state = copy.deepcopy(ours.network.state_dict()), copy.deepcopy(ours.optimizer.state_dict())
    loss = ours.train_step(batch)["loss"]
    after = copy.deepcopy(ours.network.state_dict())
    ours.network.load_state_dict(state)
    ours.optimizer.load_state_dict(optimizer_state)
    assert nnUNetTrainer.train_step(ours, batch)["loss"] == loss
    for key, value in ours.network.state_dict().items():
        assert torch.equal(value, after[key]), key
    assert not all(torch.equal(value, after[key]) for key, value in state.items())


@pytest.mark.parametrize("enable", [True, False])
def test_the_network_is_built_on_the_class_with_the_signature_of_nnunet(toy, make_trainer, enable):
    toy()
    trainer = make_trainer("nnUNetTrainerCFNet")
    stock = inspect.signature(nnUNetTrainer.build_network_architecture).parameters
    assert list(inspect.signature(type(trainer).build_network_architecture).parameters) == list(stock)
    network = type(trainer).build_network_architecture(
        trainer.plans_manager, trainer.configuration_manager, 2, 3, enable
    )
    output = network(torch.zeros(1, 2, 16, 16, 16))
    assert isinstance(output, list) == enable


# --- suffixes --------------------------------------------------------------------------------------------------------


def test_epochs_and_iterations_are_those_of_the_name(toy, train, monkeypatch):
    toy()
    counted = {"train": 0, "validation": 0}
    for step, key in ((BaseTrainer.train_step, "train"), (BaseTrainer.validation_step, "validation")):

        def counting(self, batch, step=step, key=key):
            counted[key] += 1
            return step(self, batch)

        monkeypatch.setattr(BaseTrainer, step.__name__, counting)
    trainer = train("nnUNetTrainerCFNet_3epochs_2its_1vits", "2d")
    assert counted == {"train": 6, "validation": 3}
    assert len(_losses(trainer)[0]) == 3


def test_a_class_made_for_a_variant_keeps_the_name_it_was_asked_for(toy, make_trainer, log_of):
    toy()
    trainer = make_trainer("nnUNetTrainerCFNet_1its_1epochs")
    assert trainer.output_folder_base.endswith("nnUNetTrainerCFNet_1its_1epochs__smallPlans__3d_fullres")
    assert "nnUNetTrainerCFNet_1epochs_1its spelled otherwise" in log_of(trainer)
    assert "spelled otherwise" not in log_of(make_trainer(SHORT))


def test_mirroring_is_on_by_default_and_off_by_suffix(toy, train):
    toy()
    mirrored, unmirrored = train(SHORT), train(f"{SHORT}_NoMirroring")
    assert _mirrors(mirrored)
    assert not _mirrors(unmirrored)
    axes = [
        torch.load(f"{trainer.output_folder}/checkpoint_final.pth", weights_only=True)[
            "inference_allowed_mirroring_axes"
        ]
        for trainer in (mirrored, unmirrored)
    ]
    assert axes == [(0, 1, 2), None]


def test_without_deep_supervision_there_is_one_output_and_one_target(toy, train):
    toy()
    trainer = train(f"{SHORT}_NoDeepSupervision")
    batch = next(trainer.dataloader_train)
    assert isinstance(batch["target"], torch.Tensor)
    assert isinstance(trainer.network(batch["data"]), torch.Tensor)
    trainer.perform_actual_validation()  # nnU-Net switches deep supervision on at its end
    assert isinstance(trainer.network(batch["data"]), torch.Tensor)


def test_without_deep_supervision_the_weights_are_those_of_a_network_with_it(toy, make_trainer):
    toy()
    trainers = [make_trainer(name) for name in (SHORT, f"{SHORT}_NoDeepSupervision")]
    for trainer in trainers:
        trainer.initialize()
    assert list(trainers[0].network.state_dict()) == list(trainers[1].network.state_dict())


def test_bf16_computes_in_bfloat16_and_keeps_weights_and_loss_in_float32(toy, train):
    toy()
    seen = []
    trainer = train(f"{SHORT}_bf16")
    convolution = next(m for m in trainer.network.modules() if isinstance(m, torch.nn.Conv3d))
    convolution.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    loss = trainer.train_step(next(trainer.dataloader_train))["loss"]
    with torch.no_grad():
        trainer.validation_step(next(trainer.dataloader_val))
    assert set(seen) == {torch.bfloat16}
    assert loss.dtype == np.float32
    assert {parameter.dtype for parameter in trainer.network.parameters()} == {torch.float32}


def test_bf16_scales_no_gradients_on_a_gpu(toy, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    from nnunet_ext.trainers.registry import resolve

    folder = toy()
    scalers = []
    for name in ("nnUNetTrainerCFNet", "nnUNetTrainerCFNet_bf16"):
        plans = {**json.loads((folder / "smallPlans.json").read_text()), "continue_training": False}
        dataset = json.loads((folder / "dataset.json").read_text())
        scalers.append(resolve(name)(plans, "3d_fullres", 0, dataset, torch.device("cuda")).grad_scaler)
    assert scalers[0] is not None
    assert scalers[1] is None


def test_the_learning_rate_is_that_of_the_name_and_decays(toy, train):
    toy()
    trainer = train("nnUNetTrainerCFNet_2epochs_1its_1vits_lr3e-3", "2d")
    assert trainer.logger.get_value("lrs", None) == [0.003, pytest.approx(0.003 * 0.5**0.9, rel=1e-12)]


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(toy, train):
    toy()
    name = "nnUNetTrainerCFNet_2epochs_3its_2vits_seed{}"
    torch.manual_seed(7)
    first = _losses(train(name.format(4)))
    torch.manual_seed(8)
    assert _losses(train(name.format(4))) == first
    assert _losses(train(name.format(5))) != first


def test_the_same_seed_gives_the_same_losses_with_augmentation_in_worker_processes(toy, train, monkeypatch):
    monkeypatch.setenv("nnUNet_n_proc_DA", "2")
    toy()
    name = "nnUNetTrainerCFNet_2epochs_3its_1vits_seed4"
    assert _losses(train(name, "2d")) == _losses(train(name, "2d"))


def test_a_seeded_run_picks_no_algorithm_by_the_clock(toy, train):
    toy()
    trainer = train(f"{SHORT}_seed1")
    steps = trainer.dataloader_train.data_loader.transforms.transforms
    timed = [step.transform.benchmark for step in steps if hasattr(getattr(step, "transform", None), "benchmark")]
    assert timed == [False]


def test_a_name_too_long_for_ensemble_folders_is_warned_of(toy, make_trainer, log_of):
    toy()
    long = "nnUNetTrainerCFNet_100000epochs_100000its_100000vits_NoMirroring_NoDeepSupervision_bf16_seed10000_lr1e-3"
    assert "is so long" in log_of(make_trainer(long))
    assert "is so long" not in log_of(make_trainer(SHORT))


# --- every variant on every kind of data set -------------------------------------------------------------------------

REGIONS = {"background": 0, "whole": [1, 2], "inner": 2}
IGNORE = {"background": 0, "outer": 1, "inner": 2, "ignore": 3}


@pytest.mark.parametrize("name", [SHORT, EVERYTHING])
@pytest.mark.parametrize(
    "options",
    [
        {"labels": REGIONS, "region_order": [1, 2]},
        {"labels": IGNORE, "ignore": True},
        {"labels": {**REGIONS, "ignore": 3}, "region_order": [1, 2], "ignore": True},
    ],
    ids=["regions", "ignore label", "regions and ignore label"],
)
def test_regions_and_ignore_label_train_and_validate_with_probabilities(toy, train, name, options):
    toy(**options)
    trainer = train(name)
    trainer.perform_actual_validation(save_probabilities=True)
    assert all(np.isfinite(_losses(trainer)).ravel())
    written = np.load(f"{trainer.output_folder}/validation/case00.npz")["probabilities"]
    assert written.shape == (trainer.label_manager.num_segmentation_heads, 20, 24, 24)
    assert (written[0] <= 1).all()


@pytest.mark.parametrize("name", [SHORT, EVERYTHING])
def test_a_cascade_trains_on_the_predictions_of_its_previous_stage(toy, train, name):
    toy(cascade=True)
    train(name, "3d_lowres", fold="all").perform_actual_validation()  # predicts every case
    trainer = train(name, "3d_cascade_fullres")
    assert trainer.num_input_channels == 4
    assert all(np.isfinite(_losses(trainer)).ravel())
    (Path(trainer.folder_with_segs_from_previous_stage) / "case01.b2nd").unlink()  # as if a fold were not trained
    with pytest.raises(UserError, match="1 are missing, the first: case01"):
        train(name, "3d_cascade_fullres")


def test_a_cascade_without_its_previous_stage_says_what_to_train_first(toy, train):
    toy(cascade=True)
    with pytest.raises(UserError, match="needs the predictions of 3d_lowres") as error:
        train(SHORT, "3d_cascade_fullres")
    assert f"-tr {SHORT}" in str(error.value)


@pytest.mark.parametrize("name", [SHORT, EVERYTHING])
@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_plans_with_two_stages_train(toy, train, name, configuration):
    toy(n_stages=2)
    trainer = train(name, configuration)
    assert all(np.isfinite(_losses(trainer)).ravel())


def test_the_only_output_of_a_two_stage_network_has_weight_one(toy, make_trainer):
    toy(n_stages=2)
    trainer = make_trainer(SHORT)
    trainer.initialize()
    assert trainer.loss.weight_factors == (1.0,)


@pytest.mark.parametrize("name", [SHORT, EVERYTHING])
def test_nnunets_predictor_rebuilds_the_trained_network_from_the_checkpoint(toy, train, name):
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    toy()
    trainer = train(name)
    predictor = nnUNetPredictor(device=torch.device("cpu"))
    predictor.initialize_from_trained_model_folder(trainer.output_folder_base, (0,), "checkpoint_final.pth")
    trainer.set_deep_supervision_enabled(False)
    images = torch.randn(1, 2, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    trainer.network.eval()
    predictor.network.eval()
    with torch.no_grad():
        assert torch.equal(predictor.network(images), trainer.network(images))
    assert predictor.allowed_mirroring_axes == trainer.inference_allowed_mirroring_axes


@pytest.mark.parametrize("name", [SHORT, EVERYTHING])
def test_pretrained_weights_of_other_classes_are_taken_but_for_the_heads(
    toy, train, make_trainer, nnunet_folders, name
):
    toy(labels={"background": 0, "outer": 1, "inner": 2, "third": 4})
    source = train(name)
    shutil.rmtree(nnunet_folders.preprocessed)
    toy()
    trainer = make_trainer(name, pretrained=f"{source.output_folder}/checkpoint_final.pth")
    before = source.network.state_dict()
    for key, value in trainer.network.state_dict().items():
        if ".seg_layers." in key:
            assert value.shape != before[key].shape or key.endswith("bias")
        else:
            assert torch.equal(value, before[key]), key
    trainer.run_training()
    assert all(np.isfinite(_losses(trainer)).ravel())


def test_another_loss_of_the_table_works_with_deep_supervision(toy, train, monkeypatch):
    toy()
    monkeypatch.setattr(nnUNetTrainerCFNet, "recipe", replace(Recipe(), loss="cfnet_paper", epochs=1, iterations=1))
    trainer = train("nnUNetTrainerCFNet")
    assert len(trainer.loss.weight_factors) == 2
    assert all(np.isfinite(_losses(trainer)).ravel())


# --- folds -----------------------------------------------------------------------------------------------------------


def test_folds_that_differ_from_the_raw_ones_are_warned_of_at_the_start(toy, train, log_of, nnunet_folders):
    preprocessed = toy() / "splits_final.json"
    raw = nnunet_folders.raw / "Dataset501_Toy" / "splits_final.json"
    raw.parent.mkdir()
    raw.write_text(preprocessed.read_text())
    assert "WARNING: the folds" not in log_of(train(SHORT, "2d"))
    raw.write_text(json.dumps([{"train": ["case00"], "val": ["case01"]}]))
    warning = next(line for line in log_of(train(SHORT, "2d")).splitlines() if "WARNING: the folds" in line)
    assert str(raw) in warning
    assert str(preprocessed) in warning


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_without_augmentation_batches_are_patches_of_the_data_as_it_is(toy, train, configuration):
    folder = toy()
    trainer = train("nnUNetTrainerCFNet_1epochs_1its_1vits_NoAugmentation", configuration, checkpoints=False)
    assert trainer.inference_allowed_mirroring_axes is None
    stored = [
        nnUNetDatasetBlosc2(str(folder / f"smallPlans_{configuration}"), [case]).load_case(case)[0][:]
        for case in ("case01", "case02")
    ]
    loader, _ = trainer.get_dataloaders()
    for image in next(loader)["data"].numpy():
        images = [part for case in stored for part in case.transpose(1, 0, 2, 3)] if configuration == "2d" else stored
        assert any(_contains(whole, image) for whole in images), "a patch that is not in the data"


def _contains(whole, patch):
    """Whether a patch (C, *spatial) lies somewhere in an image."""
    windows = np.lib.stride_tricks.sliding_window_view(whole, patch.shape)
    return bool((windows == patch).all(axis=tuple(range(-patch.ndim, 0))).any())


def test_an_optimizer_by_suffix_trains_with_its_own_learning_rate(toy, train):
    toy()
    trainer = train("nnUNetTrainerCFNet_1epochs_1its_1vits_AdamW_wd1e-2", "2d", checkpoints=False)
    (group,) = trainer.optimizer.param_groups
    assert (type(trainer.optimizer).__name__, trainer.initial_lr, group["weight_decay"]) == ("AdamW", 3e-4, 1e-2)
