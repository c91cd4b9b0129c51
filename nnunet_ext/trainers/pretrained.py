"""Start checkpoints: a trainer's network with published weights in its encoders, or in all of it, for nnU-Net's
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

from nnunet_ext.architectures.pretrained import UnknownWindowsError
from nnunet_ext.errors import UserError
from nnunet_ext.families import ENCODERS, trainers_of
from nnunet_ext.folders import PREPROCESSED, dataset_name
from nnunet_ext.planning.dataset_json import dataset_json_of
from nnunet_ext.planning.plans_file import read_plans, refuse_foreign_classes
from nnunet_ext.shown import abridged, joined
from nnunet_ext.trainers import checkpoints, hub_weights
from nnunet_ext.trainers.reference_weights import load_reference, without_wrapper
from nnunet_ext.trainers.registry import check_trainer_name, did_you_mean_trainer, resolve, row_of

#: keys under which training scripts keep a state dict beside other things
WRAPPERS = ("state_dict", "model", "net", "network", "model_state_dict")
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
    reference: str = "",
) -> str:
    """Write ``output`` and return the report.

    Args:
        dataset_id, configuration, trainer, plans_name: what will be trained.
        sources: part of the network (``families.ENCODERS``) -> a name of timm's, a name of torchvision's behind
            ``torchvision:``, or a file.
        window: that a transformer's file was trained with, one for all stages or one each; None: as the file or timm
            tells.
        output: ``.pth`` file.
        trust: import whatever classes the plans name.
        reference: file of a whole network under the published names, instead of ``sources``.

    Raises:
        UserError: nothing to load, or both; an unknown trainer, name or part; no network; weights of another size.
    """
    check_trainer_name(trainer)
    trainer_class: Any = resolve(trainer)
    if trainer_class is None:
        raise UserError(f"{trainer} is no trainer of this plugin", remedy=did_you_mean_trainer(trainer))
    if not sources and not reference:
        options = joined([*(f"--{part}" for part in ENCODERS), "--reference"], "or")
        raise UserError("no weights were named", remedy=f"give {options}")
    if sources and reference:
        raise UserError("--reference holds a whole network, encoders included", remedy="give it alone")
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
    channels = determine_num_input_channels(plans, manager, dataset_json)
    classes = plans.get_label_manager(dataset_json).num_segmentation_heads
    torch.manual_seed(SEED)
    network = trainer_class.build_network_architecture(
        plans, manager, channels, classes, trainer_class.recipe.deep_supervision
    )
    if reference:
        lines = [_load_reference(trainer_class, network, manager, channels, classes, reference)]
    else:
        lines = _load_encoders(trainer, network, sources, window, len(manager.patch_size))
    checkpoints.write(
        {"network_weights": network.state_dict(), checkpoints.OURS: {"network": checkpoints.class_path(network)}},
        output,
    )
    return "\n".join(lines)


def _load_reference(trainer: Any, network: Any, manager: Any, channels: int, classes: int, reference: str) -> str:
    if not trainer.builds_published_network:
        papers = [row.name for row in trainers_of(_network_of(trainer)) if row.published]
        raise UserError(
            f"{trainer.__name__} builds a network from plans, which no published weights fit",
            remedy=f"train {joined(papers, 'or')}" if papers else "start at random: no trainer takes published weights",
        )
    weights = without_wrapper(_read_file(Path(reference)))
    try:
        report = load_reference(
            network,
            weights,
            lambda number: trainer.network_for_weights(weights, manager, channels, number),
            classes,
        )
    except (ValueError, RuntimeError) as error:
        first, *more = str(error).splitlines()
        raise UserError(
            f"{first} {more[0].strip()}" if more else first,
            file=reference,
            remedy="choose the published weights of this trainer's network, for images with as many channels",
        ) from error
    return f"{reference}: {report}"


def _network_of(trainer: Any) -> str:
    row = row_of(trainer.__name__)
    assert row is not None  # resolve found it there
    return row.network


def _load_encoders(
    trainer: str, network: Any, sources: dict[str, str], window: Sequence[int] | None, axes: int
) -> list[str]:
    load = getattr(network, "load_pretrained", None)
    if load is None:
        raise UserError(f"{type(network).__name__} of {trainer} has no encoder with published weights")
    lines = []
    for part, source in sources.items():
        weights, windows = read_weights(source, part)
        if window is not None and hub_weights.has_windows(part):
            windows = window[0] if len(window) == 1 else [(edge,) * axes for edge in window]
        try:
            report = load(part, weights) if windows is None else load(part, weights, windows)
        except UnknownWindowsError as error:
            raise UserError(
                "the file does not tell the windows that its weights were trained with",
                file=source,
                remedy="give --window, such as --window 8 for swinv2_tiny_window8_256, --window 12 12 12 6 for "
                "swinv2_base_window12_192",
            ) from error
        except (ValueError, RuntimeError) as error:
            raise UserError(
                str(error).splitlines()[0],
                file=source,
                remedy="choose weights of the size that this trainer's network has",
            ) from error
        lines.append(f"{part} from {source}: {report.as_text()}")
    return lines


def read_weights(source: str, part: str) -> tuple[dict[str, torch.Tensor], Any]:
    """State dict of a file or of a hub, and for a transformer the windows that it was trained with, where the hub
    tells them (else None).

    Nothing in a file is executed.

    Raises:
        UserError: no such file or name, a file that holds something else; ``NotFetchedError``: no network for the hub.
    """
    if hub_weights.is_file(source):
        return _read_file(Path(source)), None
    return hub_weights.fetch(source, part)


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
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    if not isinstance(content, dict) or not all(
        isinstance(key, str) and isinstance(value, torch.Tensor) for key, value in content.items()
    ):
        raise UserError("the file holds no state dict", file=path)
    for key, value in content.items():
        if value.is_complex() or value.is_quantized or value.layout != torch.strided:
            raise UserError(f"the tensor {abridged(key)} holds no plain numbers", file=path)
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise UserError(f"the tensor {abridged(key)} holds numbers that are not finite", file=path)
    return content
