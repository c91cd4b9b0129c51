"""A phantom is converted without a warning of its own making; real downloads are told everything, in few lines."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from nnunet_ext.cli import main
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.reporting.phantom_source import MARK
from nnunet_ext.dataset_conversion.reporting.summary import _lines
from nnunet_ext.phantoms import DATASETS, write_phantoms

#: dataset -> what its quirks are warned of
OF_QUIRKS = {"brats2019": {"LAY03"}, "kvasir-seg": {"GEO07"}}


def warnings(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().out.splitlines()
    return [line.removeprefix("warning").strip() for line in lines if line.startswith("warning")]


def convert(name: str, source: Path, out: Path, *options: str) -> int:
    return main(["convert", name, "-i", str(source), "-o", str(out), "-np", "1", *options])


@pytest.mark.parametrize("quirks", [True, False])
@pytest.mark.parametrize("name", DATASETS)
def test_a_phantom_is_warned_of_for_its_quirks_alone(name, quirks, tmp_path, capsys):
    write_phantoms(name, tmp_path / "download", quirks=quirks, shape=(16, 24, 24))
    assert convert(name, tmp_path / "download", tmp_path / "raw") == 0
    assert {line[:5] for line in warnings(capsys)} == (OF_QUIRKS.get(name, set()) if quirks else set())


@pytest.mark.parametrize("source", ["", "BraTS2021.zip"])
def test_the_records_of_a_phantom_hold_every_finding_and_its_mark_is_no_file_that_was_skipped(source, tmp_path, capsys):
    write_phantoms("brats2021", tmp_path / "download", cases=3, quirks=False, layout="zip", shape=(16, 20, 20))
    assert convert("brats2021", tmp_path / "download" / source, tmp_path / "raw", "--splits", "0") == 0
    said = capsys.readouterr().out
    assert not [line for line in said.splitlines() if line.startswith("warning")]
    assert "hidden" not in said
    (folder,) = (tmp_path / "raw").glob("Dataset*")
    assert (folder / "provenance.json").read_text().count('"code": "GEO07"') == 3
    report = (folder / "report.md").read_text()
    assert "| GEO07 | warning | 3 |" in report
    assert "hidden" not in report


def test_a_cause_that_all_cases_share_is_one_line(tmp_path, capsys):
    write_phantoms("lgg", tmp_path / "download", cases=5, quirks=False)
    (tmp_path / "download" / MARK).unlink()
    assert convert("lgg", tmp_path / "download", tmp_path / "raw", "--as", "3d", "--splits", "0") == 0
    line, note = [line for line in warnings(capsys) if line.startswith("GEO08")]
    assert "right and left" in note
    assert line == ("GEO08: all 5 cases, such as TCGA_CS_4941_19960909: the source has no spacing; 1x1x1 mm is written")


def test_causes_that_differ_have_a_line_each_and_errors_are_never_joined():
    found = [Finding("GEO07", f"c{n} has shape {n % 2}", f"c{n}") for n in range(5)]
    conversion = SimpleNamespace(complete=True, plan=SimpleNamespace(tasks=[None] * 9))
    assert _lines("warning", "GEO07", found, conversion) == [
        "GEO07: 3 of 9 cases, such as c0: has shape 0",
        "GEO07: 2 of 9 cases, such as c1: has shape 1",
    ]
    assert len(_lines("error", "GEO07", found, conversion)) == 5
    several = [Finding("LAY03", f"folder {n}") for n in range(5)]
    assert _lines("warning", "LAY03", several, conversion)[-1] == "LAY03: 2 more like this"
