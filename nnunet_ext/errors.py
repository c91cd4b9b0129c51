"""The one error class for what a user can mend: bad input, a missing setting, a full disk."""

from __future__ import annotations

import re
from pathlib import Path

from nnunet_ext.shown import printable

_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")


def reason_of(error: BaseException) -> str:
    """The first line of an error's text, or its kind where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class UserError(Exception):
    """A mistake or a circumstance that the user can mend, told in one line.

    Our own commands print ``error CODE: message (file) - remedy`` and exit with code 2. Inside nnU-Net's commands the
    same text ends the trace. Anything that is not a ``UserError`` is a bug and shows its trace. Control characters and
    such that reorder text, which names from files may hold, are shown as escapes.

    Args:
        message: what is wrong, in one line.
        file: the file or folder at fault.
        remedy: what to do about it.
        code: code of the check that found it, e.g. ``"GZ01"`` (``docs/checks.md``).
    """

    def __init__(
        self,
        message: str,
        file: str | Path | None = None,
        remedy: str | None = None,
        code: str | None = None,
    ) -> None:
        self.message = message
        self.file = None if file is None else str(file)
        self.remedy = remedy
        self.code = code
        super().__init__(message)

    def __str__(self) -> str:
        # Messages of libraries may have several lines; in the name of a file a line break is part of the name.
        message, remedy = (_LINE_BREAKS.sub(" ", part or "").strip() for part in (self.message, self.remedy))
        text = printable(f"{self.code}: {message}" if self.code else message)
        if self.file and self.file not in self.message:
            text += f" ({printable(self.file)})"
        if remedy:
            text += f" - {printable(remedy)}"
        return text

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str | None, str | None, str | None]]:
        # Exceptions are rebuilt from their positional arguments when they cross a process pool.
        return type(self), (self.message, self.file, self.remedy, self.code)
