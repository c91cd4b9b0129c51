"""What an evaluation has measured so far, a line a case, so that a call that was cut off goes on where it stopped.

The first line says what is evaluated and how: an evaluation of something else does not go on in the same folder. A
case counts as measured while its two files have the size and the time of change that they had. Lines that are broken,
as the last one may be after a kill, or of another form are passed over; the later line of a case holds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

from nnunet_ext import forms
from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.measure import Outcome, Stamp
from nnunet_ext.files import parse_json, read_regular_file

NAME = "journal.jsonl"
#: a line of ten regions and thirty columns takes 10 kB
_MAX_BYTES = 1 << 30
_KIND = "nnunet_ext evaluate"

_ROW = forms.mapping(forms.text, forms.optional(forms.real))
_ENTRY = forms.record(
    {
        "case": forms.case_name,
        "stamp": forms.list_of(forms.between(0, 1 << 63), length=4),
        "rows": forms.mapping(forms.text, _ROW),
        "axes_differ": forms.boolean,
    }
)


class Journal:
    """The journal of one folder of results.

    Args:
        folder: that exists.
        request: what is evaluated and how, as plain data of JSON.
        regions: that every case must have.
        columns: that every region must have.

    Raises:
        UserError: the journal is of another evaluation, or cannot be read.
    """

    def __init__(
        self, folder: Path, request: Mapping[str, Any], regions: Collection[str], columns: Collection[str]
    ) -> None:
        self._path = folder / NAME
        self._head = {"kind": _KIND, "request": json.loads(json.dumps(request))}
        self._regions, self._columns = set(regions), set(columns)
        self._measured: dict[str, Outcome] = {}
        self._file: IO[str] | None = None
        self._whole = True
        self._read()

    def finished(self, case: str, stamp: Stamp) -> Outcome | None:
        """What is known of a case whose files are as they were; None if it is to be measured."""
        known = self._measured.get(case)
        return known if known is not None and known.stamp == stamp else None

    def add(self, outcome: Outcome) -> None:
        """Note the rows of a case.

        Raises:
            OSError: the disk is full, or the like.
        """
        rows = {
            region: {column: None if math.isnan(value) else value for column, value in row.items()}
            for region, row in outcome.rows.items()
        }
        about = {"case": outcome.case, "stamp": outcome.stamp, "axes_differ": outcome.axes_differ}
        self._write({**about, "rows": rows})

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove_if_empty(self) -> None:
        """Where nothing was ever measured, nothing is kept."""
        if not self._measured:
            self.close()
            self._path.unlink(missing_ok=True)
            self._whole = True

    def _write(self, entry: Mapping[str, Any]) -> None:
        if self._file is None:
            self._file = self._path.open("a", encoding="ascii")
            if not self._whole:
                self._file.write("\n")  # what a kill left of a line ends here
        self._file.write(json.dumps(entry) + "\n")
        self._file.flush()

    def _read(self) -> None:
        try:
            data = read_regular_file(self._path, _MAX_BYTES)
        except FileNotFoundError:
            data = b""
        lines = data.split(b"\n")
        self._whole = not lines[-1]
        heads = [entry for line in lines[:1] if isinstance(entry := _parsed(line, self._path), dict)]
        if not heads or heads[0].get("kind") != _KIND:
            if data and self._whole:
                raise UserError("not the journal of an evaluation", file=self._path, remedy="give another -o")
            # nothing, or less than one line: the first call was cut off there
            self.remove_if_empty()
            self._write(self._head)
            return
        if not any(lines[1:]) and heads[0].get("request") != self._head["request"]:
            self.remove_if_empty()  # nothing was measured
            self._write(self._head)
            return
        self._check_same(heads[0].get("request"))
        for line in lines[1:]:
            entry = _parsed(line, self._path)
            if self._is_ours(entry):
                rows = {
                    region: {column: math.nan if value is None else value for column, value in row.items()}
                    for region, row in entry["rows"].items()
                }
                first, second, third, fourth = entry["stamp"]
                stamp = (first, second, third, fourth)
                self._measured[entry["case"]] = Outcome(entry["case"], stamp, rows, axes_differ=entry["axes_differ"])

    def _check_same(self, request: Any) -> None:
        ours = self._head["request"]
        if request == ours:
            return
        known = request if isinstance(request, dict) else {}
        other = [key for key in ours if known.get(key) != ours[key]] or ["parameters"]
        raise UserError(
            f"the folder holds an evaluation with other {', '.join(other)}",
            file=self._path.parent,
            remedy="give another -o, or remove the folder",
        )

    def _is_ours(self, entry: Any) -> bool:
        try:
            _ENTRY(entry, "")
        except forms.FormError:
            return False
        return entry["rows"].keys() == self._regions and all(
            row.keys() == self._columns for row in entry["rows"].values()
        )


def _parsed(line: bytes, file: Path) -> Any:
    try:
        return parse_json(line, file)
    except UserError:
        return None
