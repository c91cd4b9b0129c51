"""What a checkpoint holds of a trainer: nnU-Net's own entries, and under the key ``nnunet_ext`` the plugin's version,
the network and the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_ext import __version__
from nnunet_ext.planning.private_nnunet import BEST_DICE, best_dice, set_best_dice
from nnunet_ext.trainers.checkpoints import OURS, class_path, load_weights, plain


def state_of(trainer: Any) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        trainer: initialized.
    """
    network = trainer.bare_network()
    return {
        "network_weights": network.state_dict(),
        "optimizer_state": trainer.optimizer.state_dict(),
        "grad_scaler_state": None if trainer.grad_scaler is None else trainer.grad_scaler.state_dict(),
        "logging": plain(trainer.logger.get_checkpoint()),
        BEST_DICE: plain(best_dice(trainer)),
        "current_epoch": trainer.current_epoch + 1,
        "init_args": plain(trainer.my_init_kwargs),
        "trainer_name": type(trainer).__name__,
        "inference_allowed_mirroring_axes": trainer.inference_allowed_mirroring_axes,
        OURS: {
            "version": __version__,
            "network": class_path(network),
            "recipe": trainer.recipe.as_dict(),
        },
    }


def restore(trainer: Any, checkpoint: dict[str, Any], file: Path) -> None:
    """Give a trainer the state that ``state_of`` wrote.

    Args:
        trainer: initialized.
        checkpoint: its content.
        file: where it lies, for messages.

    Raises:
        UserError: the weights are of another network.
    """
    load_weights(trainer.bare_network(), checkpoint, file)
    trainer.my_init_kwargs = checkpoint["init_args"]
    trainer.current_epoch = checkpoint["current_epoch"]
    trainer.logger.load_checkpoint(checkpoint["logging"])
    set_best_dice(trainer, checkpoint[BEST_DICE])
    trainer.inference_allowed_mirroring_axes = checkpoint["inference_allowed_mirroring_axes"]
    trainer.optimizer.load_state_dict(checkpoint["optimizer_state"])
    if trainer.grad_scaler is not None and checkpoint["grad_scaler_state"] is not None:
        trainer.grad_scaler.load_state_dict(checkpoint["grad_scaler_state"])
