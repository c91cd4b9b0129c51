"""One walk over a folder: every file once, and no way out of the download."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find.junk import is_junk
from nnunet_ext.errors import UserError

#: Folders are searched this deep: the deepest known tree and four levels more.
MAX_DEPTH = 8
# Folders of the system, which a link of a download may lead to but no data lies in.
_OF_THE_SYSTEM = ("/bin", "/boot", "/dev", "/etc", "/lib", "/proc", "/run", "/sbin", "/sys", "/usr", "/var")
_NO_FILES_AT_ALL = ("/proc/", "/sys/")
# More files and folders than any download has; what a link leads to may be anything.
_MAX_LINKED = 200_000


@dataclass
class Walk:
    """What a walk remembers.

    Args:
        excluded: folders that are not entered: device and number, as ``identity`` gives them.
        skipped: number of files and links left out.
        too_deep: folders below the deepest level.
        visited: folders seen.
    """

    excluded: set[tuple[int, int]]
    skipped: int = 0
    too_deep: list[str] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)
    _around: set[tuple[int, int]] = field(default_factory=set)
    _linked: int = 0

    def files(self, source: int, folder: str) -> Iterator[SourceFile]:
        """The files below a folder that is a source.

        Links are followed, but not to what is around the download, or around the user or the system: a download may
        hold a link to ``/``.

        Raises:
            UserError: LAY01 for what cannot be read, and for a link to more files than any download has.
        """
        self._around = _identities([*_and_above(folder)[1:], *_and_above(_home()), *_OF_THE_SYSTEM])
        yield from self._files(source, folder, "", 0, "")

    def _files(self, source: int, folder: str, prefix: str, depth: int, link: str) -> Iterator[SourceFile]:
        this = identity(folder)
        if this in self.visited or this in self.excluded:
            return
        self.visited.add(this)
        if depth > MAX_DEPTH:
            self.too_deep.append(folder)
            return
        for entry in _entries(folder):
            if is_junk(entry.name):
                self.skipped += 1
                continue
            try:
                is_folder = entry.is_dir()
                through = entry.path if is_folder and entry.is_symlink() else ""
                if through and identity(through) in self.visited:
                    continue
                if through and not self._may_follow(through):
                    self.skipped += 1
                    continue
                size = entry.stat().st_size if not is_folder and entry.is_file() else None
            except OSError as error:
                raise unreadable(entry.path, error) from error
            self._count(link)
            if is_folder:
                self._linked = 0 if through and not link else self._linked
                yield from self._files(source, entry.path, f"{prefix}{entry.name}/", depth + 1, link or through)
            elif size is not None:
                yield SourceFile(source, prefix + entry.name, entry.path, size)
            else:
                self.skipped += 1  # a broken link, a socket

    def _may_follow(self, link: str) -> bool:
        """Whether a link leads neither to what is around everything, nor up from where it lies itself."""
        if f"{os.path.realpath(link)}/".startswith(_NO_FILES_AT_ALL):
            return False
        target = identity(link)
        return target not in self._around and target not in _identities(_and_above(Path(link).parent)[1:])

    def _count(self, link: str) -> None:
        self._linked += bool(link)
        if self._linked > _MAX_LINKED:
            raise UserError(
                f"link {link} leads to more than {_MAX_LINKED} files",
                remedy="remove the link, or give the folder that it is to lead to with another -i",
                code="LAY01",
            )


def _entries(folder: str) -> list[os.DirEntry[str]]:
    """What lies in a folder. Links last: a folder met twice is indexed under its own name."""
    try:
        with os.scandir(folder) as scan:
            return sorted(scan, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        raise unreadable(folder, error) from error


def _and_above(folder: str | Path) -> list[str]:
    """A folder and all above it."""
    real = Path(os.path.realpath(folder))
    return [str(each) for each in (real, *real.parents)]


def _home() -> str | Path:
    try:
        return Path.home()
    except RuntimeError:  # a user without a home
        return "/"


def _identities(folders: list[str]) -> set[tuple[int, int]]:
    found = set()
    for folder in folders:
        try:
            found.add(identity(folder))
        except OSError:  # there is none, or it is nobody's business
            continue
    return found


def identity(folder: str | Path) -> tuple[int, int]:
    """Device and number of a folder, whatever its name."""
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read: {error.strerror}", remedy="check its permissions", code="LAY01")
