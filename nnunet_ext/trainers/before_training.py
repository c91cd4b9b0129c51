"""What a trainer looks at before its first step: its name, the previous stage of a cascade, folds and mirroring."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunetv2.paths import nnUNet_raw

from nnunet_ext.errors import UserError
from nnunet_ext.shown import joined
from nnunet_ext.trainers import mirror_axes, registry, splits

# Ensemble folders join two names of result folders, 17 characters and the folds; file systems allow 255 bytes.
MAX_FOLDER_NAME = 110


def notes_on_name(trainer: Any) -> Iterator[str]:
    """Lines for the log: that a name has another spelling, and that the folder of the results has a long name."""
    if type(trainer).__module__ == registry.__name__:
        name = type(trainer).__name__
        canonical = registry.canonical_name(name)
        if canonical != name:
            yield f"{name} is {canonical} spelled otherwise; results are stored under the name as given"
    folder = Path(trainer.output_folder_base).name
    if len(folder) > MAX_FOLDER_NAME:
        yield f"WARNING: {folder} is so long that nnU-Net may fail to create the folders of its ensembles"


def require_previous_stage(trainer: Any) -> None:
    """
    Raises:
        UserError: predictions of the stage before this one of a cascade are missing.
    """
    if not trainer.is_cascaded:
        return
    folder = Path(trainer.folder_with_segs_from_previous_stage)
    predicted = {file.stem for file in folder.glob("*")}
    missing = sorted({case for part in trainer.do_split() for case in part} - predicted)
    if missing:
        stage = trainer.configuration_manager.previous_stage_name
        raise UserError(
            f"{trainer.configuration_name} needs the predictions of {stage} by the same trainer; {len(missing)} are "
            f"missing, the first: {missing[0]}",
            file=folder,
            remedy=f"train every fold of {stage} first, with -tr {type(trainer).__name__}",
        )


def notes_on_folds(trainer: Any) -> Iterator[str]:
    """A line for the log where the folds of the raw dataset are not those that are trained with."""
    if nnUNet_raw.is_set() and trainer.fold != "all":
        difference = splits.difference(
            Path(nnUNet_raw) / trainer.plans_manager.dataset_name / "splits_final.json",
            Path(trainer.preprocessed_dataset_folder_base) / "splits_final.json",
        )
        if difference:
            yield f"WARNING: {difference}"


def notes_on_mirroring(trainer: Any) -> Iterator[str]:
    """A line for the log where dataset.json forbids to mirror along some axes and the recipe would."""
    if trainer.unmirrored_axes and trainer.recipe.mirroring:
        axes = joined([str(axis) for axis in trainer.unmirrored_axes])
        yield (
            f"no mirroring along axis {axes} of the patches, neither in augmentation nor at test time: dataset.json "
            f"forbids it ({mirror_axes.KEY})"
        )
