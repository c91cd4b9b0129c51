"""What a download's names say on a screen or in the report is text: it moves, hides and fakes nothing."""

from __future__ import annotations

import json
import os
import shlex
import sys
import tarfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest

from nnunet_ext.cli import main

NAMES = ("a\x1b[2Jb.txt", "c\rerror: all is lost.txt", "d\u202egpj.txt", "e\nnext: rm -rf x.txt", "f\u2028g.txt")


@pytest.fixture
def convert(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str]]:
    """``convert(source, ...)``: exit code, and everything that was printed."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.delenv(name, raising=False)

    def run(source: Path, *more: str, dataset: str = "brats2021") -> tuple[int, str]:
        given = ["convert", dataset, "-i", str(source), "-o", str(tmp_path / "raw"), "-np", "1", "--splits", "2", *more]
        code = main(given)
        shown = capsys.readouterr()
        return code, shown.out + shown.err

    return run


def harmless(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


def test_names_of_files_stay_within_their_line(
    tmp_path: Path, brats2021: Path, convert: Callable[..., tuple[int, str]]
) -> None:
    case = next(brats2021.iterdir())
    for name in NAMES:
        (brats2021 / name).write_text("x")
    (case / "\x1b[31m").mkdir()
    for file in sorted(case.glob("*.nii.gz")):
        (case / "\x1b[31m" / file.name).write_bytes(file.read_bytes())
    code, shown = convert(brats2021)
    assert code == 0
    assert harmless(shown)
    report = (tmp_path / "raw" / "Dataset521_BraTS2021" / "report.md").read_text()
    assert harmless(report)
    assert r"d\\u202egpj.txt" in report
    code, shown = convert(brats2021, "--dry-run")
    assert harmless(shown)
    assert r"\x1b[31m" in shown, "a finding names the folder"


def test_an_error_about_such_a_name_is_one_line(
    brats2021: Path, convert: Callable[..., tuple[int, str]], one_line: Callable[..., str], tmp_path: Path
) -> None:
    case = next(brats2021.iterdir())
    folder = case.rename(case.with_name("\x1b[2J\r\u202e"))
    (next(folder.glob("*_t1.nii.gz"))).write_bytes(b"x")
    line = one_line("convert", "brats2021", "-i", brats2021, "-o", tmp_path / "raw", "-np", 1, "--splits", 2)
    assert r"\x1b[2J" in line
    code, shown = convert(brats2021, "--dry-run")
    assert code == 2
    assert harmless(shown)


def test_names_are_no_markup_in_the_report(
    tmp_path: Path, brats2021: Path, convert: Callable[..., tuple[int, str]]
) -> None:
    (brats2021 / "<script>alert(1)<").mkdir()
    (brats2021 / "<script>alert(1)<" / "script> | x | [a](b) `c` *d*.txt").write_text("x")
    groups = tmp_path / "groups.csv"
    cases = sorted(path.name for path in brats2021.iterdir() if path.name.startswith("BraTS"))
    groups.write_text("case,group\n" + "".join(f"{case},<b>{number // 2}\n" for number, case in enumerate(cases)))
    assert convert(brats2021, "--groups", str(groups))[0] == 0
    report = (tmp_path / "raw" / "Dataset521_BraTS2021" / "report.md").read_text()
    assert r"\<script\>alert(1)\</script\> \| x \| \[a\](b) \`c\` \*d\*.txt" in report
    assert r"\<b\>0 (2)" in report


def test_a_name_in_another_encoding_ends_no_conversion(
    tmp_path: Path, brats2021: Path, convert: Callable[..., tuple[int, str]]
) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", encoding="latin-1", format=tarfile.GNU_FORMAT) as archive:
        archive.add(brats2021, "data")
        archive.addfile(tarfile.TarInfo("data/L\xe9sions.txt"), BytesIO())
    code, shown = convert(path)
    assert code == 0
    assert harmless(shown)
    folder = tmp_path / "raw" / "Dataset521_BraTS2021"
    record = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))
    assert record["unknown_files"] == ["x.tar!/data/L\udce9sions.txt"]
    assert r"L\\udce9sions.txt" in (folder / "report.md").read_text(encoding="utf-8")
    assert convert(path)[0] == 0, "the record is read again"


def test_commands_to_copy_are_quoted(
    tmp_path: Path,
    brats2021: Path,
    convert: Callable[..., tuple[int, str]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert convert(brats2021)[0] == 0
    other = tmp_path / "raw" / "Dataset009_$(touch x)"
    (tmp_path / "raw" / "Dataset521_BraTS2021").rename(other)
    assert "--exclude-overlap 'Dataset009_$(touch x)' leaves them out" in convert(brats2021)[1]
    out = tmp_path / "$(touch x)"
    assert main(["phantom", "brats2021", "-o", str(out), "--cases", "1", "--shape", "12", "12", "12"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"next: nnunet_ext convert brats2021 -i {shlex.quote(str(out))}"

    from nnunet_ext.dataset_conversion import convert as converting

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(converting, "_write_cases", interrupted)
    monkeypatch.setattr(sys, "argv", ["nnunet_ext", "convert", "$(touch x)", "a\x1bb"])
    code, shown = convert(brats2021, "--restart")
    assert (code, shown.splitlines()[-1]) == (
        130,
        r"interrupted; go on with: nnunet_ext convert '$(touch x)' 'a\x1bb'",
    )


def test_json_is_escaped(brats2021: Path, convert: Callable[..., tuple[int, str]]) -> None:
    for name in NAMES:
        (brats2021 / name).write_text("x")
    (brats2021 / os.fsdecode(b"\xff")).mkdir()
    (brats2021 / os.fsdecode(b"\xff") / "x").write_text("x")
    code, shown = convert(brats2021, "--json")
    assert code == 0
    assert shown.isascii()
    assert harmless(shown)
