"""The journal trusts nothing but whole lines and files of the recorded size."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.case import Case, SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.output.journal import NAME, Journal, remove_leftovers
from nnunet_ext.dataset_conversion.tasks import CaseResult


def case(name: str, size: int = 3) -> Case:
    return Case(name, name, "train", {"t1": (SourceFile(0, name, name, size),)}, name)


def result(folder: Path, name: str) -> CaseResult:
    (folder / "imagesTr").mkdir(exist_ok=True)
    (folder / "imagesTr" / name).write_bytes(b"abc")
    return CaseResult(
        name,
        outputs=[name],
        files=[{"path": f"imagesTr/{name}", "operation": "copy", "size": 3, "sha256": "0", "of": "file"}],
        findings=[Finding("LAB04", "no edema", name)],
        voxels={1: 0, 2: 7},
        spacing=[0.1 + 0.2],
    )


@pytest.fixture
def written(tmp_path: Path) -> dict[str, CaseResult]:
    journal = Journal(tmp_path)
    results = {name: result(tmp_path, name) for name in ("a", "b", "c")}
    for name, one in results.items():
        journal.add(case(name), one)
    journal.close()
    return results


def test_a_result_comes_back_exactly(tmp_path: Path, written: dict[str, CaseResult]) -> None:
    again = Journal(tmp_path)
    assert {name: again.finished(case(name)) for name in written} == written
    assert again.finished(case("d")) is None


@pytest.mark.parametrize("cut", [1, 5, 100])
def test_a_torn_last_line_is_cut_off(tmp_path: Path, written: dict[str, CaseResult], cut: int) -> None:
    path = tmp_path / NAME
    path.write_bytes(path.read_bytes()[:-cut])
    again = Journal(tmp_path)
    assert again.finished(case("b")) == written["b"]
    assert again.finished(case("c")) is None
    again.add(case("c"), written["c"])
    again.close()
    assert Journal(tmp_path).finished(case("c")) == written["c"]


def test_a_case_with_missing_or_changed_files_is_done_again(tmp_path: Path, written: dict[str, CaseResult]) -> None:
    (tmp_path / "imagesTr" / "a").unlink()
    (tmp_path / "imagesTr" / "b").write_bytes(b"abcd")
    again = Journal(tmp_path)
    assert [name for name in written if again.finished(case(name)) is not None] == ["c"]
    assert again.finished(case("c", size=4)) is None, "another source file"


def test_leftovers_are_removed_and_nothing_else(tmp_path: Path, written: dict[str, CaseResult]) -> None:
    (tmp_path / "imagesTr" / ".a.tmp-123").write_bytes(b"")
    (tmp_path / ".report.md.tmp-123").write_bytes(b"")
    remove_leftovers(tmp_path)
    assert sorted(path.name for path in (tmp_path / "imagesTr").iterdir()) == sorted(written)
    remove_leftovers(tmp_path, {"imagesTr/a"})
    assert [path.name for path in (tmp_path / "imagesTr").iterdir()] == ["a"]
    assert (tmp_path / NAME).is_file()
