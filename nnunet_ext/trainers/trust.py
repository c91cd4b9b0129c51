"""What ``nnunet_ext train`` and ``predict`` look at before nnU-Net imports classes and unpickles checkpoints by name.

A plans file names classes by import path and folders by name, a dataset.json and folds name files, and a checkpoint is
a pickle: each can run code of whoever wrote it, or reach files that are none of its business. Our own commands refuse
what is not nnU-Net's, torch's or this plugin's, unless told ``--trust``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext import folders, forms
from nnunet_ext.errors import UserError
from nnunet_ext.files import is_component
from nnunet_ext.forms import check_form
from nnunet_ext.nnunet_json import read_dataset_json, read_splits
from nnunet_ext.planning.plans_file import FLAG, REMEDY, read_plans, refuse_foreign_classes
from nnunet_ext.shown import abridged

#: what our commands show above nnU-Net's own help, which knows nothing of the option
HELP = (
    "{program} takes the arguments of {stock}, which are shown below, and one of its own:\n"
    f"  {FLAG}  do not look at plans, folds and checkpoints before nnU-Net opens them; without it, those that could\n"
    "           run foreign code or reach other folders are refused in one line (docs/trainers.md)\n"
)


def checked_training(argv: Sequence[str]) -> list[str]:
    """The arguments for ``nnUNetv2_train``, once plans and checkpoints that it will load were looked at.

    Raises:
        UserError: plans that name other classes, or a checkpoint that holds more than tensors and plain types.
    """
    arguments = [argument for argument in argv if argument != FLAG]
    if FLAG in argv or asks_for_help(argv):
        return arguments
    parser = _parser()
    for name in ("dataset", "configuration", "fold"):
        parser.add_argument(name, nargs="?")
    parser.add_argument("-pretrained_weights")
    for flag in ("--c", "--val", "--val_best"):
        parser.add_argument(flag, action="store_true")
    known, _ = parser.parse_known_args(arguments)
    if known.dataset and known.configuration and known.fold:
        preprocessed = _dataset_folder("nnUNet_preprocessed", known.dataset)
        plans = preprocessed / f"{known.p}.json"
        if plans.exists():  # otherwise nnU-Net says so itself
            _require_own_names(_check_plans(plans), preprocessed.name, known.p, plans)
        _check_json(preprocessed / "dataset.json", read_dataset_json)
        _check_json(preprocessed / "splits_final.json", read_splits)
        model = _model_folder(known.dataset, known.tr, known.p, known.configuration)
        if known.c or known.val or known.val_best:
            _check_checkpoints((model / f"fold_{_fold(known.fold)}").glob("checkpoint_*.pth"))
    if known.pretrained_weights:
        _check_checkpoints([Path(known.pretrained_weights)])
    return arguments


def checked_prediction(argv: Sequence[str]) -> list[str]:
    """The same for ``nnUNetv2_predict``: the model's plans, and the checkpoint of each fold."""
    arguments = [argument for argument in argv if argument != FLAG]
    if FLAG in argv or asks_for_help(argv):
        return arguments
    parser = _parser()
    parser.add_argument("-d")
    parser.add_argument("-c")
    parser.add_argument("-f", nargs="+", default=("0", "1", "2", "3", "4"))
    parser.add_argument("-chk", default="checkpoint_final.pth")
    known, _ = parser.parse_known_args(arguments)
    if known.d and known.c:
        model = _model_folder(known.d, known.tr, known.p, known.c)
        if (model / "plans.json").exists():
            _check_plans(model / "plans.json")
        _check_json(model / "dataset.json", read_dataset_json)
        _check_checkpoints(model / f"fold_{_fold(fold)}" / known.chk for fold in known.f)
    return arguments


@dataclass(frozen=True)
class ModelFiles:
    """What the files of one fold of a model hold, looked at.

    Attributes:
        plans, dataset: content of plans.json and dataset.json.
        checkpoint: with ``network_weights``, ``trainer_name`` and ``init_args``; its tensors are on the CPU.
        file: of the checkpoint.
    """

    plans: dict[str, Any]
    dataset: dict[str, Any]
    checkpoint: dict[str, Any]
    file: Path


def checked_model(folder: Path, fold: str, checkpoint: str, trusted: bool = False) -> ModelFiles:
    """The files of a fold of a model, for commands of ours that load it themselves.

    Args:
        folder: ``TRAINER__PLANS__CONFIGURATION``.
        fold: number of the fold, or ``"all"``.
        checkpoint: name of the file in its folder.
        trusted: follow whatever classes the plans name. A checkpoint is never executed, trusted or not.

    Raises:
        UserError: a file is missing, or is not what nnU-Net writes; plans that name other classes.
    """
    if not is_component(checkpoint) or not (fold == "all" or fold.isdecimal()):
        raise UserError(f"'{abridged(fold)}' and '{abridged(checkpoint)}' name no checkpoint of a model", file=folder)
    plans = read_plans(folder / "plans.json") if trusted else _check_plans(folder / "plans.json")
    try:
        dataset = read_dataset_json(folder / "dataset.json")
    except FileNotFoundError as error:
        raise UserError("the model has no dataset.json", file=folder, remedy="copy it from the dataset") from error
    file = folder / f"fold_{_fold(fold)}" / checkpoint
    if not file.exists():
        raise UserError("there is no such checkpoint", file=file, remedy="give -f and -chk of one that was trained")
    content = _read_checkpoint(file, _OTHER_CHECKPOINT)
    check_form(content, _NAMING_CHECKPOINT, "a checkpoint of nnU-Net", file, _OTHER_CHECKPOINT)
    return ModelFiles(plans, dataset, content, file)


def asks_for_help(argv: Sequence[str]) -> bool:
    """Whether nnU-Net will show its help and do nothing."""
    return "-h" in argv or "--help" in argv


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-tr", default="nnUNetTrainer")
    parser.add_argument("-p", default="nnUNetPlans")
    # Not looked at, but argparse would read an unknown '-device cpu' as '-d evice', or its value as a data set.
    for option in ("-device", "-num_gpus", "-prev_stage_predictions", "-part_id"):
        parser.add_argument(option)
    return parser


def _dataset_folder(variable: str, dataset: str) -> Path:
    """
    Raises:
        UserError: one of nnU-Net's folders is not set; no dataset, or two, of that id; a name that is none.
    """
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    if dataset.isdecimal():
        known = tuple(name for name in folders.VARIABLES if folders.nnunet_folder(name) is not None)
        name = folders.dataset_name(int(dataset), known or folders.VARIABLES)
    else:
        try:
            name = maybe_convert_to_dataset_name(dataset)
        except (RuntimeError, ValueError) as error:
            raise UserError(
                f"'{abridged(dataset)}' names no dataset",
                remedy="give its id, or its folder's name: Dataset137_BraTS2021",
            ) from error
    folder = folders.nnunet_folder(variable)
    if folder is None:
        raise UserError(f"{variable} is not set", remedy=f"export {variable}=FOLDER")
    return folder / name


def _model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    return _dataset_folder("nnUNet_results", dataset) / f"{trainer}__{plans}__{configuration}"


def _fold(given: str) -> str:
    """The number of a fold as nnU-Net reads it: ``00`` is fold 0."""
    return str(int(given)) if given.isdecimal() else given


def _check_plans(file: Path) -> dict[str, Any]:
    plans = read_plans(file)
    refuse_foreign_classes(plans, file)
    return plans


def _require_own_names(plans: dict[str, Any], dataset: str, name: str, file: Path) -> None:
    """nnU-Net trains in the folder that the names inside the plans make up. With the names of another model of the
    user's there, it would load and overwrite that model."""
    for key, expected in (("dataset_name", dataset), ("plans_name", name)):
        if plans[key] != expected:
            raise UserError(
                f"the plans call themselves {key} {plans[key]}, not {expected}, and nnU-Net would train in that folder",
                file=file,
                remedy=f"write {expected} there; if you trust whoever wrote the file, add {FLAG}",
            )


def _check_json(file: Path, read: Callable[[Path], Any]) -> None:
    if file.exists():
        read(file)


def _check_checkpoints(files: Iterator[Path] | Sequence[Path]) -> None:
    for file in files:
        if file.exists():  # otherwise nnU-Net says so itself
            check_form(_read_checkpoint(file, REMEDY), _CHECKPOINT, "a checkpoint of nnU-Net", file, REMEDY)


def _read_checkpoint(file: Path, remedy: str) -> dict[str, Any]:
    import torch

    from nnunet_ext.trainers import checkpoints

    try:
        return checkpoints.read(file, torch.device("cpu"))
    except UserError as error:
        raise UserError(error.message, file=file, remedy=remedy) from error


_OTHER_CHECKPOINT = "give -f and -chk of a checkpoint that nnU-Net or this plugin wrote"
# What nnU-Net looks up by name. The rest, such as weights, is for the trainer to compare with its own.
_CHECKPOINT = forms.record(
    {},
    {
        "trainer_name": forms.identifier,
        "init_args": forms.record({}, {"configuration": forms.component}),
    },
)
_NAMING_CHECKPOINT = forms.record(
    {"trainer_name": forms.identifier, "init_args": forms.record({"configuration": forms.component})}
)
