"""Checks of one dataset on its way: raw, preprocessed, plans, trained folds."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_ext.doctor.finding import Finding, note, ok, problem
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import splits

DEFAULT_FOLDS = 5


def check_files(dataset_id: int) -> Iterator[Finding]:
    """Every file of the raw dataset against the checksum its conversion recorded; reads them all.

    A hard link follows its source, so an edited download shows here.
    """
    from nnunet_ext.dataset_conversion.core.provenance import changed_files

    raw = _find("nnUNet_raw", dataset_id)
    if raw is None:
        return
    try:
        changed = changed_files(raw)
    except UserError as error:
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
    places = {name: _find(name, dataset_id) for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    if not any(places.values()):
        yield problem(f"no dataset with id {dataset_id} in any of nnU-Net's folders", "'nnunet_ext convert' makes one")
        return
    raw, preprocessed, results = places["nnUNet_raw"], places["nnUNet_preprocessed"], places["nnUNet_results"]
    if raw:
        yield from _raw(raw, dataset_id)
    else:
        yield note(f"dataset {dataset_id} has no raw data here: training and prediction work, planning does not")
    if preprocessed:
        yield from _preprocessed(raw, preprocessed, dataset_id)
    elif raw:
        yield note(
            f"{raw.name} is not preprocessed yet",
            f"nnUNetv2_plan_and_preprocess -d {dataset_id} --verify_dataset_integrity",
        )
    if results:
        for model in sorted(results.glob("*__*__*")):
            yield from _model(model, preprocessed, dataset_id)


def _find(variable: str, dataset_id: int) -> Path | None:
    folder = Path(os.environ.get(variable) or os.devnull)
    return next(iter(sorted(folder.glob(f"Dataset{dataset_id:03d}_*"))), None) if folder.is_dir() else None


def _read(file: Path) -> Any:
    """Content of a json file, or None when it is missing or broken (the caller tells)."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _raw(raw: Path, dataset_id: int) -> Iterator[Finding]:
    description = _read(raw / "dataset.json")
    if not isinstance(description, dict):
        unfinished = (raw / ".convert.jsonl").exists()
        yield problem(
            f"{raw} has no readable dataset.json" + (": its conversion did not finish" if unfinished else ""),
            "run the same 'nnunet_ext convert' again, it resumes" if unfinished else "convert the dataset again",
        )
        return
    ending = description.get("file_ending", "")
    dangling = [path.name for path in (raw / "imagesTr").glob("*") if path.is_symlink() and not path.exists()]
    if dangling:
        yield problem(
            f"{len(dangling)} images of {raw.name} are links to files that are gone, first {sorted(dangling)[0]}",
            "bring the download back to its place, or convert again with '--link copy'",
        )
    labels = {path.name.removesuffix(ending) for path in (raw / "labelsTr").glob(f"*{ending}")}
    images = {path.name.removesuffix(ending)[:-5] for path in (raw / "imagesTr").glob(f"*{ending}") if path.exists()}
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


def _preprocessed(raw: Path | None, preprocessed: Path, dataset_id: int) -> Iterator[Finding]:
    yield from _splits(raw, preprocessed)
    again = f"nnUNetv2_plan_and_preprocess -d {dataset_id} --clean --verify_dataset_integrity"
    fingerprint = preprocessed / "dataset_fingerprint.json"
    stored = _read(preprocessed / "dataset.json")
    original = _read(raw / "dataset.json") if raw else None
    if original is not None and stored is not None and _training_relevant(original) != _training_relevant(stored):
        yield problem(
            f"{preprocessed} was made from another version of the dataset: channels, labels or number of cases differ",
            again,
        )
    fingerprint_cases = len((_read(fingerprint) or {}).get("spacings", []))
    if original is not None and fingerprint.exists() and fingerprint_cases != original.get("numTraining"):
        yield problem(
            f"{fingerprint} describes {fingerprint_cases} cases, the dataset has {original.get('numTraining')}: stale",
            again,
        )
    for plans_file in sorted(preprocessed.glob("*lans*.json")):
        yield from _plans(plans_file, fingerprint, dataset_id)


def _training_relevant(description: dict[str, Any]) -> dict[str, Any]:
    return {
        key: description.get(key)
        for key in ("channel_names", "labels", "regions_class_order", "numTraining", "file_ending")
    }


def _splits(raw: Path | None, preprocessed: Path) -> Iterator[Finding]:
    used = preprocessed / "splits_final.json"
    warning = splits.difference(raw / used.name, used) if raw else None
    if warning:
        yield problem(warning, "remove the old file in the preprocessed folder if no trained fold depends on it")
    elif used.exists():
        yield ok(f"{len(_read(used) or [])} folds in {used}")


def _plans(plans_file: Path, fingerprint: Path, dataset_id: int) -> Iterator[Finding]:
    plans = _read(plans_file)
    if not isinstance(plans, dict) or "configurations" not in plans:
        yield problem(f"{plans_file} is not a readable plans file", f"nnUNetv2_plan_experiment -d {dataset_id}")
        return
    name = plans.get("plans_name")
    if name != plans_file.stem:
        yield problem(
            f"{plans_file} calls itself {name}; results would go to a folder of that name",
            "make plans_name and file name equal",
        )
    if fingerprint.exists() and plans_file.stat().st_mtime < fingerprint.stat().st_mtime:
        yield problem(
            f"{plans_file} is older than {fingerprint.name}: the plans are stale",
            f"nnUNetv2_plan_experiment -d {dataset_id}",
        )
    missing = []
    for configuration, settings in plans["configurations"].items():
        identifier = settings.get("data_identifier")
        if identifier and not (plans_file.parent / identifier).is_dir():
            missing.append(configuration)
    if missing:
        yield note(
            f"{name}: no preprocessed data for {', '.join(missing)}",
            f"nnUNetv2_preprocess -d {dataset_id} -plans_name {name} -c {' '.join(missing)}",
        )
    else:
        yield ok(f"{name}: {', '.join(plans['configurations'])}")


def _model(model: Path, preprocessed: Path | None, dataset_id: int) -> Iterator[Finding]:
    if not preprocessed:
        yield note(f"{model.name}: no preprocessed data here, so it can predict but not be trained or selected")
        return
    if (model / "fold_all").is_dir():
        yield note(f"{model.name}: trained on all cases (fold_all), which nnUNetv2_find_best_configuration cannot use")
    trainer, plans, configuration = model.name.split("__")[:3]
    command = f"nnUNetv2_train {dataset_id} {configuration} FOLD -tr {trainer} -p {plans}"
    folds = {fold: model / f"fold_{fold}" for fold in _folds(preprocessed)}
    begun = [fold for fold, folder in folds.items() if any(folder.glob("checkpoint_*.pth"))]
    if (model / "fold_all").is_dir() and not begun:
        return
    finished = [fold for fold, folder in folds.items() if (folder / "checkpoint_final.pth").exists()]
    validated = [fold for fold in finished if (folds[fold] / "validation" / "summary.json").exists()]
    with_npz = [fold for fold in validated if any((folds[fold] / "validation").glob("*.npz"))]
    faults = (
        (set(begun) - set(finished), "did not finish", f"resume: {command} --npz --c"),
        (set(folds) - set(begun), "are not trained; nnUNetv2_find_best_configuration needs all", f"{command} --npz"),
        (set(finished) - set(validated), "have no validation results", f"{command} --val --npz"),
        (set(validated) - set(with_npz), "have no .npz probabilities, needed to ensemble", f"{command} --val --npz"),
    )
    for numbers, fault, remedy in faults:
        if numbers:
            yield problem(f"{model.name}: folds {', '.join(map(str, sorted(numbers)))} {fault}", remedy)
    if with_npz == list(folds):
        yield ok(f"{model.name}: {len(folds)} folds with probabilities")


def _folds(preprocessed: Path) -> range:
    """The folds of the dataset; nnU-Net's own five where no file says otherwise."""
    return range(len(_read(preprocessed / "splits_final.json") or range(DEFAULT_FOLDS)))
