"""Optional tables are read in every spelling seen; a given table of groups must be whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_ext.dataset_conversion.case import Case, SourceFile
from nnunet_ext.dataset_conversion.datasets import get
from nnunet_ext.dataset_conversion.find.layout import match
from nnunet_ext.dataset_conversion.find.sources import index
from nnunet_ext.dataset_conversion.find.tables import apply_tables, read_groups, read_rows
from nnunet_ext.errors import UserError


def case(name: str, stratum: str | None = None) -> Case:
    return Case(name, name, "train", {}, name, stratum)


def table(tmp_path: Path, name: str, data: bytes | str) -> SourceFile:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return SourceFile(0, name, str(path), path.stat().st_size)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_delimiter_line_ends_and_mark_are_found_out(delimiter: str, newline: str) -> None:
    text = "\ufeff" + newline.join(delimiter.join(row) for row in (["a", "b "], ["1", ""], ["2", " x"])) + newline
    assert read_rows(text) == [["a", "b"], ["1", ""], ["2", "x"]]


HEADER_2020 = (
    "Grade,BraTS_2017_subject_ID,BraTS_2018_subject_ID,TCGA_TCIA_subject_ID,BraTS_2019_subject_ID,BraTS_2020_subject_ID"
)


def test_grades_and_names_of_other_years_come_from_the_mapping_of_2020(tmp_path: Path) -> None:
    rows = [
        "HGG,Brats17_CBICA_AAB_1,Brats18_CBICA_AAB_1,NA,BraTS19_CBICA_AAB_1,BraTS20_Training_001",
        "LGG,NA,NA,NA,NA,BraTS20_Training_002",
    ]
    file = table(tmp_path, "name_mapping.csv", "\n".join([HEADER_2020, *rows]))
    cases = [case(f"BraTS20_Training_{number:03d}") for number in (1, 2, 3)]
    filled, findings = apply_tables(get("brats2020"), cases, [file])
    assert findings == []
    assert [found.stratum for found in filled] == ["HGG", "LGG", None]
    assert filled[0].aliases == {
        "brats2017": "Brats17_CBICA_AAB_1",
        "brats2018": "Brats18_CBICA_AAB_1",
        "brats2019": "BraTS19_CBICA_AAB_1",
    }
    assert filled[1].aliases == {}


def test_the_mapping_of_2021_gives_sites_in_spite_of_its_odd_header(tmp_path: Path) -> None:
    header = "BraTS2021,BraTS2020,BraTS2019,BraTS2018,BraTS2017,Data Collection,Site No (of origin),Local ID\u00a0"
    row = "BraTS2021_00140,BraTS20_Training_128,BraTS19_CBICA_BLJ_1,,,TCGA-GBM,21,x"
    file = table(tmp_path, "BraTS21-17_Mapping.csv", f"{header}\n{row}\n")
    (filled,), findings = apply_tables(get("brats2021"), [case("BraTS2021_00140")], [file])
    assert findings == []
    assert filled.stratum == "21"
    assert filled.aliases == {"brats2020": "BraTS20_Training_128", "brats2019": "BraTS19_CBICA_BLJ_1"}


def test_the_table_wins_over_the_folder_and_the_folder_over_nothing(tmp_path: Path) -> None:
    file = table(tmp_path, "name_mapping.csv", "Grade,BraTS_2019_subject_ID\nLGG,BraTS19_CBICA_A_1\n")
    cases = [case("BraTS19_CBICA_A_1", "HGG"), case("BraTS19_CBICA_B_1", "HGG")]
    filled, _ = apply_tables(get("brats2019"), cases, [file])
    assert [found.stratum for found in filled] == ["LGG", "HGG"]


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00\x01", b"a,b\n1,2\n"], ids=["empty", "binary", "other columns"])
def test_an_unreadable_table_is_a_warning(tmp_path: Path, data: bytes) -> None:
    file = table(tmp_path, "name_mapping.csv", data)
    filled, findings = apply_tables(get("brats2020"), [case("BraTS20_Training_001")], [file])
    assert [(finding.code, finding.severity) for finding in findings] == [("CSV01", "warning")]
    assert filled[0].stratum is None


def test_a_missing_table_is_a_warning_only_where_it_would_help(tmp_path: Path) -> None:
    _, findings = apply_tables(get("brats2020"), [case("BraTS20_Training_001")], [])
    assert [finding.code for finding in findings] == ["CSV01"]
    _, findings = apply_tables(get("brats2019"), [case("BraTS19_CBICA_A_1", "HGG")], [])
    assert findings == []
    assert apply_tables(get("lgg"), [case("TCGA_CS_4941_19960909")], [])[1] == []


def test_a_spreadsheet_is_not_read_and_that_is_said(tmp_path: Path, brats_case: Callable[..., Path]) -> None:
    brats_case(tmp_path, "BraTS2021_00001")
    (tmp_path / "BraTS2023_2017_GLI_Mapping.xlsx").write_bytes(b"PK")
    matched = match(get("brats2021"), index([tmp_path], [], None).files)
    _, (finding,) = apply_tables(get("brats2021"), [case("BraTS2021_00001")], matched.tables)
    assert (finding.code, finding.severity) == ("CSV01", "warning")
    assert "BraTS2023_2017_GLI_Mapping.xlsx is a spreadsheet" in finding.message
    assert finding.remedy == "export it as BraTS2023_2017_GLI_Mapping.csv"
    file = table(tmp_path, "mapping.csv", "BraTS2021,Site No\nBraTS2021_00001,21\n")
    (filled,), findings = apply_tables(get("brats2021"), [case("BraTS2021_00001")], [*matched.tables, file])
    assert (filled.stratum, findings) == ("21", [])


BAD_GROUPS = {
    "lacks b and 1 more": "case,group\na,1\n",
    "has a twice": "case,group\na,1\na,2\nb,1\nc,1\n",
    "has no group for b": "case,group\na,1\nb,\nc,1\n",
    "does not begin with": "a,1\nb,1\nc,1\n",
    "cannot be read": None,
}


@pytest.mark.parametrize(("text", "content"), BAD_GROUPS.items())
def test_a_given_table_of_groups_must_be_whole(tmp_path: Path, text: str, content: str | None) -> None:
    path = tmp_path / "groups.csv"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=f"CSV02: .*{text}"):
        read_groups(str(path), ["a", "b", "c"])


def test_a_table_of_groups_may_hold_more_cases(tmp_path: Path) -> None:
    path = tmp_path / "groups.csv"
    path.write_text("Case;Group\na;1\nb;2\nz;1\n")
    assert read_groups(str(path), ["a", "b"]) == {"a": "1", "b": "2", "z": "1"}
