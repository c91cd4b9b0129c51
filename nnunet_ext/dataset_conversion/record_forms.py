"""What ``provenance.json`` and the journal of a conversion must look like before anything in them is used.

Either may come with a dataset from somebody else, so names are single components, output paths stay in the four folders
and numbers are those of images. Keys that nobody reads are passed over; which of the others must be there depends on
who reads.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.checks import BY_CODE
from nnunet_ext.errors import UserError
from nnunet_ext.forms import (
    Form,
    anything,
    between,
    component,
    count,
    either,
    fail,
    file_ending,
    list_of,
    mapping,
    number,
    one_of,
    optional,
    path_below,
    read_document,
    real,
    record,
    text,
)

#: The record of a conversion, in the dataset's folder.
PROVENANCE = "provenance.json"
#: The folders of a dataset that hold files of cases.
FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")
SCHEMA = 1
#: types that a label may have been stored as: in a picture, in a volume; numpy's names
PICTURE_TYPES = ("bool", "uint8")
VOLUME_TYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")
#: pixels of a picture that PIL opens without suspecting a bomb
_MAX_PIXELS = 2 * 89_478_485
_INTEGER = re.compile(r"-?[0-9]{1,19}")
_HASH = re.compile(r"[0-9a-f]{0,16}")


def _schema(value: Any, where: str) -> None:
    if value != SCHEMA:
        raise fail(value, where, str(SCHEMA))


def _output_path(value: Any, where: str) -> None:
    path_below(value, where)
    folder, _, name = value.partition("/")
    if folder not in FOLDERS or not name or "/" in name:
        raise fail(value, where, f"a file in {', '.join(FOLDERS)}")


def _integer_text(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _INTEGER.fullmatch(value):
        raise fail(value, where, "a whole number as text")


def _fingerprint(value: Any, where: str) -> None:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise fail(value, where, "at most 16 hexadecimal digits")


def _picture_size(value: Any, where: str) -> None:
    """The shape of a picture before it was resized: to restore it takes as much memory as this says."""
    _SHAPE(value, where)
    if value and (len(value) < 2 or value[0] * value[1] > _MAX_PIXELS or 0 in value):
        raise fail(" x ".join(map(str, value)), where, "the size of a picture")


_SHAPE = list_of(between(0, 1 << 31), at_most=3)
_LABEL_VALUE = between(-(1 << 63), (1 << 64) - 1)
_LABEL_TYPE = one_of(("", *dict.fromkeys(PICTURE_TYPES + VOLUME_TYPES)))
_SOURCE_LABELS = mapping(component, list_of(text))
_SOURCES = list_of(record({"path": text, "size": count}))
_FILE = {"path": _output_path, "size": count, "sha256": text, "of": one_of(("file", "content"))}

_CASE: dict[str, Form] = {
    "id": text,
    "name": text,
    "split": one_of(("train", "test")),
    "outputs": list_of(component),
    "group": text,
    "aliases": mapping(text, text),
    "shape": _SHAPE,
    "resized_from": _picture_size,
    "label_dtype": _LABEL_TYPE,
    "source_labels": _SOURCE_LABELS,
    "sources": _SOURCES,
    "files": list_of(record(_FILE)),
}
_RECORD: dict[str, Form] = {
    "schema": _schema,
    "state": text,
    "dataset": text,
    "family": text,
    "nnunet_ext": text,
    "options": record({}, {"allow": list_of(text)}),
    "run": record({"sources": list_of(text)}),
    "label_map": record({"inverse": optional(mapping(_integer_text, _LABEL_VALUE))}),
    "file_ending": file_ending,
    "submission_name": text,
    "splits": record({"rule": optional(text)}),
}


def _provenance(keys: Collection[str] = (), of_case: Collection[str] = ()) -> Form:
    """The form of a record that has these keys, and these in each of its cases."""
    known = {**_RECORD, "cases": list_of(record({key: _CASE[key] for key in of_case}, _CASE))}
    return record({key: known[key] for key in ("schema", *keys)}, known)


def read(folder: Path, form: Form | None = None) -> dict[str, Any] | None:
    """The record of a dataset folder; None if it has none of this form, ``OURS`` where none is given."""
    try:
        return read_or_refuse(folder, form or OURS)
    except UserError:
        return None


def read_or_refuse(folder: Path, form: Form) -> dict[str, Any] | None:
    """The record of a dataset folder; None if there is none.

    Raises:
        UserError: there is one, of another form.
    """
    try:
        content: dict[str, Any] = read_document(
            folder / PROVENANCE, form, "the record of a conversion", "--restart converts everything anew"
        )
    except FileNotFoundError:
        return None
    return content


def groups_of(folder: Path) -> dict[str, str] | None:
    """Identifier of a case -> patient or other group, as a dataset was converted; None without such a record."""
    found = read(folder, PATIENTS)
    if found is None:
        return None
    return {output: case["group"] for case in found.get("cases", ()) for output in case["outputs"]}


#: any record of ours; no more is known of it
OURS = record({"schema": _schema}, {"dataset": text, "state": text})
_BEGUN = ("dataset", "nnunet_ext", "options", "run")
#: of a conversion that can go on
BEGUN = _provenance(_BEGUN)
#: of one to compare with the source as it is now
FINISHED = _provenance((*_BEGUN, "splits", "cases"), ("id", "sources"))
#: of one that predictions can be led back by
WAY_BACK = _provenance(
    ("dataset", "state", "label_map", "file_ending", "cases"),
    ("name", "split", "outputs", "shape", "label_dtype", "source_labels"),
)
#: of one whose files can be compared with their checksums
CHECKSUMS = _provenance((), ("files",))
#: of one whose cases can be compared with those of other datasets
FAMILY = _provenance(("dataset",), ("name",))

#: of one whose folds another conversion of the same patients can take
PATIENTS = _provenance(("dataset",), ("outputs", "group"))

_FINDING = record(
    {"code": one_of(BY_CODE), "message": text},
    {"case": text, "file": text, "remedy": text, "severity": one_of(("error", "warning", "info", ""))},
    others=False,
)
_RESULT = record(
    {"case": text, "findings": list_of(_FINDING), "voxels": mapping(_integer_text, count)},
    {
        "outputs": list_of(component),
        "sources": _SOURCES,
        "files": list_of(record({**_FILE, "operation": text})),
        "shape": _SHAPE,
        "spacing": list_of(real),
        "equal_channels": list_of(list_of(text)),
        "digests": list_of(text),
        "fingerprint": _fingerprint,
        "label_dtype": _LABEL_TYPE,
        "resized_from": _picture_size,
        "source_labels": _SOURCE_LABELS,
    },
    others=False,
)
#: one line of the journal
JOURNAL_ENTRY = record({"signature": text, "result": _RESULT})

_NAMES = list_of(anything)
#: folds; whether their names are those of cases is for the reader to say
FOLDS = list_of(record({"train": _NAMES, "val": _NAMES}))
_SIDE = either(number, text)
#: sizes of pictures: case -> width and height
SIZES = mapping(text, record({"width": _SIDE, "height": _SIDE}))
