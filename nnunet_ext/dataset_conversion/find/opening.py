"""The files of an archive, and of the archives in it, as files of the source."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find import archives
from nnunet_ext.dataset_conversion.find.archive_kinds import (
    broken_is_an_error,
    kind,
    looks_like_archive,
    refuse_unsupported,
    whole_name,
)
from nnunet_ext.dataset_conversion.find.archive_rules import Budget, check_space
from nnunet_ext.dataset_conversion.find.members import Member, contents
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError

#: An archive in an archive in an archive is opened, one in these is not.
MAX_LEVELS = 3
#: Codes of archives that cannot be used but are not dangerous: where the data is complete without them, the user may
#: leave them out.
_USELESS = ("ARC01", "ARC05", "ARC06", "NAM04")


@dataclass
class Opened:
    """What was found in archives.

    Args:
        files: of all of them; an archive that could not be opened is a file itself.
        skipped: number of hidden files and leftovers.
        unopened: why archives could not be opened.
        closed: whether some of the files are known by name alone (in a dry run, which unpacks nothing).
    """

    files: list[SourceFile] = field(default_factory=list)
    skipped: int = 0
    unopened: list[UserError] = field(default_factory=list)
    closed: bool = False
    _split: set[tuple[int, str, str]] = field(default_factory=set)

    def add_unopened(self, file: SourceFile, error: UserError) -> None:
        """Take an archive for a file of no known kind; of the parts of a split archive the first one is told.

        Raises:
            UserError: the error itself, if the archive is a danger.
        """
        if error.code not in _USELESS:
            raise error
        whole = (file.source, file.folder, whole_name(file.name).casefold())
        if error.code != "ARC06" or whole not in self._split:
            self.unopened.append(error)
        if error.code == "ARC06":
            self._split.add(whole)
        self.files.append(file)

    def merge(self, inner: Opened) -> None:
        """Add what was found in one of the archives."""
        self.files += inner.files
        self.skipped += inner.skipped
        self.unopened += inner.unopened
        self.closed |= inner.closed


def open_archive(file: SourceFile, extract_to: Path | None) -> Opened:
    """Find all files of an archive of the source.

    Args:
        file: the archive, on disk.
        extract_to: where compressed tars and archives within archives are unpacked; None lists their names only.

    Raises:
        UserError: ARC01 to ARC06 and NAM04 for the archive; for one within it those that tell of danger.
    """
    return _on_disk(file, file.location, Budget(file.size, file.location), 1, extract_to)


def _on_disk(file: SourceFile, shown: str, budget: Budget, level: int, extract_to: Path | None) -> Opened:
    path = Path(file.location)
    with broken_is_an_error(shown), path.open("rb") as stream:
        refuse_unsupported(stream, shown)
        compressed = kind(stream) == "tar.gz"
        if extract_to is None:
            return _listed(file, shown, stream, budget, level, compressed)
        if not compressed:
            return _in_place(file, shown, stream, budget, level, extract_to)
    opened = Opened()
    folder = _free_folder(extract_to)
    members = archives.extract(path, shown, folder, budget)
    for member in sorted(members, key=lambda member: member.path.split("/")):
        inside = replace(
            _member(file, member), location=str(folder / member.path), member="", offset=-1, temporary=True
        )
        _add(opened, inside, member, f"{shown}!/{member.path}", budget, level, extract_to)
    return opened


def _listed(file: SourceFile, shown: str, stream: IO[bytes], budget: Budget, level: int, closed: bool) -> Opened:
    """The names in an archive and in those within it, without unpacking any."""
    opened = Opened(closed=closed)
    for member, content in contents(stream, shown, file.size, budget):
        inside = _member(file, member)
        if level > 1 or closed:  # never read, and so named as it will be
            inside = replace(inside, member=f"{shown}!/{member.path}".removeprefix(f"{file.location}!/"), offset=-1)
        if member.junk:
            opened.skipped += 1
        elif not looks_like_archive(inside.name):
            opened.files.append(inside)
        else:
            name = f"{shown}!/{member.path}"
            try:
                _check_level(name, level)
                with broken_is_an_error(name), content() as nested:
                    refuse_unsupported(nested, name)
                    inner = _listed(inside, name, nested, Budget(member.size, name, budget), level + 1, True)
                opened.merge(inner)
            except UserError as error:
                opened.add_unopened(inside, error)
    return opened


def _in_place(file: SourceFile, shown: str, stream: IO[bytes], budget: Budget, level: int, extract_to: Path) -> Opened:
    """The files of an archive that is read where it is; archives within it are copied to be opened."""
    opened = Opened()
    for member, content in contents(stream, shown, file.size, budget):
        inside, name = _member(file, member), f"{shown}!/{member.path}"
        if not member.junk and looks_like_archive(inside.name) and level < MAX_LEVELS:
            folder = _free_folder(extract_to)
            check_space(name, member.size, folder)
            copied = folder / inside.name
            try:
                with broken_is_an_error(name), content() as data:
                    archives.copy(data, copied)
            except UserError as error:
                opened.add_unopened(inside, error)
                continue
            inside = replace(inside, location=str(copied), member="", offset=-1, temporary=True)
        _add(opened, inside, member, name, budget, level, extract_to)
    return opened


def _add(
    opened: Opened,
    inside: SourceFile,
    member: Member,
    shown: str,
    budget: Budget,
    level: int,
    extract_to: Path,
) -> None:
    """Take a member for what it is: junk, a file, or an archive, which then lies on disk."""
    if member.junk:
        opened.skipped += 1
    elif not looks_like_archive(inside.name):
        opened.files.append(inside)
    else:
        try:
            _check_level(shown, level)
            opened.merge(_on_disk(inside, shown, Budget(member.size, shown, budget), level + 1, extract_to))
        except UserError as error:
            opened.add_unopened(inside, error)


def _check_level(shown: str, level: int) -> None:
    if level == MAX_LEVELS:
        raise UserError(
            f"{shown} lies in {MAX_LEVELS} archives, one in the other, and is not opened",
            remedy="unpack the outermost with 7z and give the folder",
            code="ARC06",
        )


def _member(file: SourceFile, member: Member) -> SourceFile:
    return replace(file, path=f"{file.path}!/{member.path}", member=member.name, offset=member.offset, size=member.size)


def _free_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f"{sum(1 for _ in parent.iterdir()):03d}"
        folder.mkdir()
    except OSError as error:
        raise cannot_write(parent, error) from error
    return folder
