"""Start checkpoints: a trainer's network with published weights in its encoders, for nnU-Net's
``-pretrained_weights``."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from nnunetv2.paths import nnUNet_preprocessed
from nnunetv2.utilities.label_handling.label_handling import determine_num_input_channels
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext.architectures.pretrained import swin_windows
from nnunet_ext.errors import UserError
from nnunet_ext.families import TRAINERS
from nnunet_ext.folders import PREPROCESSED, dataset_name
from nnunet_ext.lookup import did_you_mean
from nnunet_ext.planning.dataset_json import dataset_json_of
from nnunet_ext.planning.plans_file import read_plans, refuse_foreign_classes
from nnunet_ext.trainers import checkpoints
from nnunet_ext.trainers.registry import check_trainer_name, resolve

#: part of a network -> pattern of the names of encoders for it on timm's hub, and behind TORCHVISION on torchvision's
HUB_NAMES = {"cnn": "resnet*", "transformer": "swinv2_*"}
TORCHVISION = "torchvision:"
TORCHVISION_NAMES = {"cnn": "resnet*", "transformer": "swin_v2_*"}
TORCHVISION_WEIGHTS = "IMAGENET1K_V1"
SEED = 0  # of what stays random, so that the same command writes the same file


def start_checkpoint(
    dataset_id: int,
    configuration: str,
    trainer: str,
    plans_name: str,
    sources: dict[str, str],
    window: Sequence[int] | None,
    output: Path,
    trust: bool = False,
) -> str:
    """Write ``output`` and return the report.

    Args:
        dataset_id, configuration, trainer, plans_name: what will be trained.
        sources: part of the network (``"cnn"``, ``"transformer"``) -> a name of timm's, a name of torchvision's behind
            ``torchvision:``, or a file.
        window: that a transformer's file was trained with, one for all stages or one each; None: as the file or timm
            tells.
        output: ``.pth`` file.
        trust: import whatever classes the plans name.

    Raises:
        UserError: nothing to load; an unknown trainer, name or part; no network; weights of another size.
    """
    check_trainer_name(trainer)
    trainer_class: Any = resolve(trainer)
    if trainer_class is None:
        raise UserError(f"{trainer} is no trainer of this plugin", remedy=f"choose from {', '.join(TRAINERS)}")
    if not sources:
        raise UserError("no weights were named", remedy="give --cnn or --transformer")
    name = dataset_name(dataset_id, (PREPROCESSED,))
    file = Path(nnUNet_preprocessed) / name / f"{plans_name}.json"
    content = read_plans(file)
    if not trust:
        refuse_foreign_classes(content, file)
    if configuration not in content["configurations"]:
        raise UserError(f"the plans have no configuration {configuration}", file=file)
    plans = PlansManager(trainer_class.adapted_plans(content, configuration))
    manager = plans.get_configuration(configuration)
    dataset_json = dataset_json_of(content)
    torch.manual_seed(SEED)
    network = trainer_class.build_network_architecture(
        plans,
        manager,
        determine_num_input_channels(plans, manager, dataset_json),
        plans.get_label_manager(dataset_json).num_segmentation_heads,
        trainer_class.recipe.deep_supervision,
    )
    load = getattr(network, "load_pretrained", None)
    if load is None:
        raise UserError(f"{type(network).__name__} of {trainer} has no encoder with published weights")
    lines = []
    for part, source in sources.items():
        weights, windows = read_weights(source, part)
        if window is not None and part == "transformer":
            axes = len(manager.patch_size)
            windows = window[0] if len(window) == 1 else [(edge,) * axes for edge in window]
        if part == "transformer" and windows is None:
            raise UserError(
                "the file does not tell the windows that its weights were trained with",
                file=source,
                remedy="give --window, such as --window 8 for swinv2_tiny_window8_256, --window 12 12 12 6 for "
                "swinv2_base_window12_192",
            )
        try:
            report = load(part, weights, windows) if part == "transformer" else load(part, weights)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                str(error).splitlines()[0],
                file=source,
                remedy="choose weights of the size that this trainer's network has",
            ) from error
        lines.append(f"{part} from {source}: {report.as_text()}")
    checkpoints.write(
        {"network_weights": network.state_dict(), checkpoints.OURS: {"network": checkpoints.class_path(network)}},
        output,
    )
    return "\n".join(lines)


def read_weights(source: str, part: str) -> tuple[dict[str, torch.Tensor], Any]:
    """State dict of a file or of a hub, and for a transformer the windows that it was trained with (None: not
    known).

    Nothing in a file is executed.

    Raises:
        UserError: no such file or name, a file that holds something else, no network for the hub.
    """
    path = Path(source)
    if path.suffix in (".pth", ".pt", ".bin", ".safetensors") or path.is_file():
        weights = _read_file(path)
        return weights, swin_windows(weights) if part == "transformer" else None
    if source.startswith(TORCHVISION):
        weights = _from_torchvision(source.removeprefix(TORCHVISION), part)
        return weights, swin_windows(weights) if part == "transformer" else None
    return _from_hub(source, part)


def _read_file(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError("there is no such file of weights", file=path) from error
    except Exception as error:  # damaged bytes raise errors of nearly every type
        kind = "holds more than tensors" if isinstance(error, pickle.UnpicklingError) else "cannot be read"
        raise UserError(f"the file of weights {kind} ({type(error).__name__})", file=path) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError("the file holds no state dict", file=path)
    return content


def _from_torchvision(name: str, part: str) -> dict[str, torch.Tensor]:
    """What CFFormer's authors started from."""
    from torchvision import models

    known = models.list_models(include=TORCHVISION_NAMES[part])
    if name not in known:
        remedy = did_you_mean(name, known, f"choose from {', '.join(known)}")
        raise UserError(f"torchvision has no {part} '{name}'", remedy=remedy)
    try:
        return models.get_model(name, weights=TORCHVISION_WEIGHTS).state_dict()
    except Exception as error:  # as of timm's hub
        raise _not_fetched(TORCHVISION + name, error) from error


def _not_fetched(name: str, error: Exception) -> UserError:
    reason = (str(error).splitlines() or [""])[0]
    return UserError(
        f"the weights of {name} could not be fetched ({type(error).__name__}: {reason})",
        remedy="download them on a machine with a network and give the file",
    )


def _from_hub(name: str, part: str) -> tuple[dict[str, torch.Tensor], Any]:
    import timm

    architecture = name.removeprefix("timm:").partition(".")[0]
    known = timm.list_models(HUB_NAMES[part])
    if architecture not in known:
        example = {"cnn": "resnet34.a1_in1k", "transformer": "swinv2_tiny_window8_256.ms_in1k"}[part]
        remedy = f"give a name such as {example}, or a file that ends in .pth, .pt, .bin or .safetensors"
        raise UserError(f"timm has no {part} '{name}'", remedy=did_you_mean(architecture, known, remedy))
    try:
        model = timm.create_model(name.removeprefix("timm:"), pretrained=True)
    except Exception as error:  # the hub's client raises errors of many types
        raise _not_fetched(name, error) from error
    windows = None
    if part == "transformer":
        stages: Any = model.layers
        windows = [_trained_window(stage.blocks[0].attn) for stage in stages]
    return model.state_dict(), windows


def _trained_window(attention: Any) -> tuple[int, ...]:
    trained = tuple(attention.pretrained_window_size)
    return trained if all(trained) else tuple(attention.window_size)
