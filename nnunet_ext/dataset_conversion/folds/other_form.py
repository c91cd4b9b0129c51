"""Folds of the same patients from another conversion, such as those of LGG's slices for its stacks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion import record_forms
from nnunet_ext.dataset_conversion.folds.splits import Fold


def by_patient(folds: Sequence[Fold], folder: Path, group_of: Mapping[str, str], dataset: str) -> list[Fold] | None:
    """The folds of another dataset, with the cases here in the place of the cases there, patient by patient.

    Args:
        folds: of the other dataset, all whose names are its own.
        folder: of that dataset, with the record of its conversion.
        group_of: case here -> patient.
        dataset: whose cases these are; those of another may have patients of the same names.

    Returns:
        The folds; None where the folder has no record of this dataset, or one that does not know a name, so that
        nothing can be said of its patient, and where a fold would have nothing to train on or to validate. A patient
        that is not here is left out, and one that is not there is in no fold.
    """
    record = record_forms.read(folder, record_forms.PATIENTS)
    if record is None or record["dataset"] != dataset:
        return None
    patient_of = {output: case["group"] for case in record["cases"] for output in case["outputs"]}
    if any(name not in patient_of for fold in folds for part in fold.values() for name in part):
        return None
    made: list[Fold] = []
    for fold in folds:
        patients = {part: {patient_of[name] for name in names} for part, names in fold.items()}
        made.append({part: sorted(case for case in group_of if group_of[case] in patients[part]) for part in fold})
    return made if all(cases for fold in made for cases in fold.values()) else None
