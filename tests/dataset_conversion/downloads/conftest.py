"""Synthetic downloads to convert and to break, and what must hold after a refusal."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest

from nnunet_ext.cli import main
from nnunet_ext.phantoms import write_phantoms

# Small, quick to write, and still whole brains with all parts of a tumour.
_SHAPES = {"brats2021": (12, 14, 16), "brats2020": (12, 14, 16), "brats2019": (12, 14, 16), "lgg": (12, 16, 18)}
_SHAPES |= {"hvsmr2016": (12, 14, 16), "malc": (20, 24, 24)}
_SHAPES |= {"busi": (1, 40, 48), "kvasir-seg": (1, 40, 48)}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``pristine(dataset, layout=None, quirks=False, cases=6)``: a phantom download, written once; do not change it."""
    written: dict[tuple[Any, ...], Path] = {}

    def get(dataset: str, layout: str | None = None, quirks: bool = False, cases: int = 6) -> Path:
        key = dataset, layout, quirks, cases
        if key not in written:
            out = tmp_path_factory.mktemp("pristine") / "download"
            write_phantoms(dataset, out, cases=cases, seed=1, shape=_SHAPES[dataset], layout=layout, quirks=quirks)
            written[key] = out
        return written[key]

    return get


@pytest.fixture
def download(pristine: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """``download(dataset, ...)``: a copy of a phantom download that the test may break."""

    def copy(dataset: str, name: str = "download", **how: Any) -> Path:
        return Path(shutil.copytree(pristine(dataset, **how), tmp_path / name))

    return copy


@pytest.fixture
def verify(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """nnU-Net's own integrity check, with threads in place of its spawned processes (2 s each)."""
    from nnunetv2.experiment_planning import verify_dataset_integrity as module

    threads = SimpleNamespace(get_context=lambda _: SimpleNamespace(Pool=ThreadPool))
    monkeypatch.setattr(module, "multiprocessing", threads)
    return lambda folder: module.verify_dataset_integrity(str(folder), num_processes=2)


@dataclass(frozen=True)
class Outcome:
    """What a command printed and returned."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(nnunet_folders: Any, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """``command("convert", ...)``: our console command in this process, one worker unless ``-np`` is given."""

    def run(verb: str, *arguments: Any) -> Outcome:
        given = [str(argument) for argument in arguments]
        if verb == "convert" and "-np" not in given:
            given += ["-np", "1"]
        capsys.readouterr()
        code = main([verb, *given])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return run


@pytest.fixture
def refused(command: Callable[..., Outcome], nnunet_folders: Any) -> Callable[..., str]:
    """``refused(code, texts, "convert", ...)``: exit 2, one line with code and texts, nothing half-written."""

    def check(code: str, texts: tuple[str, ...], *arguments: Any, bad_case: str = "") -> str:
        outcome = command(*arguments)
        lines = outcome.err.strip().splitlines()
        assert outcome.code == 2, f"exit code {outcome.code}; printed: {outcome.err or outcome.out}"
        assert len(lines) == 1, f"not one line: {outcome.err}"
        assert lines[0].startswith(f"error {code}: "), lines[0]
        for text in texts:
            assert text in lines[0], f"{text!r} is not in: {lines[0]}"
        left = [path for path in nnunet_folders.raw.rglob("*") if path.is_file()]
        half = [path.name for path in left if ".tmp-" in path.name]
        assert not half, f"half-written files: {half}"
        assert not list(nnunet_folders.raw.glob(".extract*")), "unpacked files were left"
        assert "dataset.json" not in {path.name for path in left}, "the dataset looks complete"
        if bad_case:
            assert not [path.name for path in left if path.name.startswith(bad_case)], "files of the bad case were kept"
        return lines[0]

    return check


@pytest.fixture(scope="session")
def edit_nifti() -> Callable[..., None]:
    """``edit_nifti(path, change_array, change_header)``: rewrite a NIfTI file, compressed or not."""

    def edit(
        path: Path,
        array: Callable[[np.ndarray], np.ndarray] = lambda values: values,
        header: Callable[[Any], None] = lambda _: None,
    ) -> None:
        data = path.read_bytes()
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(data) if path.name.endswith(".gz") else data)
        values = array(np.asarray(image.dataobj))
        new = nibabel.Nifti1Image(values, image.affine)
        new.header.set_xyzt_units("mm")
        new.set_qform(image.affine, code=1)
        new.set_sform(image.affine, code=1)
        header(new.header)
        # Byte by byte, so that a header may say what nibabel would not write.
        new.header["vox_offset"], new.header["magic"] = 352, b"n+1"
        data = new.header.binaryblock + bytes(4) + np.asarray(values).tobytes(order="F")
        path.write_bytes(gzip.compress(data, 1, mtime=0) if path.name.endswith(".gz") else data)

    return edit


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    """``tree(folder)``: relative path -> sha256 of every file."""

    def digest(folder: Path) -> dict[str, str]:
        return {
            path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }

    return digest
