"""How a conversion writes: the files of one case together, with links where they will do; what fails is OUT04."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from nnunet_ext.errors import UserError
from nnunet_ext.files import temporary_name, write_atomically


def sha256(data: bytes | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


def write_file(path: Path, data: bytes) -> None:
    """Write a file of its own, so that it is never seen half-written.

    Raises:
        UserError: OUT04.
    """
    try:
        with write_atomically(path, sync=True) as stream:
            stream.write(data)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_json(path: Path, content: Any) -> None:
    """Indented by 2, keys in the order given, a newline at the end.

    What is no Unicode, such as a file name in another encoding, becomes the escape that JSON has for it.

    Raises:
        UserError: OUT04.
    """
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_file(path, text.encode("utf-8", "backslashreplace"))


class Files:
    """The output files of one case: all of them appear, or none.

    Each is written under a temporary name; ``commit`` renames them in the order in which they came. Left without a
    commit, the temporary files are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: list[tuple[Path, Path]] = []

    def __enter__(self) -> Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for temporary, _ in self._waiting:
            temporary.unlink(missing_ok=True)

    def write(self, path: str, data: bytes | memoryview) -> int:
        """Write bytes for the file ``path`` below the folder; returns their number."""
        temporary = self._temporary(path)
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise cannot_write(self._folder / path, error) from error
        return len(data)

    def link(self, path: str, source: str, how: str) -> str | None:
        """Give the file ``source`` a second name at ``path``.

        Args:
            path: below the folder.
            source: file on disk.
            how: ``"hard"``, ``"symlink"`` or ``"auto"``: the first that the file systems allow.

        Returns:
            ``"hard link"`` or ``"symlink"``; None where ``auto`` finds that only a copy will do.

        Raises:
            UserError: OUT04 if the link that was asked for cannot be made.
        """
        target = self._folder / path
        real = os.path.realpath(source)
        below_parent = _same_parent(real, self._folder)
        if how in ("auto", "hard"):
            temporary = self._temporary(path)
            try:
                os.link(real, temporary)
                return "hard link"
            except OSError as error:
                if how == "hard":
                    raise cannot_write(target, error, "use --link auto or --link copy") from error
        if how == "symlink" or (how == "auto" and below_parent):
            temporary = self._temporary(path)
            try:
                temporary.symlink_to(os.path.relpath(real, os.path.realpath(target.parent)) if below_parent else real)
                return "symlink"
            except OSError as error:
                if how == "symlink":
                    raise cannot_write(target, error, "use --link auto or --link copy") from error
        return None

    def commit(self) -> None:
        """Rename everything to its final name."""
        for temporary, final in self._waiting:
            try:
                temporary.replace(final)
                # Renaming a hard link onto another name of the same file does nothing at all.
                temporary.unlink(missing_ok=True)
            except OSError as error:
                raise cannot_write(final, error) from error
        self._waiting = []

    def _temporary(self, path: str) -> Path:
        final = self._folder / path
        temporary = temporary_name(final)
        temporary.unlink(missing_ok=True)
        if (temporary, final) not in self._waiting:
            self._waiting.append((temporary, final))
        return temporary


def link_is_expected(source: str, folder: Path, how: str) -> bool:
    """Whether ``Files.link`` will link and not copy, as far as the file systems tell without a trial."""
    if how != "auto":
        return how != "copy"
    real = os.path.realpath(source)
    return Path(real).stat().st_dev == nearest_existing(folder).stat().st_dev or _same_parent(real, folder)


def nearest_existing(folder: Path) -> Path:
    """The folder, or the lowest of those above it that exists: the disk on which it will be made."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _same_parent(real: str, folder: Path) -> bool:
    """Whether source and nnUNet_raw lie below one folder (not the root), so that both can be moved together."""
    parent = folder.parent.resolve().parent
    return parent in Path(real).parents and parent != parent.parent


def cannot_write(path: Path, error: OSError, remedy: str = "") -> UserError:
    """OUT04 for an operating system's complaint."""
    reason = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else error.strerror or str(error)
    return UserError(
        f"cannot write {path}: {reason}", code="OUT04", remedy=remedy or "mend that and resume with the same command"
    )
