"""Optional tables of a download: strata, and names of the same cases in other releases."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from nnunet_ext.dataset_conversion.case import Case, SourceFile
from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.dataset_conversion.description import Dataset, Table
from nnunet_ext.dataset_conversion.find.layout import as_csv
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.options import MAX_USER_FILE_BYTES
from nnunet_ext.dataset_conversion.record_forms import SIZES
from nnunet_ext.errors import UserError
from nnunet_ext.files import parse_json, read_regular_file

# Bytes of a table of a download; the published ones take less than 1 MB.
_MAX_BYTES = 1 << 26
_MEANINGLESS = ("", "na", "n/a", "none", "nan", "-")


def read_rows(text: str) -> list[list[str]]:
    """Rows of a table separated by comma, semicolon or tab (whichever the first line holds most of), cells trimmed."""
    lines = text.lstrip("\ufeff").splitlines()
    if not lines:
        return []
    delimiter = max(",;\t", key=lines[0].count)
    return [
        [cell.strip() for cell in row] for row in csv.reader(io.StringIO("\n".join(lines)), delimiter=delimiter) if row
    ]


def decode(data: bytes) -> str:
    """Text in UTF-8, or else in the encoding in which every byte is a letter."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def _text(file: SourceFile) -> str:
    if file.size > _MAX_BYTES:
        raise UserError(f"{file.shown} is larger than the {_MAX_BYTES >> 20} MiB that a table may have")
    return decode(read(file))


def apply_tables(
    dataset: Dataset, cases: Sequence[Case], files: Sequence[SourceFile]
) -> tuple[list[Case], list[Finding]]:
    """Fill in strata and aliases. A table that is missing or unreadable is a warning, never an error."""
    findings: list[Finding] = []
    facts: dict[str, dict[str, str]] = {}
    for table in dataset.tables:
        own = [file for file in files if re.fullmatch(table.name, file.name, re.IGNORECASE)]
        if not own and _wanted(table, cases):
            findings.append(_no_table(table, files))
        for file in own:
            try:
                for name, values in _facts(table, file).items():
                    facts.setdefault(name.casefold(), {}).update(values)
            except UserError as error:
                findings.append(Finding("CSV01", error.message, file=file.shown))
    filled = []
    for case in cases:
        values = dict(facts.get(case.name.casefold(), {}))
        stratum = values.pop("stratum", None) or case.stratum
        filled.append(replace(case, stratum=stratum, aliases=dict(sorted(values.items()))))
    return filled, findings


def apply_sizes(cases: Sequence[Case], files: Sequence[SourceFile]) -> tuple[list[Case], list[Finding]]:
    """Fill in published sizes from json files: case name -> object with ``width`` and ``height``."""
    findings: list[Finding] = []
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        try:
            table = _text(file)
        except UserError as error:
            findings.append(Finding("CSV01", error.message, file=file.shown))
            continue
        try:
            rows = parse_json(table.encode(), file.shown)
            SIZES(rows, "")
            shapes |= {name.casefold(): (int(row["width"]), int(row["height"])) for name, row in rows.items()}
        except (UserError, ValueError, OverflowError) as error:
            reason = error.message if isinstance(error, UserError) else error
            findings.append(Finding("CSV01", f"{file.shown} is no table of sizes: {reason}", file=file.shown))
    return [replace(case, published_shape=shapes.get(case.name.casefold(), ())) for case in cases], findings


def _no_table(table: Table, files: Sequence[SourceFile]) -> Finding:
    for file in files:
        if re.fullmatch(table.name, as_csv(file.name), re.IGNORECASE):
            return Finding(
                "CSV01",
                f"{file.name} is a spreadsheet, which is not read; its strata and names are not used",
                file=file.shown,
                remedy=f"export it as {as_csv(file.name)}",
            )
    return Finding("CSV01", f"no table of names and strata ({_shown(table)}) in the source")


def _wanted(table: Table, cases: Sequence[Case]) -> bool:
    return "stratum" not in table.columns or any(case.stratum is None and case.split == "train" for case in cases)


def _shown(table: Table) -> str:
    return (
        re.sub(r"\(\?!.*?\)", "", table.name).replace(r"\.", ".").replace(".*", "*").replace("(", "").replace(")", "")
    )


def _facts(table: Table, file: SourceFile) -> dict[str, dict[str, str]]:
    try:
        rows = read_rows(_text(file))
    except csv.Error as error:
        raise UserError(f"{file.shown} is no table: {error}") from error
    header = [cell.casefold() for cell in rows[0]] if rows else []
    columns = {name: _column(regex, header) for name, regex in {"": table.key, **table.columns}.items()}
    if columns[""] is None:
        raise UserError(f"{file.shown} has no column of this release's names")
    facts = {}
    for row in rows[1:]:
        values = {name: row[column] for name, column in columns.items() if column is not None and column < len(row)}
        values = {name: value for name, value in values.items() if value.casefold() not in _MEANINGLESS}
        if "" in values:
            facts[values.pop("")] = values
    return facts


def _column(regex: str, header: Sequence[str]) -> int | None:
    return next((number for number, cell in enumerate(header) if re.match(regex, cell)), None)


def read_groups(path: str, cases: Sequence[str]) -> dict[str, str]:
    """A ``--groups`` table: two columns, case and group, with a header.

    Args:
        path: the csv file.
        cases: names or identifiers, each of which must be there.

    Raises:
        UserError: CSV02.
    """
    try:
        rows = read_rows(decode(read_regular_file(Path(path), MAX_USER_FILE_BYTES)))
    except (FileNotFoundError, UserError, csv.Error) as error:
        raise UserError(
            f"the table of groups cannot be read: {error.message if isinstance(error, UserError) else error}",
            file=path,
            code="CSV02",
            remedy="give a csv with the columns case and group",
        ) from error
    if not rows or [cell.casefold() for cell in rows[0][:2]] != ["case", "group"]:
        raise UserError(
            "the table of groups does not begin with the columns case and group",
            file=path,
            code="CSV02",
            remedy="its first line must be: case,group",
        )
    groups: dict[str, str] = {}
    for row in rows[1:]:
        if len(row) < 2 or not row[1]:
            raise UserError(f"the table of groups has no group for {row[0]}", file=path, code="CSV02")
        if row[0] in groups:
            raise UserError(f"the table of groups has {row[0]} twice", file=path, remedy="keep one row", code="CSV02")
        groups[row[0]] = row[1]
    lacking = [case for case in cases if case not in groups]
    if lacking:
        raise UserError(
            f"the table of groups lacks {lacking[0]}" + (f" and {len(lacking) - 1} more" if lacking[1:] else ""),
            file=path,
            remedy="add a row for each case",
            code="CSV02",
        )
    return groups
