"""Names in a download that are not UTF-8, or that steer a screen, travel through all that a conversion writes."""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion import convert as converting
from nnunet_ext.dataset_conversion.datasets import DATASETS
from nnunet_ext.phantoms import write_phantoms

BAD = os.fsdecode(b"caf\xe9_\xff\n\x1b[2J")


@pytest.fixture(params=DATASETS)
def download(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A phantom in folders of such names, with files of such names at its top and beside its deepest files."""
    folder = tmp_path / f"source {BAD}" / BAD
    write_phantoms(request.param, folder, cases=6)
    deepest = max((path for path in folder.rglob("*") if path.is_dir()), key=lambda path: len(path.parts))
    for place in {folder, deepest}:
        for ending in (".txt", ".png", ".nii.gz"):
            (place / f"{BAD}{ending}").write_text("x")
    return request.param, folder.parent


def test_a_download_with_names_that_are_not_utf_8_is_converted_gone_on_with_and_known_again(
    tmp_path: Path, download: tuple[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, source = download
    given = ["convert", dataset, "-i", str(source), "-o", str(tmp_path / "raw"), "-d", "137", "--splits", "2"]
    given += ["-np", "1", "--json"]

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr(converting, "finish", killed)
        assert main(given) == 130
    capsys.readouterr()
    assert main(given) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["resumed"] == sum(document["cases"].values()), "the journal was not read"
    folder = Path(document["folder"])
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    paths = [file["path"] for case in record["cases"] for file in case["sources"]]
    assert all(path.startswith(f"{BAD}/") for path in paths), "names come back as they were"
    assert all((source / path).is_file() for path in paths if "!/" not in path)
    shown = (folder / "report.md").read_text(encoding="utf-8")
    assert "\x1b" not in shown
    assert "caf\\\\udce9" in shown or "caf\\udce9" in shown, "escaped in the report"
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(given[:-1]) == 0
    out = capsys.readouterr().out
    assert "everything was there already" in out
    assert out.replace("\n", "").isprintable()
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_a_compressed_archive_with_such_names_is_converted(tmp_path: Path, download: tuple[str, Path]) -> None:
    dataset, source = download
    archive = tmp_path / f"{BAD}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(source, BAD)
    given = ["convert", dataset, "-i", str(archive), "-o", str(tmp_path / "raw"), "-d", "137", "--splits", "2"]
    assert main([*given, "-np", "1"]) == 0
    assert [path.name for path in (tmp_path / "raw").glob(".extract*")] == []


def test_nnunet_cannot_read_below_a_folder_whose_name_is_not_utf_8(tmp_path: Path, brats2021: Path, one_line) -> None:
    line = one_line("convert", "brats2021", "-i", brats2021, "-o", tmp_path / BAD)
    assert line.startswith("error OUT04: the path of nnUNet_raw is not UTF-8")
    assert not (tmp_path / BAD).exists()
