"""Labels of predictions and references: rounded where arithmetic moved them, refused with their value elsewhere; and
what is no image is named for what it is, before it takes memory."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation import images
from nnunet_ext.evaluation.evaluate import evaluate_case
from nnunet_ext.evaluation.images import read_grid, read_label_map

LABEL = np.random.default_rng(0).choice([0, 0, 1, 2, 4], (4, 5, 6))


def write(path: Path, values: np.ndarray) -> Path:
    sitk.WriteImage(sitk.GetImageFromArray(values), str(path))
    return path


@pytest.mark.parametrize(
    "values", [LABEL + 3e-5 * (LABEL == 2), LABEL * 1.00392, LABEL * 0.9999, LABEL * 0.99999997, LABEL / 60 * 60]
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_labels_that_arithmetic_moved_are_rounded(tmp_path: Path, values: np.ndarray, dtype: type) -> None:
    if np.abs(values - LABEL).max() > 4 / 510 + 1e-6:
        values = np.where(LABEL == 4, 4.0, values)  # 8 bits move the largest value least
    labels, _ = read_label_map(write(tmp_path / "x.nii.gz", values.astype(dtype)))
    np.testing.assert_array_equal(labels, LABEL)
    assert np.issubdtype(labels.dtype, np.integer)


@pytest.mark.parametrize(
    ("value", "text"), [(2.5, "the value 2.5: it is 0.5 off"), (1.02, "the value 1.02"), (np.nan, "nan")]
)
def test_other_fractions_are_refused_and_shown(tmp_path: Path, value: float, text: str) -> None:
    with pytest.raises(UserError, match=f"labels must be whole numbers, this file holds .*{text}"):
        read_label_map(write(tmp_path / "x.mha", np.where(LABEL == 2, value, LABEL)))


def test_a_prediction_that_declares_another_size_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both headers are compared before a voxel is: an honest file of zeros declares what no memory holds."""
    write(tmp_path / "reference.nii.gz", LABEL.astype(np.uint8))
    write(tmp_path / "prediction.nii.gz", np.zeros((40, 50, 60), np.uint8))
    assert read_grid(tmp_path / "prediction.nii.gz")[0] == (40, 50, 60)
    monkeypatch.setattr(images.sitk.ImageFileReader, "Execute", lambda *_: pytest.fail("read"))
    with pytest.raises(UserError, match=r"prediction \(40, 50, 60\) .*does not fit its reference \(4, 5, 6\)"):
        evaluate_case(tmp_path / "prediction.nii.gz", tmp_path / "reference.nii.gz", {"a": (1,)})


def test_folders_links_and_files_that_hold_more_than_they_declare_are_named(tmp_path: Path) -> None:
    (tmp_path / "folder.nii.gz").mkdir()
    (tmp_path / "link.nii.gz").symlink_to(tmp_path / "nothing")
    path = write(tmp_path / "x.nii.gz", LABEL.astype(np.uint8))
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(1 << 25), 1))
    for name, text in (
        ("folder", "a folder, where a file should be"),
        ("link", "a link to nothing"),
        ("none", "file not found"),
        ("x", "unpacks to more than its header declares"),
    ):
        with pytest.raises(UserError, match=text):
            read_label_map(tmp_path / f"{name}.nii.gz")


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    path = write(tmp_path / "x.nii.gz", LABEL.astype(np.uint8))
    monkeypatch.setattr(images.sitk, "GetArrayFromImage", no_memory)
    with pytest.raises(UserError, match="the memory does not suffice for this image"):
        read_label_map(path)
