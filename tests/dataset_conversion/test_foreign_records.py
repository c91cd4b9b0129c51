"""What somebody else's record of a conversion says writes, reads and allocates nothing beyond what predictions need."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nnunet_ext.dataset_conversion.convert import convert
from nnunet_ext.dataset_conversion.options import Options
from nnunet_ext.dataset_conversion.output.verify import changed_files
from nnunet_ext.dataset_conversion.submission import to_submission
from nnunet_ext.errors import UserError

pytestmark = pytest.mark.usefixtures("time_limit")

OneLine = Callable[..., str]
Edit = Callable[[Mapping[str, Any]], None]
NAMES = [f"BraTS20_Validation_{number:03d}" for number in (1, 2)]
FOLDER = "Dataset520_BraTS2020"


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory, brats_case: Callable[..., Path]) -> Path:
    """nnUNet_raw with BraTS 2020, two test cases in it, and predictions for these beside it."""
    top = tmp_path_factory.mktemp("given")
    for number in (1, 2):
        brats_case(top / "train", f"BraTS20_Training_{number:03d}", seed=number)
        brats_case(top / "test", NAMES[number - 1], seed=10 + number, label=False)
    options = Options(output=top / "nnUNet_raw", processes=1, splits=2, link="copy")
    folder = convert("brats2020", [top / "train", top / "test"], options).folder
    (top / "predictions").mkdir()
    for number, name in enumerate(NAMES, 1):
        label = folder / "labelsTr" / f"BraTS20_Training_{number:03d}.nii.gz"
        shutil.copy(label, top / "predictions" / f"{name}.nii.gz")
    return top


@pytest.fixture
def given(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it two folders down, so that a name may lead up without leaving the test's folder."""
    top = tmp_path / "a" / "b"
    for name in ("nnUNet_raw", "predictions"):
        shutil.copytree(converted / name, top / name)
    monkeypatch.setenv("nnUNet_raw", str(top / "nnUNet_raw"))
    return top


def edit(given: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    path = given / "nnUNet_raw" / FOLDER / "provenance.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


def of_case(key: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    """Set a key of every test case."""
    return lambda record: [case.update({key: value}) for case in record["cases"] if case["split"] == "test"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def submit(given: Path) -> tuple[Any, ...]:
    return ("to-submission", "brats2020", "-i", given / "predictions", "-o", given / "c" / "out")


BAD_NAMES = [
    "../../ESC_{case}.nii.gz",
    "ABSOLUTE/ESC_{case}.nii.gz",
    "sub/{case}.nii.gz",
    "{case}",
    ".profile",
    "..",
    "{case}.nii.gz\0",
    "\u202e{case}.nii.gz",
    "\x1b[2J{case}.nii.gz",
    "x" * 300 + "{case}.nii.gz",
    "{case.__class__}.nii.gz",  # one name for both cases, since nothing is formatted
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_the_name_of_a_submission_never_leaves_its_folder(given: Path, one_line: OneLine, name: str) -> None:
    edit(given, lambda record: record.update(submission_name=name.replace("ABSOLUTE", str(given))))
    before = everything(given.parents[1])
    line = one_line(*submit(given))
    assert line.startswith(("error LAY01: ", "error NAM04: "))
    assert everything(given.parents[1]) == before


BAD_RECORDS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a label that becomes the folder above": (of_case("source_labels", {NAMES[0]: ["x/.."]}), "is '..', not"),
    "two labels of one name": (
        lambda record: [
            case.update(source_labels={case["name"]: [f"{case['name']}/seg.nii"]})
            for case in record["cases"]
            if case["split"] == "test"
        ],
        "NAM04: the predictions for BraTS20_Validation_001 and BraTS20_Validation_002 would both become seg.nii",
    ),
    "a case named by a path": (of_case("name", "../../x"), "'../../x.nii.gz', not the name"),
    "an output named by a path": (of_case("outputs", ["../x"]), "not the name of a single file"),
    "a type that is none": (of_case("label_dtype", "object"), "label_dtype is 'object'"),
    "a type of a gigabyte": (of_case("label_dtype", "S1000000000"), "label_dtype is"),
    "a type of pictures": (of_case("label_dtype", "bool"), "the type of the label"),
    "a type that is a list": (of_case("label_dtype", ["uint8"]), "label_dtype is a list"),
    "a shape that is none": (of_case("shape", [8, 7, "6"]), "shape[2] is '6'"),
    "a shape of many axes": (of_case("shape", [1] * 99), "shape has 99 items"),
    "an enormous picture": (of_case("resized_from", [10**6, 10**6]), "the size of a picture"),
    "values that are no numbers": (
        lambda record: record["label_map"].update(inverse={"0": "import os"}),
        "label_map.inverse.0 is 'import os'",
    ),
    "keys that are no numbers": (lambda record: record["label_map"].update(inverse={"x": 1}), "a whole number as text"),
    "a value too large for the type": (
        lambda record: record["label_map"]["inverse"].update({"1": 300}),
        "LAB01: ",
    ),
    "an ending that is a pattern": (lambda record: record.update(file_ending="**x"), "file_ending is '**x'"),
    "an ending that is a path": (lambda record: record.update(file_ending="./../x"), "file_ending"),
    "cases that are none": (lambda record: record.update(cases=[[], 1, None]), "cases[0] is a list"),
    "no cases": (lambda record: record.pop("cases"), "has no cases"),
    "too few labels for a stack": (of_case("source_labels", {NAMES[0]: ["a.png", "b.png"]}), "has 2 labels"),
}


@pytest.mark.parametrize("what", BAD_RECORDS)
def test_a_record_that_leads_nowhere_is_refused_before_anything_is_written(
    given: Path, one_line: OneLine, what: str
) -> None:
    change, text = BAD_RECORDS[what]
    edit(given, change)
    before = everything(given.parents[1])
    line = one_line(*submit(given))
    assert text in line
    assert everything(given.parents[1]) == before


def test_further_keys_and_missing_ones_that_are_not_needed_are_passed_over(given: Path) -> None:
    def change(record: dict[str, Any]) -> None:
        record.update(future={"a": [1]}, family=record["family"])
        for key in ("options", "run", "splits", "licence", "submission_name"):
            del record[key]
        for case in record["cases"]:
            case["future"] = None
            for key in ("aliases", "sources", "files", "resized_from", "id"):
                del case[key]

    edit(given, change)
    written = to_submission("brats2020", given / "predictions", given / "out", raw=given / "nnUNet_raw")
    assert [path.name for path in written] == [f"{name}.nii.gz" for name in NAMES]


@pytest.mark.parametrize("kind", ["a pipe", "an endless device", "a folder", "a link to nowhere"])
def test_a_prediction_that_is_no_file_is_refused(given: Path, one_line: OneLine, kind: str) -> None:
    path = given / "predictions" / f"{NAMES[1]}.nii.gz"
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "a folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero" if kind == "an endless device" else "nowhere")
    line = one_line(*submit(given))
    assert line.startswith("error IO01: ")
    assert path.name in line


def test_a_prediction_that_would_fill_the_memory_is_not_expanded(given: Path, nifti: Callable[..., bytes]) -> None:
    header = bytearray(nifti(np.zeros((8, 7, 6), np.uint8))[:352])
    header[42:48] = np.array([500, 500, 400], "<i2").tobytes()
    (given / "predictions" / f"{NAMES[0]}.nii.gz").write_bytes(gzip.compress(bytes(header) + bytes(100_000_000), 1))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"GEO02: .*shape \(500, 500, 400\)"):
        to_submission("brats2020", given / "predictions", given / "out", raw=given / "nnUNet_raw")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("kind", ["a pipe", "an endless device", "not JSON", "nested", "a list"])
def test_a_record_that_cannot_be_read_is_no_record(given: Path, one_line: OneLine, kind: str) -> None:
    path = given / "nnUNet_raw" / FOLDER / "provenance.json"
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "an endless device":
        path.symlink_to("/dev/zero")
    else:
        path.write_text({"not JSON": "{", "nested": "[" * 100_000, "a list": "[1]"}[kind])
    assert one_line(*submit(given)).startswith("error LAY01: no conversion of brats2020 with id 520")
    told = {"a pipe": "regular file", "an endless device": "regular file", "a list": "not the record of a conversion"}
    told |= {"not JSON": "not valid JSON", "nested": "levels deep"}
    with pytest.raises(UserError, match=told[kind]) as error:
        changed_files(path.parent)
    assert str(path) in str(error.value)


# --- checksums ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["../../../secret", "imagesTr/../../../secret", "/etc/passwd", "dataset.json", "x", 3])
def test_no_path_of_a_record_leads_out_of_the_four_folders(given: Path, path: Any) -> None:
    (given / "secret").write_text("secret")
    edit(given, lambda record: record["cases"][0]["files"][0].update(path=path))
    with pytest.raises(UserError, match=r"not the record of a conversion: cases\[0\]\.files\[0\]\.path"):
        changed_files(given / "nnUNet_raw" / FOLDER)


@pytest.mark.parametrize("kind", ["a pipe", "an endless device", "a folder", "a bomb", "another file of that size"])
def test_files_that_are_not_as_recorded_are_told_in_no_time_and_little_memory(given: Path, kind: str) -> None:
    folder = given / "nnUNet_raw" / FOLDER
    path = next((folder / "imagesTr").iterdir())
    size = path.stat().st_size
    path.unlink()
    if kind == "a pipe":
        os.mkfifo(path)
    elif kind == "an endless device":
        path.symlink_to("/dev/zero")
    elif kind == "a folder":
        path.mkdir()
    else:
        path.write_bytes(gzip.compress(bytes(100_000_000), 1) if kind == "a bomb" else bytes(size))
    name = f"imagesTr/{path.name}"
    sizes = {"size": path.stat().st_size, "of": "content"}
    edit(given, lambda record: [f.update(sizes) for c in record["cases"] for f in c["files"] if f["path"] == name])
    tracemalloc.start()
    assert changed_files(folder) == [name]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_link_to_the_download_is_an_image_like_any_other(given: Path) -> None:
    folder = given / "nnUNet_raw" / FOLDER
    path = next((folder / "imagesTr").iterdir())
    path.rename(given / "elsewhere")
    path.symlink_to(given / "elsewhere")
    assert changed_files(folder) == []
