"""Checks of the models trained on a dataset: which folds are there, finished and of use for what comes next."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from nnunet_ext.doctor.finding import Finding, note, ok, problem
from nnunet_ext.doctor.reading import entries, shortened
from nnunet_ext.shown import command

_FOLD = re.compile(r"fold_(0|[1-9]\d{0,8})")


def check_models(results: Path, folds: range | None, dataset_id: int) -> Iterator[Finding]:
    """Every model in a dataset's folder of results.

    Args:
        results: that folder.
        folds: numbers of the folds that the dataset has; None where no preprocessed data is here to tell.
        dataset_id: for the commands that mend something.
    """
    models = [model for model in sorted(results.glob("*__*__*")) if model.is_dir()]
    if not models:
        return
    yield _caution(models, dataset_id)
    for model in models:
        yield from _model(model, folds, dataset_id)


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
    found = sorted(int(match[1]) for match in map(_FOLD.fullmatch, (path.name for path in entries(model))) if match)
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
            yield problem(f"{model.name}: folds {shortened(sorted(numbers))} {fault}", remedy)
    if with_npz == list(folds):
        yield ok(f"{model.name}: {len(folds)} folds with probabilities")


def _parts_of_name(model: Path) -> tuple[str, str, str] | None:
    """Trainer, plans and configuration of a model's folder; None where commands could not name them."""
    trainer, plans, configuration = model.name.split("__")[:3]
    named = all(word and not word.startswith("-") for word in (trainer, plans, configuration))
    return (trainer, plans, configuration) if named else None
