"""What the files of a submission hold: a prediction's labels with the values, type and ending of the source."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from nnunet_ext.dataset_conversion.cases.whole_numbers import STEP, whole_numbers
from nnunet_ext.dataset_conversion.checks import raise_first
from nnunet_ext.dataset_conversion.description import Dataset
from nnunet_ext.dataset_conversion.formats import gz, nifti, pictures, sizes
from nnunet_ext.dataset_conversion.submission_names import Prediction
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file

# Bytes of a prediction beyond its voxels: header, extensions, and what compressing adds to what it cannot compress.
_MORE_BYTES = nifti.MAX_OFFSET + (1 << 20)


def files_of(prediction: Prediction, record: dict[str, Any], most: int) -> Iterable[tuple[str, bytes]]:
    """The files that a prediction becomes: name and content.

    Args:
        prediction: with the names.
        record: of the conversion.
        most: ``max_voxels``.

    Raises:
        UserError: as ``submission.to_submission``.
    """
    names, shown = prediction.names, str(prediction.path)
    inverse = {int(ours): source for ours, source in record["label_map"]["inverse"].items()}
    voxels = math.prod(prediction.case["shape"])
    if voxels > most:
        raise UserError(
            f"the record says that {prediction.identifier} has {voxels:,} voxels; {most:,} can be at most",
            file=shown,
            code="SIZ01",
            remedy="convert the dataset again with --restart",
        )
    data = _read(prediction.path, 8 * voxels + _MORE_BYTES)
    if prediction.is_picture:
        _check_shape(pictures.size_of(data, shown), prediction)
        values, findings = pictures.mask(data, prediction.identifier, shown)
        raise_first(findings, "predictions of nnU-Net are grey pictures")
        mapped = _map(values, inverse, prediction)
        original = prediction.case.get("resized_from", [])[:2]
        if original:
            mapped = pictures.resize(mapped, (original[0], original[1]), "nearest")
        yield names[0], pictures.encode(mapped, names[0].rsplit(".", 1)[-1])
        return
    start = gz.first_bytes(data, nifti.HEADER_BYTES, shown)
    if len(start) < nifti.HEADER_BYTES:
        gz.decompress(data, nifti.HEADER_BYTES, shown)  # tells of a file that was cut short
    header = nifti.parse(start, shown)
    # A file that declares more than the case has is not expanded: the shape says already that it is another's.
    expected = header.offset + voxels * np.dtype(header.dtype).itemsize
    content = gz.decompress(data, min(header.content_size, expected), shown)
    _check_shape(header.shape, prediction)
    if len(content) != header.content_size:
        raise UserError(f"{shown} is shorter or longer than its header says", code="IO01", remedy="predict it again")
    values = _map(nifti.voxels(content, header), inverse, prediction, header.slope, header.inter)
    if len(names) > 1:
        for name, plane in zip(names, values.reshape(header.shape[::-1]), strict=True):
            yield name, pictures.encode(plane, name.rsplit(".", 1)[-1])
        return
    stored = np.dtype(prediction.dtype).newbyteorder("<")
    start = nifti.rewritten(content[: nifti.HEADER_BYTES], dtype=stored.str)
    del content, data
    body = b"".join((start, values.astype(stored, copy=False).data))
    yield names[0], gz.compress(body) if names[0].endswith(".gz") else body


def max_voxels(dataset: Dataset, record: dict[str, Any]) -> int:
    """Voxels, or pixels of all slices, that a case may have: those that its conversion took.

    Args:
        dataset: whose cases are volumes, or pictures.
        record: of the conversion.
    """
    if {"SIZ01", "SIZ02"} & set(record.get("options", {}).get("allow", ())):
        return nifti.MAX_VOXELS
    volumes = any(target.form == "volume" for target in dataset.targets.values())
    return sizes.max_volume_voxels(dataset.shape) if volumes else sizes.MAX_SERIES_PIXELS


def _read(path: Path, most: int) -> bytes:
    remedy = "predict it again, or put the file itself there"
    if path.is_dir():
        raise UserError(f"{path} is a folder, where a prediction should be", code="IO01", remedy=remedy)
    try:
        return read_regular_file(path, most)
    except FileNotFoundError as error:
        text = "a link to a file that is not there" if path.is_symlink() else "not there any more"
        raise UserError(f"{path} is {text}", code="IO01", remedy=remedy) from error
    except UserError as error:
        raise UserError(error.message, file=path, code="IO01", remedy=error.remedy) from error


def _check_shape(shape: tuple[int, ...], prediction: Prediction) -> None:
    expected = tuple(prediction.case["shape"][: len(shape)])
    if shape != expected:
        raise UserError(
            f"{prediction.path} has shape {shape}, the case has {expected}",
            code="GEO02",
            remedy="predict it again from imagesTs",
        )


def _map(
    stored: np.ndarray, inverse: dict[int, int], prediction: Prediction, slope: float = 1.0, inter: float = 0.0
) -> np.ndarray:
    whole = whole_numbers(stored.reshape(-1), slope, inter)
    if whole.values is None:
        raise UserError(
            f"{prediction.path} holds {whole.why}",
            code="DT01",
            remedy="give the predictions as nnUNetv2_predict writes them, not resampled ones or probabilities",
        )
    dtype = np.dtype(prediction.dtype)
    mapped = np.zeros(whole.values.size, dtype)
    for start in range(0, mapped.size, STEP):
        values, part = whole.values[start : start + STEP], mapped[start : start + STEP]
        for value in np.unique(values).tolist():
            part[values == value] = _source_value(int(value), inverse, dtype, prediction)
    return mapped.reshape(stored.shape)


def _source_value(value: int, inverse: dict[int, int], dtype: np.dtype, prediction: Prediction) -> int:
    if value not in inverse:
        raise UserError(
            f"{prediction.path} holds {value}, which is no label of this dataset",
            code="LAB01",
            remedy="check that these are predictions for this dataset",
        )
    source = inverse[value]
    if not _fits(source, dtype):
        raise UserError(
            f"{prediction.path} holds {value}, in the source {source}, which {dtype.name} cannot hold",
            code="LAB01",
            remedy="check that these are predictions for this dataset",
        )
    return source


def _fits(value: int, dtype: np.dtype) -> bool:
    if dtype.kind == "b":  # everything but 0 is foreground
        return True
    if dtype.kind == "f":
        return int(dtype.type(value)) == value
    return bool(np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
