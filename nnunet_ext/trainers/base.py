"""What all trainers of this plugin share. A trainer is a class of a few lines that names its network and its recipe."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext import __version__
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.planning.private_torch import uncompiled
from nnunet_ext.trainers import (
    before_training,
    checkpoints,
    continuation,
    memory_line,
    mirror_axes,
    seeding,
    training_state,
    training_step,
)
from nnunet_ext.trainers.device import require_device
from nnunet_ext.trainers.losses import Float32Loss, follow_dice, loss_of
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.schedules import EpochSchedule


class BaseTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a network of its own and its recipe as data.

    Beyond the recipe it differs from ``nnUNetTrainer`` in this: checkpoints are written beside and renamed, name the
    plugin's version, the network and the recipe, and are read without executing them; short trainings write
    ``checkpoint_latest`` more often; the checkpoints of an earlier training in the same folder are set aside; plans
    with two stages train; images are not mirrored along axes that dataset.json forbids.
    """

    network_class: ClassVar[type[nn.Module]]
    #: options that make it this network, where its class builds several
    network_identity: ClassVar[Mapping[str, Any]] = MappingProxyType({})
    #: whether the network is a published one, which no plans change
    builds_published_network: ClassVar[bool] = False
    recipe: ClassVar[Recipe] = Recipe()

    # nnU-Net reads the names of these parameters and records them
    def __init__(
        self,
        plans: dict,
        configuration: str,
        fold: int,
        dataset_json: dict,
        device: torch.device = torch.device("cuda"),  # noqa: B008 - nnU-Net's own default
    ) -> None:
        require_device(device.type)
        super().__init__(self.adapted_plans(plans, configuration), configuration, fold, dataset_json, device)
        recipe = self.recipe
        self.initial_lr = recipe.learning_rate
        self.weight_decay = recipe.weight_decay
        self.num_epochs = recipe.epochs
        self.num_iterations_per_epoch = recipe.iterations
        self.num_val_iterations_per_epoch = recipe.validation_iterations
        self.enable_deep_supervision = recipe.deep_supervision
        # At most a twentieth of the training is lost to a kill; nnU-Net's own 50 at its own 1000 epochs.
        self.save_every = max(1, min(50, recipe.epochs // 20))
        if recipe.bf16:
            self.grad_scaler = None  # bfloat16 has the range of float32
        self.unmirrored_axes = mirror_axes.unmirrored_axes(
            dataset_json,
            self.plans_manager.transpose_forward,
            len(self.configuration_manager.patch_size),
            Path(self.preprocessed_dataset_folder_base, "dataset.json"),
        )
        for note in before_training.notes_on_name(self):
            self.print_to_log_file(note)

    @classmethod
    def fixes_patch_or_batch(cls) -> bool:
        """Whether patch or batch are the trainer's, so that no plans change them."""
        return False

    @classmethod
    def adapted_plans(cls, plans: dict, configuration: str) -> dict:
        """The plans that are trained with and stored with the model: those given, unless a trainer fixes patch or
        batch.

        Raises:
            UserError: the trainer cannot train this configuration.
        """
        return plans

    @classmethod
    def build_network_architecture(
        cls,
        plans_manager: PlansManager,
        configuration_manager: ConfigurationManager,
        num_input_channels: int,
        num_output_channels: int,
        enable_deep_supervision: bool = True,
    ) -> nn.Module:
        """The network for these plans; nnU-Net calls this on the class, in training and in prediction."""
        return from_configuration(
            cls.network_class,
            configuration_manager,
            num_input_channels,
            num_output_channels,
            enable_deep_supervision,
            cls.network_identity,
            **cls.recipe.network_options,
        )

    def initialize(self) -> None:
        if self.recipe.seed is not None:
            seeding.seed_everything(self.recipe.seed)
        with memory_line.advised(self):
            super().initialize()

    def configure_optimizers(self) -> tuple[torch.optim.Optimizer, EpochSchedule]:
        recipe = self.recipe
        groups: Any = self.network.parameters()
        if recipe.undecayed:
            groups = [{"params": []}, {"params": [], "weight_decay": 0.0}]
            for name, parameter in self.network.named_parameters():
                groups[any(part in name for part in recipe.undecayed)]["params"].append(parameter)
        optimizer = getattr(torch.optim, recipe.optimizer)(
            groups, lr=self.initial_lr, weight_decay=self.weight_decay, **recipe.optimizer_options
        )
        return optimizer, EpochSchedule(optimizer, self.initial_lr, recipe.schedule, self.num_epochs)

    def _build_loss(self) -> nn.Module:
        with np.errstate(invalid="ignore"):  # two stages: nnU-Net's only weight becomes 0 / 0
            loss = super()._build_loss()
        supervised = isinstance(loss, DeepSupervisionWrapper)
        if supervised and len(loss.weight_factors) == 1:
            loss.weight_factors = (1.0,)
        if self.recipe.loss != "nnunet":
            own = loss_of(self.recipe.loss, self.label_manager.has_regions, self.label_manager.ignore_label)
            if supervised:
                loss.loss = own
            else:
                loss = own
        return Float32Loss(loss) if self.recipe.bf16 else loss

    def set_deep_supervision_enabled(self, enabled: bool) -> None:
        # nnU-Net switches it on after every validation, whatever the trainer had
        super().set_deep_supervision_enabled(enabled and self.enable_deep_supervision)

    def configure_rotation_dummyDA_mirroring_and_inital_patch_size(self) -> tuple[Any, ...]:
        rotation, dummy_2d, initial_patch_size, mirrored = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.recipe.mirroring:
            mirrored = None
        # nnU-Net keeps these axes in checkpoints, and prediction follows them
        mirrored = self.inference_allowed_mirroring_axes = mirror_axes.without(mirrored, self.unmirrored_axes)
        if not self.recipe.augmentation:  # no rotation, so no larger patch to rotate in
            initial_patch_size = self.configuration_manager.patch_size
        return rotation, dummy_2d, initial_patch_size, mirrored

    @classmethod
    def get_training_transforms(cls, *args: Any, **kwargs: Any) -> Any:
        if not cls.recipe.augmentation:
            return cls._validation_transforms_for_training(*args, **kwargs)
        transforms = super().get_training_transforms(*args, **kwargs)
        return transforms if cls.recipe.seed is None else seeding.without_timing(transforms)

    @classmethod
    def _validation_transforms_for_training(cls, *args: Any, **kwargs: Any) -> Any:
        given = inspect.signature(nnUNetTrainer.get_training_transforms).bind(*args, **kwargs)
        given.apply_defaults()
        wanted = inspect.signature(nnUNetTrainer.get_validation_transforms).parameters
        return super().get_validation_transforms(**{name: given.arguments[name] for name in wanted})

    def get_dataloaders(self) -> tuple[Any, Any]:
        train, validation = super().get_dataloaders()
        if self.recipe.seed is not None:
            entropy = (self.recipe.seed, self.current_epoch, self.local_rank)
            train, validation = (
                seeding.seeded_augmenter(train, *entropy, 0),
                seeding.seeded_augmenter(validation, *entropy, 1),
            )
        return train, validation

    def on_train_start(self) -> None:
        before_training.require_previous_stage(self)
        super().on_train_start()
        if self.local_rank != 0:
            return
        self.print_to_log_file(
            f"nnunet_ext {__version__}: {checkpoints.class_path(self.bare_network())}, {self.recipe.as_dict()}"
        )
        self.print_to_log_file(memory_line.first_line(self))
        for note in (*before_training.notes_on_folds(self), *before_training.notes_on_mirroring(self)):
            self.print_to_log_file(note)
        folder = Path(self.output_folder)
        checkpoints.clean(folder)
        if self.current_epoch == 0 and not self.disable_checkpointing:
            for file in checkpoints.set_aside(folder):
                self.print_to_log_file(f"a checkpoint of an earlier training is kept as {file}")

    def on_epoch_start(self) -> None:
        if self.recipe.seed is not None:
            seeding.seed_everything(self.recipe.seed, self.current_epoch, self.local_rank)
        online_dice = self.logger.get_value("dice_per_class_or_region", step=None)
        if online_dice:
            follow_dice(self.loss, online_dice[-1])
        super().on_epoch_start()

    def train_step(self, batch: dict) -> dict:
        """One optimizer step.

        Raises:
            UserError: the GPU has no memory left.
        """
        with memory_line.advised(self):
            return training_step.optimizer_step(self, batch)

    def validation_step(self, batch: dict) -> dict:
        with memory_line.advised(self), training_step.autocast(self.device, self.recipe.bf16):
            return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with memory_line.advised(self):
            super().perform_actual_validation(save_probabilities)

    def bare_network(self) -> nn.Module:
        """The network without what DDP and ``torch.compile`` wrap around it."""
        return uncompiled(self.network.module if self.is_ddp else self.network)

    def save_checkpoint(self, filename: str) -> None:
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        checkpoints.write(training_state.state_of(self), Path(filename))

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Continues a training of this trainer.

        Raises:
            UserError: the file is torn, or of another trainer, or of another network.
        """
        if not self.was_initialized:
            self.initialize()
        file = Path(filename_or_checkpoint)
        checkpoint = checkpoints.read(file, self.device)
        checkpoints.require_training_state(checkpoint, file)
        changed_length = continuation.require_same_training(self, checkpoint, file)
        training_state.restore(self, checkpoint, file)
        for warning in (continuation.changed_recipe(self, checkpoint), changed_length):
            if warning:
                self.print_to_log_file(warning)
