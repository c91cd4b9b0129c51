"""What nnU-Net's cross-validation has left: folds of a model, folds joined, ensembles, postprocessed predictions.

As nnU-Net 2.8.1 lays them out below ``nnUNet_results/DATASET``:

    TRAINER__PLANS__CONFIGURATION/fold_0/validation
    TRAINER__PLANS__CONFIGURATION/crossval_results_folds_0_1_2_3_4[/postprocessed]
    ensembles/ensemble___MODEL___MODEL___0_1_2_3_4[/postprocessed]
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.label_folders import case_files, load_dataset_json
from nnunet_ext.evaluation.sources import CaseFiles, Source, paired
from nnunet_ext.files import is_component, is_path_below
from nnunet_ext.folders import PREPROCESSED, RAW, RESULTS, cannot_read, dataset_name, nnunet_folder
from nnunet_ext.lookup import did_you_mean
from nnunet_ext.nnunet_json import read_splits
from nnunet_ext.shown import abridged, joined

_FOLD = re.compile(r"fold_(0|[1-9]\d{0,8}|all)")
# how nnU-Net ends the name of a folder that joins folds
_FOLDS_OF_NAME = re.compile(r"(?:\Acrossval_results_folds_|___)(\d{1,9}(?:_\d{1,9})*)\Z")


def trained_source(
    dataset_id: int,
    name: str,
    folds: Sequence[str] | None = None,
    references: Path | None = None,
    dataset_json: Path | None = None,
) -> Source:
    """Cross-validation of what nnU-Net trained: every case once, predicted by the model that has not seen it.

    Args:
        dataset_id: of the dataset.
        name: ``TRAINER__PLANS__CONFIGURATION`` for the folds of a model (``fold_*/validation``, joined), or a folder
            below it (``.../crossval_results_folds_0_1_2_3_4``, ``.../postprocessed``), or an ensemble
            (``ensemble___...``) or a folder below that.
        folds: of a model; those that are there if not given, without ``all``.
        references: gt_segmentations of nnUNet_preprocessed, or else labelsTr of nnUNet_raw, if not given.
        dataset_json: of the model, or else that of nnUNet_preprocessed, if not given.

    Raises:
        UserError: a folder, a fold or all predictions are not there, or a case is predicted twice.
    """
    dataset_folder = dataset_name(dataset_id, (RESULTS,))
    results = _nnunet(RESULTS) / dataset_folder
    model = _find(results, name)
    preprocessed, raw = nnunet_folder(PREPROCESSED), nnunet_folder(RAW)
    places = [place / dataset_folder for place in (preprocessed,) if place is not None]
    if references is None:
        candidates = [place / "gt_segmentations" for place in places]
        candidates += [raw / dataset_folder / "labelsTr"] if raw is not None else []
        references = next((folder for folder in candidates if folder.is_dir()), None)
    if references is None:
        raise UserError("the references of the dataset are not here", remedy="give their folder with -r")
    files = [folder / "dataset.json" for folder in (model, model.parent, *places)]
    dataset = load_dataset_json(dataset_json or next((file for file in files if file.is_file()), files[0]))
    known = case_files(references, dataset["file_ending"])
    splits = _splits(places)
    title = f"{dataset_folder}_{'_'.join(model.relative_to(results).parts)}"
    if any(map(_FOLD.fullmatch, _names(model))):
        cases, missing, used = _of_folds(model, folds, dataset["file_ending"], known, splits)
        left = [str(number) for number in range(len(splits)) if str(number) not in used and "all" not in used]
        total = sum(len(fold["val"]) for fold in splits)
        note = f"{_folds(left)} not evaluated: {len(cases)} of {total} cases"
        notes = (note,) if left else ()
        return Source(title, model, references, dataset, cases, missing, notes, used)
    if folds is not None:
        raise UserError("these predictions are of several folds already", file=model, remedy="leave out -f")
    predicted = case_files(model, dataset["file_ending"])
    if not predicted:
        raise UserError(f"no *{dataset['file_ending']} file is there", file=model)
    joined_folds = [match[1] for part in model.relative_to(results).parts if (match := _FOLDS_OF_NAME.search(part))]
    used = tuple(joined_folds[-1].split("_")) if joined_folds else ()
    expected = [case for number in used for case in _validation(splits, number)]
    return Source(title, model, references, dataset, *paired(predicted, known, expected), folds=used)


def _folds(numbers: Sequence[str]) -> str:
    return f"fold {numbers[0]} is" if len(numbers) == 1 else f"folds {joined(numbers)} are"


def _of_folds(
    model: Path,
    folds: Sequence[str] | None,
    ending: str,
    known: Mapping[str, Path],
    splits: Sequence[Mapping[str, list[str]]],
) -> tuple[tuple[CaseFiles, ...], dict[str, str], tuple[str, ...]]:
    there = [match[1] for name in _names(model) if (match := _FOLD.fullmatch(name))]
    there = [fold for fold in there if (model / f"fold_{fold}" / "validation").is_dir()]
    used = sorted((fold for fold in there if fold != "all"), key=int) if folds is None else list(dict.fromkeys(folds))
    absent = [fold for fold in used if fold not in there]
    if absent or not used:
        raise UserError(
            f"fold {abridged(absent[0])} has no validation" if absent else "no fold has a validation",
            file=model,
            remedy="nnUNetv2_train makes it at its end, or with --val",
        )
    if "all" in used and len(used) > 1:
        raise UserError("fold all has trained on the cases of the other folds", remedy="evaluate it alone")
    cases: dict[str, CaseFiles] = {}
    missing: dict[str, str] = {}
    for fold in used:
        predicted = case_files(model / f"fold_{fold}" / "validation", ending)
        pairs, lacking = paired(predicted, known, _validation(splits, fold))
        missing |= {case: f"{what} (fold {fold})" for case, what in lacking.items()}
        for pair in pairs:
            if pair.case in cases:
                raise UserError(
                    f"folds {cases[pair.case].fold} and {fold} both predict {pair.case}",
                    file=model,
                    remedy="they were trained with different splits: evaluate them one by one with -f",
                )
            cases[pair.case] = pair._replace(fold=fold)
    if not cases:
        raise UserError("no prediction has a reference", file=model)
    return tuple(cases[case] for case in sorted(cases)), dict(sorted(missing.items())), tuple(used)


def _validation(splits: Sequence[Mapping[str, list[str]]], fold: str) -> Collection[str]:
    """Cases that a fold must predict; none where that is not known."""
    return splits[int(fold)]["val"] if fold.isdecimal() and int(fold) < len(splits) else ()


def _splits(places: Iterable[Path]) -> list[dict[str, list[str]]]:
    for place in places:
        try:
            return read_splits(place / "splits_final.json")
        except FileNotFoundError:
            continue
    return []


def _find(results: Path, name: str) -> Path:
    """The folder of a model or an ensemble, or one below it."""
    if not is_path_below(name):
        raise UserError(f"'{abridged(name)}' names no folder below that of the dataset", file=results)
    for folder in (results / name, results / "ensembles" / name):
        if folder.is_dir():
            return folder
    known = [each for folder in (results, results / "ensembles") for each in _names(folder) if "__" in each]
    first, _, rest = name.partition("/")
    where = results / first if first in known else results / "ensembles" / first
    if rest and where.is_dir():
        known = [f"{first}/{each}" for each in _names(where) if (where / each).is_dir()]
    listed = f"there is {joined(known)}" if known else "train one with nnUNetv2_train"
    raise UserError(f"'{abridged(name)}' is not there", file=results, remedy=did_you_mean(name, known, listed))


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir() if is_component(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot_read(folder, error) from error


def _nnunet(variable: str) -> Path:
    folder = nnunet_folder(variable)
    assert folder is not None  # dataset_name has looked
    return folder
