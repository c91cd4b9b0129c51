"""Cases that this dataset shares with others of its family in nnUNet_raw, by the names the user's own tables give."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nnunet_ext.dataset_conversion import record_forms
from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.errors import UserError
from nnunet_ext.shown import command


def shared_cases(
    dataset: Dataset, cases: Sequence[Case], raw: Path, own: str
) -> tuple[dict[str, set[str]], list[Finding]]:
    """Training cases that another dataset holds too.

    Args:
        dataset: its family is looked for.
        cases: with the aliases from the mapping tables.
        raw: nnUNet_raw.
        own: name of the folder that is being made.

    Returns:
        Folder name -> names of our cases that are in it; and SPL04 for each other dataset of the family.
    """
    shared: dict[str, set[str]] = {}
    findings = []
    for folder in sorted(raw.glob("Dataset*_*")) if dataset.family and raw.is_dir() else []:
        if folder.name == own:
            continue
        record = record_forms.read(folder, record_forms.FAMILY)
        if record is None or record.get("family") != dataset.family:
            continue
        theirs = {
            name.casefold()
            for case in record.get("cases", ())
            for name in (case["name"], *case.get("aliases", {}).values())
        }
        names = {
            case.name for case in cases if {name.casefold() for name in (case.name, *case.aliases.values())} & theirs
        }
        known = (
            record["dataset"] == dataset.name
            or any(case.aliases for case in cases)
            or any(case.get("aliases") for case in record.get("cases", ()))
        )
        if names:
            shared[folder.name] = names
            findings.append(
                Finding(
                    "SPL04",
                    f"{len(names)} of {len(cases)} cases are also in {folder.name}: a network trained on one must not "
                    "be tested on the other",
                    file=str(folder),
                    remedy=f"{command(['--exclude-overlap', folder.name])} leaves them out",
                )
            )
        elif not known:
            findings.append(
                Finding(
                    "SPL04",
                    f"{folder.name} is another release of this family and may hold the same cases; without a mapping "
                    "table in the source that cannot be told",
                    file=str(folder),
                )
            )
    return shared, findings


def exclude(cases: Sequence[Case], shared: dict[str, set[str]], other: str, raw: Path) -> list[Case]:
    """The cases that are not shared with the named dataset.

    Raises:
        UserError: SPL04 if that dataset is not there, or no case is known to be shared.
    """
    if not (raw / other).is_dir():
        raise UserError(
            f"--exclude-overlap: there is no {other}", file=raw, remedy="give the folder's full name", code="SPL04"
        )
    if other not in shared:
        raise UserError(
            f"--exclude-overlap: no case is known to be shared with {other}",
            code="SPL04",
            remedy="put the release's name mapping table into the source, or leave this option out",
        )
    return [case for case in cases if case.name not in shared[other]]
