"""Second scans of people who are in the data already, of whom nobody knows which other cases are theirs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.choices import chosen
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.options import Options


def without_rescans(dataset: Dataset, cases: Sequence[Case], options: Options) -> tuple[list[Case], dict[str, int]]:
    """The cases without those scans, unless the user wants them, and why cases are left out -> how many."""
    choice = dataset.choice("rescans")
    if choice is None or chosen(dataset, options.choices, "rescans"):
        return list(cases), {}
    kept = [case for case in cases if not _is_rescan(dataset, case)]
    return kept, {f"second scans of people in the data ({choice.flag} keeps them)": len(cases) - len(kept)}


def people_unknown(
    dataset: Dataset, cases: Sequence[Case], groups: Mapping[str, str], options: Options
) -> list[Finding]:
    """What those scans do where they are kept: SPL10 where folds could divide a person, SPL05 for test cases.

    Args:
        dataset: names them.
        cases: all.
        groups: of every case, by id, as ``groups_and_strata`` gives them.
        options: of which ``--groups`` counts, by which the user says whose the scans are.
    """
    kept = [case for case in cases if _is_rescan(dataset, case)]
    training = [case for case in kept if case.split == "train"]
    if training and options.groups is None:
        first = training[0]
        message = f"nobody knows whose second scans {len(training)} training cases are, such as {first.name}"
        remedy = "say it with --groups, or leave them out"
        return [Finding("SPL10", message, first.name, first.all_files[0][1].shown, remedy)]
    unknown = [case for case in kept if case.split == "test" and groups[case.id] == case.group]
    if not unknown:
        return []
    message = f"{len(unknown)} test cases are second scans of people in the data, perhaps of training cases"
    return [Finding("SPL05", f"{message}, such as {unknown[0].name}")]


def _is_rescan(dataset: Dataset, case: Case) -> bool:
    return case.name.casefold() in {name.casefold() for name in dataset.rescans}
