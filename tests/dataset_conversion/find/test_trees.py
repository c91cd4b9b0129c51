"""A missing label makes a test case only where a whole part of the download has none."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.find.assemble import Assembled, assemble
from nnunet_ext.dataset_conversion.find.layout import match
from nnunet_ext.dataset_conversion.find.sources import index

MakeCase = Callable[..., Path]


def assembled(name: str, *sources: Path) -> Assembled:
    return assemble(match(get(name), index(list(sources), [], None).files))


def told(result: Assembled) -> list[tuple[str, str]]:
    return [(finding.code, finding.message) for finding in result.findings]


def packed(folder: Path, into: Path) -> Path:
    into.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(into, "w") as tar:
        tar.add(folder, folder.name)
    return into


def test_the_only_case_of_a_grade_is_no_test_case_for_lack_of_a_label(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "training" / "HGG", "BraTS19_CBICA_ASH_1")
    brats_case(tmp_path / "training" / "LGG", "BraTS19_TCIA_101_1", label=False)
    assert told(assembled("brats2019", tmp_path)) == [("NAM01", "BraTS19_TCIA_101_1 lacks seg")]
    both = assembled("brats2019", tmp_path / "training" / "HGG", tmp_path / "training" / "LGG")
    assert told(both) == [("NAM01", "BraTS19_TCIA_101_1 lacks seg")]


@pytest.mark.parametrize("form", ["folder", "archive", "source folder", "source archive"])
def test_a_single_case_beside_a_large_archive_is_no_test_case(tmp_path: Path, brats_case: MakeCase, form: str) -> None:
    single = brats_case(tmp_path / "apart", "BraTS2021_00495", label=False)
    top = tmp_path / "download"
    packed(brats_case(tmp_path / "made", "BraTS2021_00001"), top / "BraTS2021_Training_Data.tar")
    sources = [top]
    if form == "folder":
        single.rename(top / single.name)
    elif form == "archive":
        packed(single, top / "BraTS2021_00495.tar")
    elif form == "source folder":
        sources.append(single)
    else:
        sources.append(packed(single, tmp_path / "BraTS2021_00495.tar"))
    assert told(assembled("brats2021", *sources)) == [("NAM01", "BraTS2021_00495 lacks seg")]


def test_validation_data_as_a_second_source_are_test_cases(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "training", "BraTS2021_00001")
    brats_case(tmp_path / "validation", "BraTS2021_00003", label=False)
    result = assembled("brats2021", tmp_path / "training", tmp_path / "validation")
    assert [case.split for case in result.cases] == ["train", "test"]
    assert told(result) == [("NAM06", "cases without any label are taken as test cases: 1")]


def test_a_training_name_without_label_is_an_error_wherever_it_lies(tmp_path: Path, brats_case: MakeCase) -> None:
    brats_case(tmp_path / "one", "BraTS20_Training_001")
    brats_case(tmp_path / "two", "BraTS20_Training_002", label=False)
    assert told(assembled("brats2020", tmp_path)) == [("NAM01", "BraTS20_Training_002 lacks seg")]
