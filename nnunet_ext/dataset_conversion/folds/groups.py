"""Groups and strata of cases: patients, tables of groups, and the folds that the user asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.choices import chosen
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.find.tables import read_groups
from nnunet_ext.dataset_conversion.folds.given_splits import read_splits
from nnunet_ext.dataset_conversion.folds.splits import Splits, make_splits
from nnunet_ext.dataset_conversion.options import Options


def officially_divided(dataset: Dataset, cases: Sequence[Case], options: Options) -> tuple[list[Case], list[Finding]]:
    """The published test cases as such, and SPL09 for cases of which the publication does not speak."""
    if dataset.official_split is None or chosen(dataset, options.choices, "official_split") is False:
        return list(cases), []
    table = {name.casefold(): split for name, split in dataset.official_split().items()}
    divided = [replace(case, split=table.get(case.name.casefold(), case.split)) for case in cases]
    unknown = [case for case in cases if case.name.casefold() not in table]
    if not unknown:
        return divided, []
    message = f"cases in no part of the official split, which are trained on: {len(unknown)}, such as {unknown[0].name}"
    return divided, [Finding("SPL09", message, unknown[0].name, unknown[0].all_files[0][1].shown)]


def groups_and_strata(
    dataset: Dataset, cases: Sequence[Case], options: Options
) -> tuple[dict[str, str], dict[str, str | None]]:
    """Group and stratum of every case, by its id.

    Groups come from ``--groups``, else the dataset's own table, else the names. Names of cases and patients are
    compared without regard to the case of their letters, as the names of files are.

    Raises:
        UserError: CSV02.
    """
    groups = _patients(dataset, cases)
    if options.groups is not None:
        given = read_groups(options.groups, [case.name for case in cases if case.split == "train"])
        groups |= {case.id: given[case.name] for case in cases if case.name in given}
    strata = _one_spelling({case.id: case.stratum for case in cases if case.stratum is not None})
    return groups, {case.id: strata.get(case.id) for case in cases}


def _patients(dataset: Dataset, cases: Sequence[Case]) -> dict[str, str]:
    table: Mapping[str, str] = dataset.patients() if dataset.patients is not None else {}
    patients = {name.casefold(): patient for name, patient in table.items()}
    return _one_spelling({case.id: patients.get(case.name.casefold(), case.group) for case in cases})


def divided_patients(
    dataset: Dataset, cases: Sequence[Case], groups: Mapping[str, str], options: Options
) -> list[Finding]:
    """SPL08 for known patients whose cases a table of groups takes apart.

    Args:
        dataset: has the table of patients, or names that tell them.
        cases: all.
        groups: of every case, by id, as ``groups_and_strata`` gives them.
        options: of which ``--groups`` counts.
    """
    if options.groups is None:
        return []
    given: dict[str, set[str]] = {}
    training = [case for case in cases if case.split == "train"]
    for case_id, patient in _patients(dataset, training).items():
        given.setdefault(patient, set()).add(groups[case_id])
    return [
        Finding(
            "SPL08",
            f"the given groups divide patient {patient}: {', '.join(sorted(parts))}",
            file=str(options.groups),
            remedy="give all cases of the patient one group",
        )
        for patient, parts in sorted(given.items())
        if len(parts) > 1
    ]


def _one_spelling(names: Mapping[str, str]) -> dict[str, str]:
    """Values that differ in the case of their letters alone are written as the first of them."""
    spelling: dict[str, str] = {}
    return {key: spelling.setdefault(name.casefold(), name) for key, name in names.items()}


def make_folds(
    dataset: Dataset, groups: Mapping[str, str], strata: Mapping[str, str | None], options: Options
) -> tuple[Splits | None, list[Finding]]:
    """Folds by ``--splits``: a number, a file, or none.

    Raises:
        UserError: SPL01, SPL02.
    """
    if options.splits == 0:
        return None, []
    if isinstance(options.splits, int):
        return make_splits(groups, strata, options.splits, options.seed)
    return read_splits(Path(options.splits), groups, dataset.name)
