"""Checks of one dataset on its way: raw, preprocessed, plans, trained folds."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nnunet_ext.doctor.finding import Finding, guarded, note, ok, problem
from nnunet_ext.errors import UserError
from nnunet_ext.folders import RAW, VARIABLES, dataset_folders, nnunet_folder
from nnunet_ext.nnunet_json import read_dataset_json, read_fingerprint, read_splits
from nnunet_ext.planning.plans_file import read_plans
from nnunet_ext.shown import command
from nnunet_ext.trainers import splits

SPLITS = "splits_final.json"
#: what reading the folds that are trained with gave: them, or why not
Folds = tuple[list[dict[str, list[str]]] | None, UserError | None]
DEFAULT_FOLDS = 5
#: names that a line lists before it says how many more there are
MAX_LISTED = 10
# a conversion that runs again leaves these files as they are, so that a bad one must go first
CONVERT_ANEW = "remove it and convert the dataset again"
_FOLD = re.compile(r"fold_(0|[1-9]\d{0,8})")


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
            yield problem(_without_remedy(error), error.remedy or "remove the dataset's folder and convert it again")
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
    folds = _read(read_splits, preprocessed / SPLITS) if preprocessed else (None, None)
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
        numbers = range(len(used) if used else DEFAULT_FOLDS) if preprocessed else None
        yield from guarded(_models(results, numbers, dataset_id))


def _find(variable: str, dataset_id: int) -> Path | None:
    return next(iter(dataset_folders(nnunet_folder(variable), dataset_id)), None)


def _without_remedy(error: UserError) -> str:
    """An error without its remedy."""
    return str(UserError(error.message, error.file))


def _read(read: Callable[[Path], Any], file: Path) -> tuple[Any, UserError | None]:
    """The content of a file, None where there is none or it is something else; and why the latter."""
    try:
        return read(file), None
    except FileNotFoundError:
        return None, None
    except UserError as error:
        return None, error


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder; nothing where it is missing."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _raw(raw: Path) -> Iterator[Finding]:
    description, wrong = _read(read_dataset_json, raw / "dataset.json")
    if wrong:
        yield problem(_without_remedy(wrong), CONVERT_ANEW)
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
    image_files, label_files = _entries(raw / "imagesTr"), _entries(raw / "labelsTr")
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
    stored, wrong = _read(read_dataset_json, preprocessed / "dataset.json")
    if wrong:
        yield problem(_without_remedy(wrong), f"remove it, then {again}")
    original = _read(read_dataset_json, raw / "dataset.json")[0] if raw else None
    measured, wrong = _read(read_fingerprint, fingerprint)
    if wrong:
        yield problem(_without_remedy(wrong), f"remove it, then nnUNetv2_extract_fingerprint -d {dataset_id}")
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
    wanted, wrong = _read(read_splits, raw / SPLITS) if raw else (None, None)
    if wrong:
        yield problem(_without_remedy(wrong), CONVERT_ANEW)
    used, wrong = folds
    if wrong:
        yield problem(
            _without_remedy(wrong),
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
    plans, wrong = _read(read_plans, plans_file)
    if wrong:
        yield problem(_without_remedy(wrong), f"remove it, then plan again as before, such as with {again}")
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
    missing = []
    for configuration, settings in plans["configurations"].items():
        identifier = settings.get("data_identifier")
        if identifier and not (plans_file.parent / identifier).is_dir():
            missing.append(configuration)
    if missing:
        yield note(
            f"{name}: no preprocessed data for {_shortened(missing)}",
            command(["nnUNetv2_preprocess", "-d", dataset_id, "-plans_name", name, "-c", *missing]),
        )
    else:
        yield ok(f"{name}: {_shortened(plans['configurations'])}")


def _shortened(things: Iterable[object]) -> str:
    """The first of them, with the number of the others: a foreign file may name millions."""
    words = [str(thing) for thing in things]
    return ", ".join(words[:MAX_LISTED]) + (f" and {len(words) - MAX_LISTED} more" if len(words) > MAX_LISTED else "")


def _parts_of_name(model: Path) -> tuple[str, str, str] | None:
    """Trainer, plans and configuration of a model's folder; None where commands could not name them."""
    trainer, plans, configuration = model.name.split("__")[:3]
    named = all(word and not word.startswith("-") for word in (trainer, plans, configuration))
    return (trainer, plans, configuration) if named else None


def _caution(models: Sequence[Path], dataset_id: int) -> Finding:
    """What stock commands do with a model of somebody else, said once for all models."""
    named = filter(None, map(_parts_of_name, models))
    trainer, plans, configuration = next(named, ("TRAINER", "PLANS", "CONFIGURATION"))
    return note(
        "if somebody else trained a model here: nnUNetv2_predict executes what its checkpoints hold, as do "
        "-pretrained_weights and, for trainers other than ours, --c and --val of nnUNetv2_train; nnUNetv2_ensemble and "
        "nnUNetv2_apply_postprocessing execute what .pkl files hold. 'nnunet_ext predict' refuses such checkpoints",
        command(
            [
                *("nnunet_ext", "predict", "-i", "IMAGES", "-o", "OUT", "-d", dataset_id),
                *("-c", configuration, "-tr", trainer, "-p", plans),
            ]
        ),
    )


def _models(results: Path, folds: range | None, dataset_id: int) -> Iterator[Finding]:
    models = [model for model in sorted(results.glob("*__*__*")) if model.is_dir()]
    if not models:
        return
    yield _caution(models, dataset_id)
    for model in models:
        yield from _model(model, folds, dataset_id)


def _model(model: Path, folds: range | None, dataset_id: int) -> Iterator[Finding]:
    words = _parts_of_name(model)
    if words is None:
        yield note(f"{model.name}: not named TRAINER__PLANS__CONFIGURATION, so that no command of nnU-Net finds it")
        return
    if folds is None:
        yield note(f"{model.name}: no preprocessed data here, so it can predict but not be trained or selected")
        return
    if (model / "fold_all").is_dir():
        yield note(f"{model.name}: trained on all cases (fold_all), which nnUNetv2_find_best_configuration cannot use")
    trainer, plans, configuration = words
    train = command(["nnUNetv2_train", dataset_id, configuration, "FOLD", "-tr", trainer, "-p", plans])
    found = sorted(int(match[1]) for match in map(_FOLD.fullmatch, (path.name for path in _entries(model))) if match)
    there = {fold: model / f"fold_{fold}" for fold in found if fold in folds}
    begun = [fold for fold, folder in there.items() if any(folder.glob("checkpoint_*.pth"))]
    if (model / "fold_all").is_dir() and not begun:
        return
    finished = [fold for fold, folder in there.items() if (folder / "checkpoint_final.pth").exists()]
    validated = [fold for fold in finished if (there[fold] / "validation" / "summary.json").exists()]
    with_npz = [fold for fold in validated if any((there[fold] / "validation").glob("*.npz"))]
    faults = (
        (set(begun) - set(finished), "did not finish", f"resume: {train} --npz --c"),
        (set(folds) - set(begun), "are not trained; nnUNetv2_find_best_configuration needs all", f"{train} --npz"),
        (set(finished) - set(validated), "have no validation results", f"{train} --val --npz"),
        (set(validated) - set(with_npz), "have no .npz probabilities, needed to ensemble", f"{train} --val --npz"),
    )
    for numbers, fault, remedy in faults:
        if numbers:
            yield problem(f"{model.name}: folds {_shortened(sorted(numbers))} {fault}", remedy)
    if with_npz == list(folds):
        yield ok(f"{model.name}: {len(folds)} folds with probabilities")
