"""From predictions back to the files of the challenge: original names, values, types and endings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.output import nnunet_folders
from nnunet_ext.dataset_conversion.record_forms import PROVENANCE, WAY_BACK, read
from nnunet_ext.dataset_conversion.submission_files import files_of, max_voxels
from nnunet_ext.dataset_conversion.submission_names import Prediction, check_names, names_of
from nnunet_ext.dataset_conversion.writing import write_file
from nnunet_ext.errors import UserError
from nnunet_ext.folders import dataset_folders
from nnunet_ext.forms import check_form
from nnunet_ext.progress import Progress


def to_submission(
    dataset: str,
    predictions: str | Path,
    output: str | Path,
    *,
    dataset_id: int | str | None = None,
    raw: str | Path | None = None,
    partial: bool = False,
) -> list[Path]:
    """Turn predictions into the form in which the dataset's labels came.

    Args:
        dataset: its name.
        predictions: folder with the output of nnU-Net, named by identifier.
        output: folder for the result, which must not hold other files of these names.
        dataset_id: id of the converted dataset; by default the dataset's own.
        raw: nnUNet_raw, if not by environment variable.
        partial: accept predictions for some cases only.

    Returns:
        The files written, in the order of cases.

    Raises:
        UserError: NAM01 for a missing prediction, LAB01 for a lossy label map or a value that is no label, DT01 for
            fractional values, LAB03 for a picture whose shape is in alpha, GEO02 for a shape that differs from the
            case's, IO01/GZ01 for files that cannot be read, SIZ01/MEM01 for too much memory, NAM04 for two predictions
            that would become one file, OUT01/OUT04 for the output, LAY01 for a record that tells no way back.
    """
    folder, record = _conversion(dataset, dataset_id, raw)
    if record.get("state") != "finished":
        raise UserError(
            "no finished conversion here", file=folder, remedy=f"nnunet_ext convert {dataset} first", code="LAY01"
        )
    check_form(
        record, WAY_BACK, "the record of a conversion", folder / PROVENANCE, "--restart converts everything anew"
    )
    if record["label_map"]["inverse"] is None:
        raise UserError(
            "the label map is lossy: several source labels share one of ours",
            file=folder,
            code="LAB01",
            remedy="convert with a form that keeps all labels",
        )
    given = _find(Path(predictions), record, partial)
    target = Path(output)
    if target.resolve() == Path(predictions).resolve():
        raise UserError(
            "predictions and output are the same folder", file=target, remedy="give another with -o", code="OUT01"
        )
    check_names(given, folder / PROVENANCE)
    for prediction in given:
        for name in prediction.names:
            if os.path.lexists(target / name):
                raise UserError(
                    f"{target / name} exists already", code="OUT01", remedy="remove it, or give another folder with -o"
                )
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {target}: {error.strerror}", code="OUT04", remedy="give another folder"
        ) from error
    most = max_voxels(get(dataset), record)
    written: list[Path] = []
    with Progress("writing", len(given)) as progress:
        for prediction in given:
            try:
                for name, data in files_of(prediction, record, most):
                    write_file(target / name, data)
                    written.append(target / name)
            except MemoryError as error:
                raise UserError(
                    f"the memory does not suffice for {prediction.path}",
                    code="MEM01",
                    remedy="convert where there is more memory",
                ) from error
            progress.step()
    return written


def _conversion(dataset: str, dataset_id: int | str | None, raw: str | Path | None) -> tuple[Path, dict[str, Any]]:
    """The folder of a converted dataset, and its record."""
    description = get(dataset)
    base = Path(raw) if raw is not None else nnunet_folders.raw_folder(None)
    numbers = (
        [nnunet_folders.dataset_id(dataset_id, 0)]
        if dataset_id is not None
        else [target.dataset_id for target in description.targets.values()]
    )
    folders = [folder for number in numbers for folder in dataset_folders(base, number)]
    records = [(folder, record) for folder in folders if (record := read(folder)) is not None]
    found = [(folder, record) for folder, record in records if record.get("dataset") == description.name]
    if len(found) != 1:
        what = f"{len(found)} conversions" if found else "no conversion"
        raise UserError(
            f"{what} of {description.name} with id {' or '.join(map(str, numbers))}",
            file=base,
            code="LAY01",
            remedy="name the id with -d",
        )
    return found[0]


def _find(folder: Path, record: dict[str, Any], partial: bool) -> list[Prediction]:
    """Predictions by case. Test cases must all be there, or, where there are none among them, all training cases."""
    if not folder.is_dir():
        raise UserError(
            "source not found", file=folder, remedy="give the output folder of nnUNetv2_predict", code="LAY01"
        )
    ending = record["file_ending"]
    cases = {identifier: case for case in record["cases"] for identifier in case["outputs"]}
    present = {path.name.removesuffix(ending): path for path in sorted(folder.iterdir()) if path.name.endswith(ending)}
    known = [identifier for identifier in cases if identifier in present]
    if not known:
        raise UserError(
            f"no prediction for a case of this dataset ({ending})",
            file=folder,
            code="NAM01",
            remedy="give the output folder of nnUNetv2_predict",
        )
    splits = {cases[identifier]["split"] for identifier in known}
    wanted = [identifier for identifier in cases if cases[identifier]["split"] in splits]
    missing = [identifier for identifier in wanted if identifier not in present]
    if missing and not partial:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise UserError(
            f"no prediction for {missing[0]}{more}",
            file=folder,
            code="NAM01",
            remedy="predict all cases, or give --partial",
        )
    return [
        Prediction(path, identifier, case, names_of(path.name, identifier, case, record))
        for identifier in known
        for path, case in [(present[identifier], cases[identifier])]
    ]
