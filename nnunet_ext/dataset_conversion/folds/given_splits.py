"""Folds that the user gives in a file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.folds.other_form import by_patient
from nnunet_ext.dataset_conversion.folds.splits import Fold, Splits
from nnunet_ext.dataset_conversion.options import MAX_USER_FILE_BYTES
from nnunet_ext.dataset_conversion.record_forms import FOLDS
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_json
from nnunet_ext.forms import FormError
from nnunet_ext.shown import abridged


def read_splits(path: Path, group_of: Mapping[str, str], dataset: str) -> tuple[Splits, list[Finding]]:
    """Folds from a file in nnU-Net's form (a list of ``{"train": [...], "val": [...]}``).

    The file of another conversion of the same patients is taken patient by patient, where it names none of the cases
    here: that of LGG's slices for its stacks.

    Args:
        path: of the file.
        group_of: case -> group.
        dataset: name of the description, of which another conversion must be.

    Returns:
        The folds, and SPL07 for cases that are in no fold, or in the validation of several.

    Raises:
        UserError: SPL02 for no fold or an empty one, an unknown case, one that is in training and validation, or a
            divided group.
    """
    try:
        folds = read_json(path, MAX_USER_FILE_BYTES)
        FOLDS(folds, "")
        made = [{"train": fold["train"], "val": fold["val"]} for fold in folds]
    except (FileNotFoundError, UserError, FormError) as error:
        why = "there is no such file" if isinstance(error, FileNotFoundError) else getattr(error, "message", error)
        raise UserError(
            f"the splits cannot be read: {why}",
            file=abridged(str(path)),
            code="SPL02",
            remedy='give --splits a number of folds, or a json file with a list of {"train": [...], "val": [...]}',
        ) from error
    if not made:
        raise UserError("the splits hold no fold", file=path, code="SPL02", remedy="--splits 0 writes no folds")
    for number, fold in enumerate(made):
        for part, cases in fold.items():
            if not cases:
                raise UserError(f"fold {number} has an empty {part}", file=path, code="SPL02")
            if not all(isinstance(case, str) for case in cases):
                raise UserError(f"fold {number} has something other than names in {part}", file=path, code="SPL02")
    rule = f"given: {path.name}"
    if not any(case in group_of for fold in made for part in fold.values() for case in part):
        translated = by_patient(made, path.parent, group_of, dataset)
        if translated is not None:
            made, rule = translated, f"given: those of {path.resolve().parent.name}, patient by patient"
    for number, fold in enumerate(made):
        _refuse_wrong(number, fold, group_of, path)
    return Splits(made, rule), _uncommon(made, group_of, path)


def _refuse_wrong(number: int, fold: Fold, group_of: Mapping[str, str], path: Path) -> None:
    """SPL02 for names that nobody knows, and for what would be trained and validated on."""
    unknown = [case for case in fold["train"] + fold["val"] if case not in group_of]
    if unknown:
        raise UserError(f"fold {number} names the unknown case {unknown[0]}", file=path, code="SPL02")
    both = sorted(set(fold["train"]) & set(fold["val"]))
    if both:
        raise UserError(f"fold {number} has {both[0]} in training and validation", file=path, code="SPL02")
    divided = sorted({group_of[case] for case in fold["train"]} & {group_of[case] for case in fold["val"]})
    if divided:
        raise UserError(
            f"fold {number} has {divided[0]} in training and validation",
            file=path,
            code="SPL02",
            remedy="keep all cases of a patient on one side",
        )


def _uncommon(folds: Sequence[Fold], cases: Mapping[str, str], path: Path) -> list[Finding]:
    """SPL07 for what a cross-validation would not do, but a split of one's own may mean to."""
    used = {case for fold in folds for part in fold.values() for case in part}
    validated = Counter(case for fold in folds for case in set(fold["val"]))
    odd = {
        "in no fold": sorted(set(cases) - used),
        "in the validation of several folds": sorted(case for case, count in validated.items() if count > 1),
    }
    return [
        Finding("SPL07", f"cases {where}: {len(names)}, such as {names[0]}", names[0], str(path))
        for where, names in odd.items()
        if names
    ]
