"""What one check of the doctor says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Finding:
    """One line of the doctor's report.

    ``ok`` tells a fact, ``note`` something worth knowing that stops nothing, ``problem`` something that will make a
    command fail or a result wrong; a problem always says what to do about it.
    """

    status: Literal["ok", "note", "problem"]
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        if self.status == "problem" and not self.remedy:
            raise ValueError(f"a problem needs a remedy: {self.text}")


def ok(text: str) -> Finding:
    return Finding("ok", text)


def note(text: str, remedy: str = "") -> Finding:
    return Finding("note", text, remedy)


def problem(text: str, remedy: str) -> Finding:
    return Finding("problem", text, remedy)


def guarded(checks: Iterator[Finding]) -> Iterator[Finding]:
    """The checks, ended with a problem where a folder or file may not be looked at."""
    try:
        yield from checks
    except UserError as error:
        yield problem(f"{error.message} ({error.file})", error.remedy or "mend its permissions")
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        yield problem(f"cannot be looked at: {error.strerror or error}{where}", "mend its permissions")
