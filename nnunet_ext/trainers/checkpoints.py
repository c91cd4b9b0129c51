"""Checkpoint files: whole at any moment, read without running what they hold, refused if of another training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.files import write_atomically
from nnunet_ext.planning.private_nnunet import BEST_DICE

OURS = "nnunet_ext"  # key of what this plugin adds to nnU-Net's checkpoint: version, network, recipe
#: what nnU-Net's checkpoints hold beside the weights
TRAINING_STATE = (
    "optimizer_state",
    "grad_scaler_state",
    "logging",
    BEST_DICE,
    "current_epoch",
    "init_args",
    "trainer_name",
    "inference_allowed_mirroring_axes",
)
PARTIAL = ".partial"
PREVIOUS = "_previous"
# In the order in which they are set aside: a kill in between leaves the one that says the training is finished.
NAMES = ("checkpoint_best.pth", "checkpoint_latest.pth", "checkpoint_final.pth")


def plain(content: Any) -> Any:
    """NumPy scalars as Python numbers and devices as text, so that ``torch.load(weights_only=True)`` accepts the
    file."""
    if isinstance(content, dict):
        return {key: plain(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(plain(value) for value in content)
    if isinstance(content, np.generic):
        return content.item()
    return str(content) if isinstance(content, torch.device) else content


def write(content: dict[str, Any], file: Path) -> None:
    """Writes a checkpoint so that ``file`` is at any moment the old one or the new one, whole.

    Raises:
        UserError: it cannot be written (disk full, no permission). The old file stays.
    """
    try:
        # a fixed name, by which ``clean`` finds it again
        with write_atomically(file, temporary=file.with_name(file.name + PARTIAL), sync=True) as stream:
            torch.save(content, stream)
    except (OSError, RuntimeError) as error:
        # torch's zip writer turns a full disk into a RuntimeError of its own, with the OSError as context
        cause = error if isinstance(error, OSError) else error.__context__ or error
        raise UserError(
            f"checkpoint could not be written: {cause}",
            file=file,
            remedy="free some space or check permissions, then continue the training with --c",
        ) from error


def clean(folder: Path) -> None:
    """Removes what a killed training left half-written."""
    for name in NAMES:
        (folder / (name + PARTIAL)).unlink(missing_ok=True)


def set_aside(folder: Path) -> list[Path]:
    """Renames the checkpoints of an earlier training to ``checkpoint_*_previous.pth``; returns the new files.

    Otherwise ``--c`` after a killed second training would take up the finished first one.
    """
    moved = []
    for file in (folder / name for name in NAMES):
        if file.is_file():
            moved.append(file.replace(file.with_name(file.stem + PREVIOUS + file.suffix)))
    return moved


@contextmanager
def _stock_types_allowed() -> Iterator[None]:
    # Checkpoints of stock trainers hold NumPy scalars; with them allowed, the message can say whose checkpoint it is.
    if not hasattr(torch.serialization, "safe_globals"):  # torch < 2.5
        yield
        return
    scalar = np.float64(0).__reduce__()[0]  # what unpickles NumPy's scalars; releases keep it in different modules
    allowed = [scalar, np.dtype, *(type(np.dtype(kind)) for kind in ("f4", "f8", "i8"))]
    with torch.serialization.safe_globals(allowed):
        yield


def read(file: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint with its tensors on ``device``. Nothing in the file is executed.

    Raises:
        UserError: torn, not a checkpoint, or of a trainer whose checkpoints hold more than tensors and plain types.
    """
    if file.exists() and not file.is_file():  # a pipe would never end
        raise UserError("checkpoint is not a regular file", file=file, remedy="put the file itself there")
    try:
        with _stock_types_allowed():
            checkpoint = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # damaged bytes make torch and pickle raise errors of nearly every type
        raise UserError(
            f"checkpoint is torn, or was not written by this plugin ({type(error).__name__})",
            file=file,
            remedy="remove it; --c then takes the next of checkpoint_final, checkpoint_latest and checkpoint_best",
        ) from error
    weights = checkpoint.get("network_weights") if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise UserError("not a checkpoint of nnU-Net", file=file, remedy="remove it, then continue with --c")
    return checkpoint


def require_training_state(checkpoint: dict[str, Any], file: Path) -> None:
    """
    Raises:
        UserError: the checkpoint holds weights alone, so that no training can be taken up from it.
    """
    lacking = [key for key in TRAINING_STATE if key not in checkpoint]
    if lacking:
        raise UserError(
            f"the checkpoint has no {lacking[0]}, so no training can be continued from it",
            file=file,
            remedy="start from its weights with -pretrained_weights instead of --c",
        )


def load_weights(network: nn.Module, checkpoint: dict[str, Any], file: Path) -> None:
    """Loads the network's weights, strictly.

    Raises:
        UserError: they are those of another network.
    """
    weights, own = checkpoint["network_weights"], network.state_dict()
    wrong = [
        *(f"{key} is missing" for key in own if key not in weights),
        *(f"{key} is unknown" for key in weights if key not in own),
        *(
            f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in weights and weights[key].shape != own[key].shape
        ),
    ]
    foreign = {key: value for key, value in weights.items() if key not in own}
    try:
        # Weights that do not fit change nothing: of them only names are shown that the network may know.
        network.load_state_dict(foreign if wrong else weights, strict=not wrong)
    except UserError as error:
        raise UserError(error.message, file=file, remedy=error.remedy) from error
    if wrong:
        written_by = checkpoint.get(OURS, {}).get("network", "another network")
        raise UserError(
            f"checkpoint of {written_by} does not fit {class_path(network)} with these plans: {len(wrong)} weights "
            f"differ, the first: {wrong[0]}",
            file=file,
            remedy="train with the trainer and plans that wrote it, or start anew without --c",
        )


def class_path(network: nn.Module) -> str:
    """Import path of a network's class."""
    return f"{type(network).__module__}.{type(network).__qualname__}"
