"""What all trainers of this plugin share. A trainer is a class of a few lines that names its network and its recipe."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from nnunetv2.paths import nnUNet_raw
from nnunetv2.training.loss.deep_supervision import DeepSupervisionWrapper
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import ConfigurationManager, PlansManager
from torch import nn

from nnunet_ext import __version__
from nnunet_ext.errors import UserError
from nnunet_ext.planning.from_plans import from_configuration
from nnunet_ext.trainers import checkpoints, lengthened, memory_line, registry, seeding, splits
from nnunet_ext.trainers.losses import Float32Loss, loss_of
from nnunet_ext.trainers.recipe import Recipe
from nnunet_ext.trainers.schedules import EpochSchedule, schedule_of

# Ensemble folders join two names of result folders, 17 characters and the folds; file systems allow 255 bytes.
MAX_FOLDER_NAME = 110


class BaseTrainer(nnUNetTrainer):
    """nnU-Net's trainer with a network of its own and its recipe as data.

    Beyond the recipe it differs from ``nnUNetTrainer`` in this: checkpoints are written beside and renamed, name the
    plugin's version, the network and the recipe, and are read without executing them; short trainings write
    ``checkpoint_latest`` more often; the checkpoints of an earlier training in the same folder are set aside; plans
    with two stages train.
    """

    network_class: ClassVar[type[nn.Module]]
    #: whether the network is a published one, which no plans change
    builds_published_network: ClassVar[bool] = False
    #: whether patch or batch are the trainer's, so that no plans change them
    fixes_patch_or_batch: ClassVar[bool] = False
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
        self._log_name()

    @classmethod
    def adapted_plans(cls, plans: dict, configuration: str) -> dict:
        """The plans that are trained with and stored with the model: those given, unless a trainer fixes patch or
        batch.

        Raises:
            UserError: the trainer cannot train this configuration.
        """
        return plans

    def _log_name(self) -> None:
        if type(self).__module__ == registry.__name__:
            name = type(self).__name__
            canonical = registry.canonical_name(name)
            if canonical != name:
                self.print_to_log_file(
                    f"{name} is {canonical} spelled otherwise; results are stored under the name as given"
                )
        folder = Path(self.output_folder_base).name
        if len(folder) > MAX_FOLDER_NAME:
            self.print_to_log_file(
                f"WARNING: {folder} is so long that nnU-Net may fail to create the folders of its ensembles"
            )

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
            **cls.recipe.network_options,
        )

    def initialize(self) -> None:
        if self.recipe.seed is not None:
            seeding.seed_everything(self.recipe.seed)
        with self._advised():
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
        rotation, dummy_2d, initial_patch_size, mirror_axes = (
            super().configure_rotation_dummyDA_mirroring_and_inital_patch_size()
        )
        if not self.recipe.mirroring:
            mirror_axes = self.inference_allowed_mirroring_axes = None
        if not self.recipe.augmentation:  # no rotation, so no larger patch to rotate in
            initial_patch_size = self.configuration_manager.patch_size
        return rotation, dummy_2d, initial_patch_size, mirror_axes

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
        self._require_previous_stage()
        super().on_train_start()
        if self.local_rank != 0:
            return
        self.print_to_log_file(
            f"nnunet_ext {__version__}: {checkpoints.class_path(self._bare_network())}, {self.recipe.as_dict()}"
        )
        self.print_to_log_file(memory_line.first_line(self))
        self._warn_other_splits()
        folder = Path(self.output_folder)
        checkpoints.clean(folder)
        if self.current_epoch == 0 and not self.disable_checkpointing:
            for file in checkpoints.set_aside(folder):
                self.print_to_log_file(f"a checkpoint of an earlier training is kept as {file}")

    def _require_previous_stage(self) -> None:
        if not self.is_cascaded:
            return
        folder = Path(self.folder_with_segs_from_previous_stage)
        predicted = {file.stem for file in folder.glob("*")}
        missing = sorted({case for part in self.do_split() for case in part} - predicted)
        if missing:
            stage = self.configuration_manager.previous_stage_name
            raise UserError(
                f"{self.configuration_name} needs the predictions of {stage} by the same trainer; {len(missing)} are "
                f"missing, the first: {missing[0]}",
                file=folder,
                remedy=f"train every fold of {stage} first, with -tr {type(self).__name__}",
            )

    def _warn_other_splits(self) -> None:
        if nnUNet_raw.is_set() and self.fold != "all":
            warning = splits.difference(
                Path(nnUNet_raw) / self.plans_manager.dataset_name / "splits_final.json",
                Path(self.preprocessed_dataset_folder_base) / "splits_final.json",
            )
            if warning:
                self.print_to_log_file(f"WARNING: {warning}")

    def on_epoch_start(self) -> None:
        if self.recipe.seed is not None:
            seeding.seed_everything(self.recipe.seed, self.current_epoch, self.local_rank)
        super().on_epoch_start()

    def _autocast(self) -> AbstractContextManager[Any]:
        if self.recipe.bf16:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return torch.autocast(self.device.type) if self.device.type == "cuda" else nullcontext()

    def train_step(self, batch: dict) -> dict:
        """One optimizer step. nnU-Net's own fixes the precision and the bound of the gradient; here the recipe does.

        Raises:
            UserError: the GPU has no memory left.
        """
        with self._advised():
            return self._train_step(batch)

    @contextmanager
    def _advised(self) -> Iterator[None]:
        """Running out of memory ends with the command that helps instead of a bare trace."""
        try:
            yield
        except torch.cuda.OutOfMemoryError as error:
            raise UserError(
                f"out of memory at patch {list(self.configuration_manager.patch_size)}, batch {self.batch_size}: "
                f"{str(error).splitlines()[0]}",
                remedy=memory_line.advice(self),
            ) from error

    def _train_step(self, batch: dict) -> dict:
        data = batch["data"].to(self.device, non_blocking=True)
        target = batch["target"]
        target = (
            [scale.to(self.device, non_blocking=True) for scale in target]
            if isinstance(target, list)
            else target.to(self.device, non_blocking=True)
        )
        self.optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = self.loss(self.network(data), target)
        scaler = self.grad_scaler
        (loss if scaler is None else scaler.scale(loss)).backward()
        if scaler is not None:
            scaler.unscale_(self.optimizer)
        if self.recipe.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.gradient_clip)
        if scaler is None:
            self.optimizer.step()
        else:
            scaler.step(self.optimizer)
            scaler.update()
        return {"loss": loss.detach().cpu().numpy()}

    def validation_step(self, batch: dict) -> dict:
        with self._advised(), self._autocast():
            return super().validation_step(batch)

    def perform_actual_validation(self, save_probabilities: bool = False) -> None:
        with self._advised():
            super().perform_actual_validation(save_probabilities)

    def _bare_network(self) -> nn.Module:
        network = self.network.module if self.is_ddp else self.network
        return getattr(network, "_orig_mod", network)

    def save_checkpoint(self, filename: str) -> None:
        """nnU-Net's checkpoint and, under the key ``nnunet_ext``, the plugin's version, the network and the recipe."""
        if self.local_rank != 0:
            return
        if self.disable_checkpointing:
            self.print_to_log_file("No checkpoint written, checkpointing is disabled")
            return
        network = self._bare_network()
        checkpoints.write(
            {
                "network_weights": network.state_dict(),
                "optimizer_state": self.optimizer.state_dict(),
                "grad_scaler_state": None if self.grad_scaler is None else self.grad_scaler.state_dict(),
                "logging": checkpoints.plain(self.logger.get_checkpoint()),
                "_best_ema": checkpoints.plain(self._best_ema),
                "current_epoch": self.current_epoch + 1,
                "init_args": checkpoints.plain(self.my_init_kwargs),
                "trainer_name": type(self).__name__,
                "inference_allowed_mirroring_axes": self.inference_allowed_mirroring_axes,
                checkpoints.OURS: {
                    "version": __version__,
                    "network": checkpoints.class_path(network),
                    "recipe": self.recipe.as_dict(),
                },
            },
            Path(filename),
        )

    def load_checkpoint(self, filename_or_checkpoint: str) -> None:
        """Takes up a training of this trainer.

        Raises:
            UserError: the file is torn, or of another trainer, or of another network.
        """
        if not self.was_initialized:
            self.initialize()
        file = Path(filename_or_checkpoint)
        checkpoint = checkpoints.read(file, self.device)
        checkpoints.require_training_state(checkpoint, file)
        jump = self._require_same_training(checkpoint, file)
        checkpoints.load_weights(self._bare_network(), checkpoint, file)
        self.my_init_kwargs = checkpoint["init_args"]
        self.current_epoch = checkpoint["current_epoch"]
        self.logger.load_checkpoint(checkpoint["logging"])
        self._best_ema = checkpoint["_best_ema"]
        self.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]
        self.optimizer.load_state_dict(checkpoint["optimizer_state"])
        if self.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
            self.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
        self._warn_changed_recipe(checkpoint.get(checkpoints.OURS, {}))
        if jump:
            self.print_to_log_file(jump)

    def _require_same_training(self, checkpoint: dict[str, Any], file: Path) -> str:
        """Refuses the checkpoint of another training, but for one that differs in the number of epochs alone. Returns
        what to say of that."""
        written_by, own = checkpoint["trainer_name"], type(self).__name__
        if written_by == own:
            return ""
        epochs = lengthened.epochs_before(written_by, own, checkpoint)
        done = checkpoint["current_epoch"]
        if epochs is None or not isinstance(done, int):
            raise UserError(
                f"checkpoint was written by {written_by}, not by {own}",
                file=file,
                remedy=f"continue with -tr {written_by}, or start from its weights with -pretrained_weights",
            )
        if done >= self.num_epochs:
            raise UserError(
                f"checkpoint of {written_by} has {done} epochs behind it, and {own} trains {self.num_epochs}",
                file=file,
                remedy="continue with a trainer of more epochs",
            )
        factor = schedule_of(self.recipe.schedule)
        before, now = (self.initial_lr * factor(min(done, total - 1), total) for total in (epochs, self.num_epochs))
        return (
            f"WARNING: goes on from epoch {done} of {written_by}: the schedule of {epochs} epochs becomes one of "
            f"{self.num_epochs}, and the learning rate jumps from {before:.3g} to {now:.3g}"
        )

    def _warn_changed_recipe(self, ours: dict[str, Any]) -> None:
        before, now = ours.get("recipe", {}), self.recipe.as_dict()
        now.pop("epochs")  # part of the name, which is compared by itself
        changed = [f"{key} {before[key]} -> {now[key]}" for key in now if key in before and before[key] != now[key]]
        if changed:
            self.print_to_log_file(
                f"WARNING: the checkpoint was trained by nnunet_ext {ours.get('version')} with another recipe: "
                f"{', '.join(changed)}"
            )
