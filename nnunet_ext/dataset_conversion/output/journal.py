"""An append-only list of finished cases, so that a conversion that was killed goes on where it stopped."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.case import Case
from nnunet_ext.dataset_conversion.record_forms import FOLDERS, JOURNAL_ENTRY
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.dataset_conversion.writing import cannot_write, sha256
from nnunet_ext.errors import UserError
from nnunet_ext.files import is_temporary, parse_json, read_regular_file
from nnunet_ext.folders import require_readable
from nnunet_ext.forms import check_form

NAME = ".convert.jsonl"
# The journal of 10,000 cases with four images each takes about 30 MB.
_MAX_BYTES = 1 << 28


def signature(case: Case) -> str:
    """A checksum over identifier, split, names and sizes of a case's files: a case whose files changed has another."""
    files = [(role, file.path, file.size) for role, file in case.all_files]
    return sha256(json.dumps([case.id, case.split, files]).encode())


class Journal:
    """The journal of one dataset folder.

    Opening it reads what is finished: a torn last line, and a line of another form with all that follow, are cut off;
    a case counts only if its files are there with the recorded sizes.

    Raises:
        UserError: OUT01 for a journal that cannot be ours.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / NAME
        self._file: IO[str] | None = None
        self._finished: dict[str, tuple[str, CaseResult]] = {}
        self._read()

    def finished(self, case: Case) -> CaseResult | None:
        """The result of a case that needs no work any more."""
        known, result = self._finished.get(case.id, ("", None))
        if result is None or known != signature(case):
            return None
        intact = all(_size(self._folder / file["path"]) == file["size"] for file in result.files)
        return result if intact else None

    def add(self, case: Case, result: CaseResult) -> None:
        """Note that a case is finished.

        Raises:
            UserError: OUT04.
        """
        line = json.dumps({"signature": signature(case), "result": result.to_json()})
        try:
            if self._file is None:
                self._file = self._path.open("a", encoding="utf-8")
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._path, error) from error

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def remove(self) -> None:
        self.close()
        self._path.unlink(missing_ok=True)

    def _read(self) -> None:
        if not os.path.lexists(self._path):
            return
        _check_kind(self._path, stat.S_ISREG, "file")
        try:
            data = read_regular_file(self._path, _MAX_BYTES)
        except UserError as error:
            raise _not_ours(self._path, error.message) from error
        good = 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break
            try:
                entry = parse_json(line, self._path)
                check_form(entry, JOURNAL_ENTRY, "a finished case", self._path, "")
            except UserError:
                break
            result = CaseResult.from_json(entry["result"])
            self._finished[result.case] = entry["signature"], result
            good += len(line)
        if good < len(data):
            try:
                with self._path.open("r+b") as file:
                    file.truncate(good)
            except OSError as error:
                raise cannot_write(self._path, error) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def check_own(folder: Path) -> None:
    """Look at what a conversion deletes from or writes into: a link there would lead out of the dataset's folder.

    Raises:
        UserError: OUT01 where the journal is no file or one of the four folders is no folder of this dataset.
    """
    for name in FOLDERS:
        _check_kind(folder / name, stat.S_ISDIR, "folder")
    _check_kind(folder / NAME, stat.S_ISREG, "file")


def _check_kind(path: Path, right: Callable[[int], bool], what: str) -> None:
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise cannot_write(path, error) from error
    if stat.S_ISDIR(mode):
        require_readable(path)
    if not right(mode):
        raise _not_ours(path, f"a symbolic link, not a {what}" if stat.S_ISLNK(mode) else f"not a {what}")


def _not_ours(path: Path, what: str) -> UserError:
    return UserError(
        f"{path} was not made by this converter: {what}",
        code="OUT01",
        remedy=f"put the {'file' if path.name == NAME else 'folder'} itself there, or --restart to convert everything "
        "anew",
    )


def only_begun(folder: Path) -> bool:
    """Whether a folder holds nothing but empty folders of ours and temporary files: a run that ended at its start."""
    if not folder.is_dir():
        return False
    return all(
        is_temporary(path.name)
        or (path.name in FOLDERS and path.is_dir() and not path.is_symlink() and not any(path.iterdir()))
        for path in folder.iterdir()
    )


def remove_leftovers(folder: Path, keep: set[str] | None = None) -> None:
    """Delete temporary files, and with ``keep`` every file of the four folders that is not among these paths."""
    for name in FOLDERS:
        part = folder / name
        if part.is_symlink() or not part.is_dir():
            continue
        for path in part.iterdir():
            if is_temporary(path.name) or (keep is not None and f"{name}/{path.name}" not in keep):
                _remove(path)
    for path in folder.iterdir():
        if is_temporary(path.name):
            _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:  # a folder
        raise cannot_write(path, error, "remove it by hand") from error
