"""An append-only list of finished cases, so that a conversion that was killed goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.core.cases import Case
from nnunet_ext.dataset_conversion.core.tasks import CaseResult
from nnunet_ext.dataset_conversion.core.writing import cannot_write, is_temporary

NAME = ".convert.jsonl"
FOLDERS = ("imagesTr", "labelsTr", "imagesTs", "labelsTs")


def signature(case: Case) -> str:
    """Changes when a case has other files, or its files other sizes."""
    files = [(role, file.path, file.size) for role, file in case.all_files]
    return hashlib.sha256(json.dumps([case.id, case.split, files]).encode()).hexdigest()


class Journal:
    """The journal of one dataset folder.

    Opening it reads what is finished: a torn last line is cut off, a case counts only if its files are there with the
    recorded sizes.
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
        if not self._path.is_file():
            return
        data = self._path.read_bytes()
        good = 0
        for line in data.splitlines(keepends=True):
            try:
                entry = json.loads(line)
                result = CaseResult.from_json(entry["result"])
            except (ValueError, KeyError, TypeError):
                break
            if not line.endswith(b"\n"):
                break
            self._finished[result.case] = entry["signature"], result
            good += len(line)
        if good < len(data):
            with self._path.open("r+b") as file:
                file.truncate(good)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


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
        if not part.is_dir():
            continue
        for path in part.iterdir():
            if is_temporary(path.name) or (keep is not None and f"{name}/{path.name}" not in keep):
                path.unlink(missing_ok=True)
    for path in folder.iterdir():
        if is_temporary(path.name):
            path.unlink(missing_ok=True)
