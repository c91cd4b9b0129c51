"""Checks of one dataset on its way: raw, preprocessed, plans, trained folds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_ext.doctor.finding import Finding, guarded, note, ok, problem
from nnunet_ext.doctor.reading import entries, read_or_fault, shortened, without_remedy
from nnunet_ext.doctor.trained_models import check_models
from nnunet_ext.errors import UserError
from nnunet_ext.folders import RAW, VARIABLES, dataset_folders, nnunet_folder
from nnunet_ext.nnunet_json import read_dataset_json, read_fingerprint, read_splits
from nnunet_ext.planning.plans_file import OURS, counts_more_than_is_kept, read_plans
from nnunet_ext.shown import command
from nnunet_ext.trainers import splits

SPLITS = "splits_final.json"
#: what reading the folds that are trained with gave: them, or why not
Folds = tuple[list[dict[str, list[str]]] | None, UserError | None]
DEFAULT_FOLDS = 5
# a conversion that runs again leaves these files as they are, so that a bad one must go first
CONVERT_ANEW = "remove it and convert the dataset again"


def check_files(dataset_id: int) -> Iterator[Finding]:
    """Every file of the raw dataset against the checksum its conversion recorded; reads them all.

    A hard link follows its source, so an edited download shows here.
    """
    yield from guarded(_files(dataset_id))


def _files(dataset_id: int) -> Iterator[Finding]:
    from nnunet_ext.dataset_conversion.output.verify import changed_files

    raw = _find(RAW, dataset_id)
    if raw is None:
        return
    try:
        changed = changed_files(raw)
    except UserError as error:
        if os.path.lexists(raw / "provenance.json"):
            yield problem(without_remedy(error), error.remedy or "remove the dataset's folder and convert it again")
        else:
            yield note(str(error))
        return
    if changed:
        yield problem(
            f"{len(changed)} files of {raw.name} are gone or not what the conversion wrote, first {changed[0]}",
            f"convert again with --restart, then nnUNetv2_plan_and_preprocess -d {dataset_id} --clean",
        )
    else:
        yield ok(f"{raw.name}: every file as the conversion left it")


def check_dataset(dataset_id: int) -> Iterator[Finding]:
    """Everything known of dataset ``dataset_id`` in the three folders.

    Stale plans, differing split files, unfinished conversions, missing folds and missing probabilities.
    """
    yield from guarded(_dataset(dataset_id))


def _dataset(dataset_id: int) -> Iterator[Finding]:
    raw, preprocessed, results = (_find(variable, dataset_id) for variable in VARIABLES)
    if not (raw or preprocessed or results):
        yield problem(f"no dataset with id {dataset_id} in any of nnU-Net's folders", "'nnunet_ext convert' makes one")
        return
    if raw:
        yield from guarded(_raw(raw))
    else:
        yield note(f"dataset {dataset_id} has no raw data here: training and prediction work, planning does not")
    folds = read_or_fault(read_splits, preprocessed / SPLITS) if preprocessed else (None, None)
    if preprocessed:
        yield from guarded(_preprocessed(raw, preprocessed, folds, dataset_id))
    elif raw:
        yield note(
            f"{raw.name} is not preprocessed yet",
            f"nnUNetv2_plan_and_preprocess -d {dataset_id} --verify_dataset_integrity",
        )
    if results:
        used, _ = folds
        # nnU-Net's own five where no file says otherwise
        fold_numbers = range(len(used) if used else DEFAULT_FOLDS) if preprocessed else None
        yield from guarded(check_models(results, fold_numbers, dataset_id))


def _find(variable: str, dataset_id: int) -> Path | None:
    return next(iter(dataset_folders(nnunet_folder(variable), dataset_id)), None)


def _raw(raw: Path) -> Iterator[Finding]:
    description, wrong = read_or_fault(read_dataset_json, raw / "dataset.json")
    if wrong:
        yield problem(without_remedy(wrong), CONVERT_ANEW)
        return
    if description is None:
        unfinished = (raw / ".convert.jsonl").exists()
        yield problem(
            f"{raw} has no readable dataset.json" + (": its conversion did not finish" if unfinished else ""),
            "run the same 'nnunet_ext convert' again, it resumes" if unfinished else "convert the dataset again",
        )
        return
    ending = description.get("file_ending")
    if ending is None:
        yield problem(f"{raw / 'dataset.json'} has no file_ending, which nnU-Net needs", CONVERT_ANEW)
        return
    image_files, label_files = entries(raw / "imagesTr"), entries(raw / "labelsTr")
    dangling = [path.name for path in image_files if path.is_symlink() and not path.exists()]
    if dangling:
        yield problem(
            f"{len(dangling)} images of {raw.name} are links to files that are gone, first {sorted(dangling)[0]}",
            "bring the download back to its place, or convert again with '--link copy'",
        )
    labels = {path.name.removesuffix(ending) for path in label_files if path.name.endswith(ending)}
    images = {
        path.name.removesuffix(ending)[:-5] for path in image_files if path.name.endswith(ending) and path.exists()
    }
    if "dataset" not in description and labels != images:
        yield problem(
            f"{raw.name}: images and labels do not name the same cases, first {sorted(labels ^ images)[0]}",
            "convert the dataset again",
        )
    elif "dataset" not in description and len(images) != description.get("numTraining"):
        yield problem(
            f"{raw.name}: dataset.json says {description.get('numTraining')} training cases, {len(images)} are there",
            "convert the dataset again",
        )
    else:
        channels = len(description.get("channel_names", {}))
        yield ok(f"{raw}: {description.get('numTraining')} training cases, {channels} channels")


def _preprocessed(raw: Path | None, preprocessed: Path, folds: Folds, dataset_id: int) -> Iterator[Finding]:
    yield from _splits(raw, preprocessed, folds)
    again = f"nnUNetv2_plan_and_preprocess -d {dataset_id} --clean --verify_dataset_integrity"
    fingerprint = preprocessed / "dataset_fingerprint.json"
    stored, wrong = read_or_fault(read_dataset_json, preprocessed / "dataset.json")
    if wrong:
        yield problem(without_remedy(wrong), f"remove it, then {again}")
    original = read_or_fault(read_dataset_json, raw / "dataset.json")[0] if raw else None
    measured, wrong = read_or_fault(read_fingerprint, fingerprint)
    if wrong:
        yield problem(without_remedy(wrong), f"remove it, then nnUNetv2_extract_fingerprint -d {dataset_id}")
    if original is not None and stored is not None and _training_relevant(original) != _training_relevant(stored):
        yield problem(
            f"{preprocessed} was made from another version of the dataset: channels, labels or number of cases differ",
            again,
        )
    cases = len(measured["spacings"]) if measured else 0
    if original and measured and cases != original.get("numTraining"):
        yield problem(
            f"{fingerprint} describes {cases} cases, the dataset has {original.get('numTraining')}: stale", again
        )
    for plans_file in sorted(preprocessed.glob("*lans*.json")):
        yield from _plans(plans_file, fingerprint if measured else None, dataset_id)


def _training_relevant(description: dict[str, Any]) -> dict[str, Any]:
    return {
        key: description.get(key)
        for key in ("channel_names", "labels", "regions_class_order", "numTraining", "file_ending")
    }


def _splits(raw: Path | None, preprocessed: Path, folds: Folds) -> Iterator[Finding]:
    wanted, wrong = read_or_fault(read_splits, raw / SPLITS) if raw else (None, None)
    if wrong:
        yield problem(without_remedy(wrong), CONVERT_ANEW)
    used, wrong = folds
    if wrong:
        yield problem(
            without_remedy(wrong),
            "put back the folds that were trained with, or remove it before any training: nnU-Net makes new ones",
        )
    if raw and wanted and used and not splits.agree(wanted, used):
        yield problem(
            splits.warning(raw / SPLITS, preprocessed / SPLITS),
            "remove the old file in the preprocessed folder if no trained fold depends on it",
        )
    elif used:
        yield ok(f"{len(used)} folds in {preprocessed / SPLITS}")


def _plans(plans_file: Path, fingerprint: Path | None, dataset_id: int) -> Iterator[Finding]:
    # nnU-Net's planner reads an old file of the same name before it writes, so that a bad one must go first.
    again = f"nnUNetv2_plan_experiment -d {dataset_id}"
    plans, wrong = read_or_fault(read_plans, plans_file)
    if wrong:
        yield problem(without_remedy(wrong), f"remove it, then plan again as before, such as with {again}")
        return
    name = plans["plans_name"]
    options = [word for word in (name, *plans["configurations"]) if word.startswith("-")]
    if options:
        yield problem(
            f"{plans_file} has the name {options[0]}, which commands read as an option",
            "give it a name without the hyphen in front",
        )
        return
    if name != plans_file.stem:
        yield problem(
            f"{plans_file} calls itself {name}; results would go to a folder of that name",
            "make plans_name and file name equal",
        )
    if fingerprint and plans_file.stat().st_mtime < fingerprint.stat().st_mtime:
        yield problem(f"{plans_file} is older than {fingerprint.name}: the plans are stale", again)
    yield from _older_than_recomputation(plans, dataset_id)
    missing = []
    for configuration, settings in plans["configurations"].items():
        identifier = settings.get("data_identifier")
        if identifier and not (plans_file.parent / identifier).is_dir():
            missing.append(configuration)
    if missing:
        yield note(
            f"{name}: no preprocessed data for {shortened(missing)}",
            command(["nnUNetv2_preprocess", "-d", dataset_id, "-plans_name", name, "-c", *missing]),
        )
    else:
        yield ok(f"{name}: {shortened(plans['configurations'])}")


def _older_than_recomputation(plans: dict[str, Any], dataset_id: int) -> Iterator[Finding]:
    """Plans that counted more memory than their network keeps today."""
    made, name = plans.get(OURS, {}), plans["plans_name"]
    # small plans follow no memory, and of a variant without a trainer nobody knows what to ask for
    if not counts_more_than_is_kept(plans) or "small" in made or (made.get("options") and not made.get("trainer")):
        return
    asked = ["-tr", made["trainer"]] if made.get("trainer") else ["-a", made["network"]]
    target = ["-gpu_memory_target", made["gpu_memory_target_in_gb"]]
    yield note(
        f"{name} was made when {made['network']} kept more memory in training: it goes on working, new plans may have "
        "larger patches or batches",
        command(["nnunet_ext", "plan", "-d", dataset_id, *asked, *target, "-overwrite_plans_name", f"{name}_new"]),
    )
