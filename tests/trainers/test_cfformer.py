"""The two trainers of CFFormer: what is theirs beyond the base."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from batchgeneratorsv2.transforms.spatial.mirroring import MirrorTransform
from batchgeneratorsv2.transforms.spatial.spatial import SpatialTransform
from batchgeneratorsv2.transforms.utils.random import RandomTransform

from nnunet_ext.architectures.cfformer_reference import SIZES, Size
from nnunet_ext.cli import main
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import cfformer
from nnunet_ext.trainers.cfformer_loss import DiceCrossEntropyLoss
from nnunet_ext.trainers.registry import resolve

SHORT = "_1epochs_1its_1vits"
PAPER = f"nnUNetTrainerCFFormer_paper{SHORT}"
EARLIER_KEYS = Path(__file__).parents[1] / "golden" / "cfformer" / "paper_0_1_0_keys.txt.gz"
REGIONS = {"background": 0, "whole": [1, 2], "inner": 2}


@pytest.fixture
def small_paper(monkeypatch):
    """The published trainer at a size that a CPU trains, with a thin transformer."""
    monkeypatch.setitem(SIZES, "tiny", Size((16, 32, 64, 128), (2, 2, 2, 2), (1, 2, 4, 8), 0.2))
    monkeypatch.setattr(cfformer.nnUNetTrainerCFFormer_paper, "fixed_patch_size", (64, 64))
    monkeypatch.setattr(cfformer.nnUNetTrainerCFFormer_paper, "fixed_batch_size", 2)


@pytest.mark.parametrize("configuration", ["2d", "3d_fullres"])
def test_it_trains_validates_and_continues(toy, train, make_trainer, configuration):
    toy(channels=1)
    name = f"nnUNetTrainerCFFormer{SHORT}_NoMirroring"
    trainer = train(name, configuration)
    trainer.perform_actual_validation()
    assert np.isfinite(trainer.logger.get_value("train_losses", None)).all()
    again = make_trainer(name, configuration, resume=True)
    assert again.current_epoch == 1


def test_the_recipe_is_adamw_with_warm_up_and_spares_scales_and_position_maps_the_decay(toy, make_trainer):
    toy(channels=1)
    trainer = make_trainer("nnUNetTrainerCFFormer_130epochs", "2d")
    trainer.initialize()
    decayed, spared = trainer.optimizer.param_groups
    assert isinstance(trainer.optimizer, torch.optim.AdamW)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (3e-5, 0.0)
    spared_names = [
        name for name, parameter in trainer.network.named_parameters() if any(parameter is p for p in spared["params"])
    ]
    assert spared_names
    assert all("logit_scale" in name or "cpb_mlp" in name for name in spared_names)
    together = len(decayed["params"]) + len(spared["params"])
    assert together == len(list(trainer.network.parameters()))
    trainer.lr_scheduler.step(0)
    assert decayed["lr"] == spared["lr"] == pytest.approx(3e-5)


@pytest.mark.parametrize(
    ("suffix", "idle"),
    [
        ("_CNNOnly", "transformer"),
        ("_TransformerOnly", "fusions"),
        ("_PlainFusion", "cfca"),
        ("_CFCAOnly", "u_to_v"),
        ("_XFFOnly", "cfca"),
        ("_base", ""),
    ],
)
def test_rows_of_the_ablation_and_presets_are_networks_of_their_own(toy, make_trainer, suffix, idle):
    toy(channels=1)
    trainer = make_trainer(f"nnUNetTrainerCFFormer{SHORT}{suffix}", "2d")
    trainer.initialize()
    names = [name for name, _ in trainer.network.named_parameters()]
    assert not idle or not any(idle in name for name in names), f"{suffix} still holds {idle}"
    whole = make_trainer(f"nnUNetTrainerCFFormer{SHORT}", "2d")
    whole.initialize()
    assert [tuple(p.shape) for p in whole.network.parameters()] != [
        tuple(p.shape) for p in trainer.network.parameters()
    ]


@pytest.mark.parametrize(
    "options",
    [
        {},
        pytest.param({"labels": REGIONS, "region_order": [1, 2]}, marks=pytest.mark.slow),
        {"labels": {**REGIONS, "ignore": 3}, "region_order": [1, 2], "ignore": True},
    ],
    ids=["labels", "regions", "regions and ignore label"],
)
def test_the_published_network_trains_and_validates(toy, train, small_paper, log_of, options):
    toy(channels=3, **options)
    trainer = train(f"{PAPER}_NoMirroring", "2d", checkpoints=False)
    trainer.perform_actual_validation()
    assert np.isfinite(trainer.logger.get_value("train_losses", None)).all()
    assert "; patches of images of" in log_of(trainer)
    assert "nnU-Net's normalisation instead of ImageNet's" in log_of(trainer)
    assert "random weights of the CNN and the transformer ('nnunet_ext pretrained' makes a start)" in log_of(trainer)
    assert "our extension" not in log_of(trainer)


def test_the_published_recipe(toy, make_trainer, small_paper):
    toy(channels=3)
    trainer = make_trainer("nnUNetTrainerCFFormer_paper", "2d")
    trainer.initialize()
    assert (trainer.num_epochs, trainer.configuration_manager.patch_size, trainer.batch_size) == (130, [64, 64], 2)
    assert isinstance(trainer.loss, DiceCrossEntropyLoss)
    assert not trainer.network.decoder.deep_supervision


def test_patch_and_batch_of_the_paper_are_stored_with_the_model_and_not_in_the_users_plans(toy, make_trainer):
    toy(channels=3)
    trainer = make_trainer(PAPER, "2d")
    stored = trainer.my_init_kwargs["plans"]["configurations"]["2d"]
    assert (stored["patch_size"], stored["batch_size"]) == ([224, 224], 16)
    other = make_trainer("nnUNetTrainerCFFormer", "2d")
    assert other.configuration_manager.patch_size != [224, 224]


def test_the_augmentation_of_the_paper_is_flips_rotations_and_crops_alone(toy, make_trainer, small_paper):
    toy(channels=3)
    transforms = resolve(PAPER).get_training_transforms((64, 64), (-3.0, 3.0), None, (0, 1), False).transforms
    (spatial,) = (transform for transform in transforms if isinstance(transform, SpatialTransform))
    assert spatial.rotation == pytest.approx((-np.pi / 12, np.pi / 12))
    assert spatial.p_rotation == 0.6
    assert any(isinstance(transform, MirrorTransform) for transform in transforms)
    assert not any(isinstance(transform, RandomTransform) for transform in transforms)
    np.random.seed(0)  # noqa: NPY002
    image = torch.zeros(1, 90, 90)
    draws = [spatial.get_parameters(image=image) for _ in range(200)]
    scales = np.array([abs(np.linalg.det(draw["affine"])) ** 0.5 for draw in draws])
    assert (scales.min(), scales.max()) == pytest.approx((cfformer.MIN_SCALE, 1), abs=0.02)
    moved = np.array([draw["center_location_in_pixels"] for draw in draws]) - 45
    room = (1 - scales) / 2 * 64
    assert (np.abs(moved) <= room[:, None] + 1e-9).all(), "a crop leaves the patch"
    assert np.abs(moved).max() > 5, "crops are always central"


def test_a_configuration_that_inherits_from_2d_is_2d():
    plans = {
        "plans_name": "x",
        "dataset_name": "y",
        "configurations": {
            "2d": {"patch_size": [32, 32], "batch_size": 4, "architecture": {}},
            "2d_more": {"inherits_from": "2d", "batch_size": 8},
        },
    }
    adapted = resolve(PAPER).adapted_plans(plans, "2d_more")["configurations"]["2d_more"]
    assert adapted == {"inherits_from": "2d", "patch_size": [224, 224], "batch_size": 16}


def test_only_the_published_recipe_bounds_the_gradient_at_1():
    assert resolve("nnUNetTrainerCFFormer").recipe.gradient_clip == 12
    assert resolve("nnUNetTrainerCFFormer_paper").recipe.gradient_clip == 1


def test_three_dimensions_are_refused_with_what_to_use_instead(toy, make_trainer):
    toy(channels=3)
    with pytest.raises(UserError, match=r"needs a 2d configuration.* use nnUNetTrainerCFFormer\b"):
        make_trainer(PAPER, "3d_fullres")


def test_pictures_scaled_to_0_1_are_normalised_like_imagenet_inside_the_network(toy, make_trainer, small_paper):
    toy(channels=3)
    trainer = make_trainer(f"{PAPER}_tiny", "2d")
    manager = trainer.configuration_manager
    manager.configuration["normalization_schemes"] = ["RGBTo01Normalization"] * 3
    build = type(trainer).build_network_architecture
    scaled = build(trainer.plans_manager, manager, 3, 2).eval()
    manager.configuration["normalization_schemes"] = ["ZScoreNormalization"] * 3
    plain = build(trainer.plans_manager, manager, 3, 2).eval()
    plain.load_state_dict(scaled.state_dict())
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (cfformer.IMAGENET_MEAN, cfformer.IMAGENET_STD))
    with torch.no_grad():
        assert torch.equal(scaled(image), plain((image - mean) / std))


def test_the_published_form_has_no_size_large(toy, make_trainer, small_paper):
    toy(channels=3)
    with pytest.raises(UserError, match="use _tiny, _small or _base"):
        make_trainer(f"{PAPER}_large", "2d")


def published(name: str, patch_size: tuple[int, int] = (64, 64), channels: int = 3):
    """The network of a variant of the published trainer, without weights."""
    manager = SimpleNamespace(patch_size=list(patch_size), normalization_schemes=["ZScoreNormalization"] * channels)
    with torch.device("meta"):
        return resolve(name).published_network(manager, channels, 2)


@pytest.mark.parametrize(
    ("suffix", "parameters", "drop_path"),
    [("", 98_281_451, 0.2), ("_tiny", 98_281_451, 0.2), ("_small", 119_667_323, 0.3), ("_base", 184_815_801, 0.5)],
)
def test_the_published_network_is_that_of_the_size_tiny_unless_asked_otherwise(suffix, parameters, drop_path):
    network = published(f"nnUNetTrainerCFFormer_paper{suffix}")
    assert sum(p.numel() for p in network.parameters()) == parameters + 65  # two classes
    assert network.transformer.stages[-1].blocks[-1].drop_path == pytest.approx(drop_path)


@pytest.mark.parametrize(
    ("suffix", "idle"),
    [
        ("CNNOnly", ("transformer.", "fusion.")),
        ("TransformerOnly", ("cnn.", "fusion.")),
        ("PlainFusion", ("cfca", "u_to_v")),
        ("CFCAOnly", ("u_to_v",)),
        ("XFFOnly", ("cfca",)),
    ],
)
def test_rows_of_the_papers_ablation_are_variants_of_the_published_trainer(suffix, idle):
    names = [name for name, _ in published(f"nnUNetTrainerCFFormer_paper_{suffix}").named_parameters()]
    assert names
    assert not [name for name in names if any(part in name for part in idle)]


@pytest.mark.parametrize("suffix", ["TransformerWideSkips", "UpsampleLast", "AttendToPadding"])
def test_choices_of_the_authors_are_refused_where_they_are_made_already(suffix):
    with pytest.raises(UserError, match="self-configuring trainers - leave it out"):
        published(f"nnUNetTrainerCFFormer_paper_{suffix}")


def test_choices_of_the_authors_combine():
    options = resolve("nnUNetTrainerCFFormer_AttendToPadding_TransformerWideSkips_UpsampleLast").recipe.network_options
    assert options == {
        "transformer_wide_skips": True,
        "upsample_last": True,
        "window": 8,
        "attend_to_padding": True,
    }


def test_attending_to_padding_in_3d_is_refused_in_one_line(toy, make_trainer):
    toy(channels=1)
    with pytest.raises(UserError, match="attend_to_padding in 2D alone"):
        make_trainer("nnUNetTrainerCFFormer_AttendToPadding", "3d_fullres").initialize()


@pytest.mark.parametrize(("suffix", "part"), [("CNNOnly", "CNN"), ("TransformerOnly", "transformer")])
def test_a_row_of_the_ablation_trains(toy, train, small_paper, log_of, suffix, part):
    toy(channels=1)
    trainer = train(f"{PAPER}_{suffix}", "2d", checkpoints=False)
    assert np.isfinite(trainer.logger.get_value("train_losses", None)).all()
    assert f"random weights of the {part} (" in log_of(trainer)
    assert "1 image channel instead of 3, which is our extension" in log_of(trainer)


@pytest.mark.parametrize(("patch", "fitting"), [((200, 224), "192 x 224"), ((16, 48), "32 x 64")])
def test_patches_that_32_does_not_divide_are_refused_with_the_remedy(patch, fitting):
    with pytest.raises(UserError, match=rf"multiples of 32; these plans have {patch[0]} x {patch[1]} - use {fitting}"):
        published("nnUNetTrainerCFFormer_paper", patch)


def test_checkpoints_of_the_earlier_paper_trainer_are_refused_for_what_they_are(
    toy, train, make_trainer, small_paper, nnunet_folders, capsys
):
    """In a continued training, in prediction, and as a library loads them; the keys are those of version 0.1.0."""
    toy(channels=3)
    trainer = train(f"{PAPER}_NoMirroring", "2d")
    file = Path(trainer.output_folder) / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=True)
    keys = gzip.decompress(EARLIER_KEYS.read_bytes()).decode().split()
    checkpoint["network_weights"] = {key: torch.zeros(1) for key in keys}
    torch.save(checkpoint, file)
    said = r"paper of nnunet_ext 0\.1\.0 trained: .*not the authors' network.* - predict with nnunet_ext 0\.1\.0, or"
    with pytest.raises(UserError, match=said) as error:
        make_trainer(f"{PAPER}_NoMirroring", "2d", resume=True)
    assert file.name in str(error.value)
    with pytest.raises(UserError, match=said):
        trainer.network.load_state_dict(checkpoint["network_weights"])
    images = nnunet_folders.raw / "pictures"
    images.mkdir(parents=True)
    model = ["-tr", f"{PAPER}_NoMirroring", "-p", "smallPlans", "-c", "2d", "-f", "0", "-device", "cpu"]
    capsys.readouterr()
    assert main(["predict", "-i", str(images), "-o", str(images / "out"), "-d", "501", *model]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(said, line), line


def test_plans_of_two_resolutions_are_refused_in_one_line(toy, make_trainer):
    toy(channels=1)
    trainer = make_trainer("nnUNetTrainerCFFormer", "2d")
    arguments = trainer.configuration_manager.configuration["architecture"]["arch_kwargs"]
    for name in ("features_per_stage", "kernel_sizes", "strides", "n_conv_per_stage"):
        arguments[name] = arguments[name][:2]
    arguments |= {"n_stages": 2, "n_conv_per_stage_decoder": arguments["n_conv_per_stage_decoder"][:1]}
    with pytest.raises(UserError, match="CFFormer needs at least 3 stages"):
        trainer.initialize()
