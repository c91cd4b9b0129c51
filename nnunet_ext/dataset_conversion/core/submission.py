"""From predictions back to the files of the challenge: original names, values, types and endings."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ext.dataset_conversion.core import gz, nifti, pictures, place, provenance
from nnunet_ext.dataset_conversion.core.progress import Progress
from nnunet_ext.dataset_conversion.core.writing import write_atomically
from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.errors import UserError

_MOST = 1 << 34


@dataclass(frozen=True)
class _Prediction:
    """One prediction: where it is and what the record says of its case."""

    path: Path
    identifier: str
    case: dict[str, Any]


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
        UserError: NAM01 for a missing prediction, LAB01 for a lossy label map or a value that is no label, GEO02 for a
            shape that differs from the case's, IO01/GZ01 for files that cannot be read, OUT01/OUT04 for the output.
    """
    folder = _dataset_folder(dataset, dataset_id, raw)
    record = provenance.read(folder)
    if record is None or record["state"] != "finished":
        raise UserError(
            "no finished conversion here", file=folder, remedy=f"nnunet_ext convert {dataset} first", code="LAY01"
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
    for prediction in given:
        for name in _names(prediction, record):
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
    written: list[Path] = []
    with Progress("writing", len(given)) as progress:
        for prediction in given:
            for name, data in _convert(prediction, record):
                write_atomically(target / name, data)
                written.append(target / name)
            progress.step()
    return written


def _dataset_folder(dataset: str, dataset_id: int | str | None, raw: str | Path | None) -> Path:
    description = get(dataset)
    base = Path(raw) if raw is not None else place.raw_folder(None)
    numbers = (
        [place.dataset_id(dataset_id, 0)]
        if dataset_id is not None
        else [target.dataset_id for target in description.targets.values()]
    )
    folders = [folder for number in numbers for folder in sorted(base.glob(f"Dataset{number:03d}_*"))]
    found = [folder for folder in folders if (provenance.read(folder) or {}).get("dataset") == description.name]
    if len(found) != 1:
        what = f"{len(found)} conversions" if found else "no conversion"
        raise UserError(
            f"{what} of {description.name} with id {' or '.join(map(str, numbers))}",
            file=base,
            code="LAY01",
            remedy="name the id with -d",
        )
    return found[0]


def _find(folder: Path, record: dict[str, Any], partial: bool) -> list[_Prediction]:
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
    return [_Prediction(present[identifier], identifier, cases[identifier]) for identifier in known]


def _names(prediction: _Prediction, record: dict[str, Any]) -> list[str]:
    """File names that a prediction becomes: those of the source label, else the challenge's."""
    names = [path.rsplit("/", 1)[-1] for path in prediction.case["source_labels"].get(prediction.identifier, ())]
    if names:
        return names
    if prediction.path.name.endswith(".png"):
        return [f"{prediction.identifier}_mask.png"]
    return [record["submission_name"].format(case=prediction.case["name"])]


def _convert(prediction: _Prediction, record: dict[str, Any]) -> Iterable[tuple[str, bytes]]:
    names = _names(prediction, record)
    inverse = {int(ours): source for ours, source in record["label_map"]["inverse"].items()}
    data = prediction.path.read_bytes()
    if prediction.path.name.endswith(".png"):
        values = pictures.mask(data, prediction.identifier, str(prediction.path))[0]
        _check_shape(values.shape[::-1], prediction)
        name = names[0]
        mapped = _map(values, inverse, prediction, prediction.case["label_dtype"] or "uint8")
        original = prediction.case["resized_from"][:2]
        if original:
            mapped = pictures.resize(mapped, (original[0], original[1]), "nearest")
        yield name, pictures.encode(mapped, name.rsplit(".", 1)[-1])
        return
    content = gz.decompress(data, _MOST, str(prediction.path))
    header = nifti.parse(content[: nifti.HEADER_BYTES], str(prediction.path))
    if len(content) != header.content_size:
        raise UserError(
            f"{prediction.path} is shorter or longer than its header says", code="IO01", remedy="predict it again"
        )
    _check_shape(header.shape, prediction)
    dtype = prediction.case["label_dtype"] or "uint8"
    values = _map(nifti.voxels(content, header), inverse, prediction, dtype)
    if len(names) > 1:  # one picture a slice
        for name, plane in zip(names, values.reshape(header.shape[::-1]), strict=True):
            yield name, pictures.encode(plane, name.rsplit(".", 1)[-1])
        return
    name = names[0]
    stored = np.dtype(dtype).newbyteorder("<")
    body = nifti.rewritten(content[: nifti.HEADER_BYTES], dtype=stored.str) + values.astype(stored).tobytes()
    yield name, gz.compress(body) if name.endswith(".gz") else body


def _check_shape(shape: tuple[int, ...], prediction: _Prediction) -> None:
    expected = tuple(prediction.case["shape"][: len(shape)])
    if shape != expected:
        raise UserError(
            f"{prediction.path} has shape {shape}, the case has {expected}",
            code="GEO02",
            remedy="predict it again from imagesTs",
        )


def _map(values: np.ndarray, inverse: dict[int, int], prediction: _Prediction, dtype: str) -> np.ndarray:
    found = np.unique(values)
    unknown = [value for value in found.tolist() if value not in inverse]
    if unknown:
        raise UserError(
            f"{prediction.path} holds {unknown[0]:g}, which is no label of this dataset",
            code="LAB01",
            remedy="check that these are predictions for this dataset",
        )
    mapped = np.zeros(values.shape, dtype)
    for value in found.tolist():
        mapped[values == value] = inverse[int(value)]
    return mapped
