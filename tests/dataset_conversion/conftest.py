"""Tiny sources in the real layouts, and a converter call with its own output folder.

Functions are handed out as fixtures, so that tests run under any import mode of pytest.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

IDENTITY = np.diag([-1.0, -1.0, 1.0, 1.0])
BRATS_ROLES = ("t1", "t1ce", "t2", "flair")


def _nifti(array: np.ndarray, affine: np.ndarray = IDENTITY, **fields: Any) -> bytes:
    """A NIfTI-1 file of an array (x, y, z); ``fields`` overwrite header fields afterwards."""
    import nibabel

    image = nibabel.Nifti1Image(array, affine)
    image.set_qform(affine, 1)
    data = bytearray(image.to_bytes())
    header = nibabel.Nifti1Header(bytes(data[:348]), check=False)
    for name, value in fields.items():
        header[name] = value
    data[:348] = header.binaryblock
    return bytes(data)


@pytest.fixture(scope="session")
def nifti() -> Callable[..., bytes]:
    return _nifti


def _brats_label(seed: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng([seed, 99]).choice(np.array([0, 0, 0, 1, 2, 4], np.uint8), shape)


@pytest.fixture(scope="session")
def brats_label() -> Callable[[int, tuple[int, int, int]], np.ndarray]:
    return _brats_label


def _brats_case(
    parent: Path,
    name: str = "BraTS2021_00000",
    *,
    seed: int = 0,
    ending: str = ".nii.gz",
    shape: tuple[int, int, int] = (8, 7, 6),
    label: np.ndarray | bool = True,
    without: Iterable[str] = (),
    content: Mapping[str, bytes] | None = None,
    nested: bool = True,
) -> Path:
    """One case folder. ``content`` gives the uncompressed bytes of a role; ``label=False`` leaves the label out."""
    folder = parent / name if nested else parent
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    for number, role in enumerate(BRATS_ROLES):
        array = np.random.default_rng([seed, number]).integers(0, 1000, shape).astype(np.int16)
        files[role] = _nifti(array)
    if label is not False:
        files["seg"] = _nifti(_brats_label(seed, shape) if label is True else np.asarray(label))
    files |= dict(content or {})
    for role, data in files.items():
        if role not in without:
            packed = gzip.compress(data, 1, mtime=0) if ending.endswith(".gz") else data
            (folder / f"{name}_{role}{ending}").write_bytes(packed)
    return folder


@pytest.fixture(scope="session")
def brats_case() -> Callable[..., Path]:
    return _brats_case


@pytest.fixture
def brats2021(tmp_path: Path) -> Path:
    """Six cases of BraTS 2021, the last two of one patient."""
    source = tmp_path / "download"
    for seed, number in enumerate((0, 2, 3, 5, 8, 1559)):
        _brats_case(source, f"BraTS2021_{number:05d}", seed=seed)
    return source


def _lgg_patient(
    parent: Path,
    name: str = "TCGA_CS_4941_19960909",
    *,
    slices: int = 12,
    seed: int = 0,
    equal: tuple[int, ...] = (),
    size: tuple[int, int] = (10, 9),
    empty: Iterable[int] = (1, 2),
) -> Path:
    """One patient of LGG; ``equal`` channels are copies of FLAIR, slices in ``empty`` have no tumour."""
    folder = parent / name
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(1, slices + 1):
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        for channel in equal:
            image[..., channel] = image[..., 1]
        mask = np.zeros(size, np.uint8)
        if number not in empty:
            mask[2:6, 3 : 3 + number % 5 + 1] = 255
        Image.fromarray(image).save(folder / f"{name}_{number}.tif")
        Image.fromarray(mask).save(folder / f"{name}_{number}_mask.tif")
    return folder


@pytest.fixture(scope="session")
def lgg_patient() -> Callable[..., Path]:
    return _lgg_patient


LGG_NAMES = (
    "TCGA_CS_4941_19960909",
    "TCGA_CS_4942_19970222",
    "TCGA_DU_5849_19950405",
    "TCGA_HT_7473_19970826",
    "TCGA_HT_7475_19970918",
)


@pytest.fixture
def lgg(tmp_path: Path) -> Path:
    """Five patients of LGG, 11 to 15 slices each."""
    source = tmp_path / "kaggle_3m"
    for seed, name in enumerate(LGG_NAMES):
        _lgg_patient(source, name, slices=11 + seed, seed=seed)
    return source


@pytest.fixture
def convert_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """``convert_to("brats2021", source, dataset_id=7)``: converts into ``tmp_path/nnUNet_raw``, in this process."""
    from nnunet_ext.dataset_conversion.convert import convert
    from nnunet_ext.dataset_conversion.options import Options

    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)

    def run(dataset: Any, *sources: Path, **options: Any) -> Any:
        options = {"output": tmp_path / "nnUNet_raw", "processes": 1, "splits": 2, **options}
        return convert(dataset, sources, Options(**options))

    return run


@pytest.fixture(scope="session")
def content() -> Callable[[Path], dict[str, bytes]]:
    """Every file below a folder, by relative name; of ``provenance.json`` without the field of this run."""

    def read(folder: Path) -> dict[str, bytes]:
        import json

        found = {}
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                data = path.read_bytes()
                if path.name == "provenance.json":
                    record = json.loads(data)
                    record.pop("run")
                    data = json.dumps(record).encode()
                found[os.fspath(path.relative_to(folder))] = data
        return found

    return read


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real images; tests that need it are skipped where it is absent."""
    given = os.environ.get("NNUNET_EXT_TEST_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[3] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real images here (NNUNET_EXT_TEST_DATA)")
    return folder


@pytest.fixture
def one_line(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``one_line("convert", ...)``: our command must end with exit code 2 and one harmless line, which is returned."""
    from nnunet_ext.cli import main

    def run(*arguments: Any) -> str:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert code == 2, shown
        (line,) = shown.err.splitlines()
        assert line.startswith("error")
        assert line.isprintable()
        return line

    return run
