"""The one error class for what a user can mend: bad input, a missing setting, a full disk."""

from __future__ import annotations

from pathlib import Path

from nnunet_ext.shown import printable


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
        text = f"{self.code}: {self.message}" if self.code else self.message
        if self.file and self.file not in self.message:
            text += f" ({self.file})"
        if self.remedy:
            text += f" - {self.remedy}"
        return printable(" ".join(text.split()))

    def __reduce__(self) -> tuple[type[UserError], tuple[str, str | None, str | None, str | None]]:
        # Exceptions are rebuilt from their positional arguments when they cross a process pool.
        return type(self), (self.message, self.file, self.remedy, self.code)
