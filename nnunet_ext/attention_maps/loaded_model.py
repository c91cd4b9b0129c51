"""A trained model from its folder, through the gate that looks at all of its files before anything in them is used."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext._startup import register
from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.files import is_component
from nnunet_ext.folders import require_readable
from nnunet_ext.planning.from_plans import REFUSALS
from nnunet_ext.shown import abridged
from nnunet_ext.trainers import checkpoints, registry, trust
from nnunet_ext.trainers.fallback import make_torchvision_importable

_FOLD = re.compile(r"fold_(all|0|[1-9]\d{0,8})")


@dataclass(frozen=True)
class Model:
    """A network with its trained weights, and what says how to feed it.

    Attributes:
        network: on the CPU, without deep supervision.
        plans, configuration, dataset: as nnU-Net reads them.
        trainer, configuration_name, fold: where it comes from.
        channels: of an image.
    """

    network: nn.Module
    plans: PlansManager
    configuration: ConfigurationManager
    dataset: dict[str, Any]
    trainer: str
    configuration_name: str
    fold: str
    channels: int


def trained_fold(folder: Path, checkpoint: str) -> str:
    """The first fold of a model that has this checkpoint; ``"all"`` where no numbered one has.

    Raises:
        UserError: none has.
    """
    require_readable(folder)
    if not is_component(checkpoint):
        raise UserError(f"'{abridged(checkpoint)}' names no checkpoint of a model", file=folder)
    found = [match[1] for match in (_FOLD.fullmatch(path.name) for path in folder.iterdir()) if match]
    trained = [fold for fold in found if (folder / f"fold_{fold}" / checkpoint).is_file()]
    if not trained:
        raise UserError(
            f"no fold of this model has {checkpoint}",
            file=folder,
            remedy="give another -chk, such as checkpoint_best.pth, or train it to its end",
        )
    return min(trained, key=lambda fold: (fold == "all", int(fold) if fold != "all" else 0))


def load_model(folder: Path, fold: str | None, checkpoint: str, trusted: bool = False) -> Model:
    """The network of a fold, built by its trainer as nnU-Net's prediction does.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION``.
        fold: its number, or ``"all"``; the first trained one unless given.
        checkpoint: name of the file in the folder of the fold.
        trusted: follow whatever classes the plans name. A checkpoint is never executed.

    Raises:
        UserError: files are missing or refused by the gate, the trainer is unknown, weights do not fit, or the model
            needs the prediction of a previous stage.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder", file=folder, remedy="give -m a TRAINER__PLANS__CONFIGURATION folder")
    fold = trained_fold(folder, checkpoint) if fold is None else fold
    files = trust.checked_model(folder, fold, checkpoint, trusted)
    plans = PlansManager(files.plans)
    name = files.checkpoint["init_args"]["configuration"]
    if name not in files.plans["configurations"]:
        raise UserError(f"the checkpoint is of the configuration {name}, which the plans do not have", file=files.file)
    configuration = plans.get_configuration(name)
    if configuration.previous_stage_name is not None:
        raise UserError(
            f"{name} reads the prediction of {configuration.previous_stage_name}, which this command does not make",
            file=folder,
            remedy=f"look at {configuration.previous_stage_name}, or at 3d_fullres",
        )
    channels = len(files.dataset.get("channel_names") or files.dataset.get("modality") or ())
    trainer = files.checkpoint["trainer_name"]
    network = _build(trainer, plans, configuration, channels, files.dataset, files.file)
    checkpoints.load_weights(network, files.checkpoint, files.file)
    return Model(network, plans, configuration, files.dataset, trainer, name, fold, channels)


def _build(
    trainer: str,
    plans: PlansManager,
    configuration: ConfigurationManager,
    channels: int,
    dataset: dict[str, Any],
    file: Path,
) -> nn.Module:
    trainer_class = _trainer_class(trainer, file)
    heads = plans.get_label_manager(dataset).num_segmentation_heads
    try:
        network: nn.Module = trainer_class.build_network_architecture(
            plans, configuration, channels, heads, enable_deep_supervision=False
        )
    except REFUSALS as error:
        raise UserError(
            f"the network of {trainer} cannot be built from the plans of the model: {reason_of(error)}",
            file=file,
            remedy="use the plans.json that was written with this checkpoint",
        ) from error
    return network


def _trainer_class(name: str, file: Path) -> Any:
    own = registry.resolve(name)
    if own is not None:
        return own
    register()
    make_torchvision_importable()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # it tells every folder that it searches
            return recursive_find_trainer_class_by_name(name)
    except (RuntimeError, AssertionError) as error:
        raise UserError(
            f"the model was trained by {name}, which is neither a trainer of nnU-Net nor of this plugin",
            file=file,
            remedy=registry.did_you_mean_trainer(name, "nnUNet_extTrainer tells nnU-Net where trainers of yours lie"),
        ) from error


def preprocessed(model: Model, files: list[Path]) -> tuple[torch.Tensor, dict[str, Any]]:
    """A case as nnU-Net's prediction preprocesses it: (C, Z, Y, X), and its properties.

    Raises:
        UserError: it has another number of channels than the model was trained with.
    """
    reader = model.plans.image_reader_writer_class()
    images, properties = reader.read_images([str(file) for file in files])
    if len(images) != model.channels:
        raise UserError(
            f"the case has {len(images)} image channel{'s' * (len(images) != 1)}, and the model was trained with "
            f"{model.channels}",
            file=files[0].parent,
            remedy=f"give files for {', '.join(map(str, model.dataset.get('channel_names', {}).values()))}",
        )
    preprocessor = model.configuration.preprocessor_class(verbose=False)
    data, _, properties = preprocessor.run_case_npy(
        images, None, properties, model.plans, model.configuration, model.dataset
    )
    return torch.from_numpy(data).float(), properties
