"""What ``nnunet_ext train`` and ``predict`` look at before nnU-Net imports classes and unpickles checkpoints by name.

A plans file names classes by import path, and a checkpoint is a pickle: both can run code of whoever wrote them. Our
own commands refuse what lies outside the packages that plans of nnU-Net and of this plugin name, unless told
``--trust``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.planning.plans_file import foreign_classes, read_plans

FLAG = "--trust"
REMEDY = f"look at the file; if you trust whoever wrote it, add {FLAG}"


def checked_training(argv: Sequence[str]) -> list[str]:
    """The arguments for ``nnUNetv2_train``, once plans and checkpoints that it will load were looked at.

    Raises:
        UserError: plans that name other classes, or a checkpoint that holds more than tensors and plain types.
    """
    arguments = [argument for argument in argv if argument != FLAG]
    if FLAG in argv or _asks_for_help(argv):
        return arguments
    parser = _parser()
    for name in ("dataset", "configuration", "fold"):
        parser.add_argument(name, nargs="?")
    parser.add_argument("-pretrained_weights")
    for flag in ("--c", "--val", "--val_best"):
        parser.add_argument(flag, action="store_true")
    known, _ = parser.parse_known_args(arguments)
    if known.dataset and known.configuration and known.fold:
        _check_plans(_dataset_folder("nnUNet_preprocessed", known.dataset) / f"{known.p}.json")
        model = _model_folder(known.dataset, known.tr, known.p, known.configuration)
        if known.c or known.val or known.val_best:
            _check_checkpoints((model / f"fold_{known.fold}").glob("checkpoint_*.pth"))
    if known.pretrained_weights:
        _check_checkpoints([Path(known.pretrained_weights)])
    return arguments


def checked_prediction(argv: Sequence[str]) -> list[str]:
    """The same for ``nnUNetv2_predict``: the model's plans, and the checkpoint of each fold."""
    arguments = [argument for argument in argv if argument != FLAG]
    if FLAG in argv or _asks_for_help(argv):
        return arguments
    parser = _parser()
    parser.add_argument("-d")
    parser.add_argument("-c")
    parser.add_argument("-f", nargs="+", default=("0", "1", "2", "3", "4"))
    parser.add_argument("-chk", default="checkpoint_final.pth")
    known, _ = parser.parse_known_args(arguments)
    if known.d and known.c:
        model = _model_folder(known.d, known.tr, known.p, known.c)
        _check_plans(model / "plans.json")
        _check_checkpoints(model / f"fold_{fold}" / known.chk for fold in known.f)
    return arguments


def _asks_for_help(argv: Sequence[str]) -> bool:
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
    from nnunetv2 import paths
    from nnunetv2.utilities.dataset_name_id_conversion import maybe_convert_to_dataset_name

    return Path(getattr(paths, variable), maybe_convert_to_dataset_name(dataset))


def _model_folder(dataset: str, trainer: str, plans: str, configuration: str) -> Path:
    return _dataset_folder("nnUNet_results", dataset) / f"{trainer}__{plans}__{configuration}"


def _check_plans(file: Path) -> None:
    if not file.is_file():
        return  # nnU-Net says so itself
    refuse_foreign_classes(read_plans(file), file)


def refuse_foreign_classes(plans: dict, file: Path) -> None:
    """Stop at plans that name classes outside the packages that plans usually name.

    Raises:
        UserError: naming those classes.
    """
    foreign = foreign_classes(plans)
    if foreign:
        raise UserError(f"the plans name {', '.join(foreign)}, which would be imported", file=file, remedy=REMEDY)


def _check_checkpoints(files: Iterator[Path] | Sequence[Path]) -> None:
    import torch

    from nnunet_ext.trainers import checkpoints

    for file in files:
        if not file.is_file():
            continue  # nnU-Net says so itself
        try:
            checkpoints.read(file, torch.device("cpu"))
        except UserError as error:
            raise UserError(error.message, file=file, remedy=REMEDY) from error
