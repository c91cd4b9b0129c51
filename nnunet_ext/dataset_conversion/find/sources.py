"""An index of every file of the sources, on disk or in an archive. Names only."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find import archives
from nnunet_ext.dataset_conversion.find.archive_kinds import (
    broken_is_an_error,
    cannot_be_opened,
    kind,
    looks_like_archive,
)
from nnunet_ext.dataset_conversion.find.opening import Opened, open_archive
from nnunet_ext.dataset_conversion.find.walk import Walk, identity, unreadable
from nnunet_ext.errors import UserError


@dataclass(frozen=True)
class Index:
    """Every file of the sources, in the order of sources and names.

    Args:
        files: all of them; members of archives as well.
        skipped: number of hidden files and leftovers of other programs.
        too_deep: folders below the deepest level.
        closed_archives: archives whose files are known by name alone (in a dry run, which unpacks nothing).
        unopened: why archives that were found in a folder or in another archive could not be opened.
    """

    files: tuple[SourceFile, ...]
    skipped: int = 0
    too_deep: tuple[str, ...] = ()
    closed_archives: frozenset[str] = frozenset()
    unopened: tuple[UserError, ...] = ()


def index(sources: list[Path], excluded: list[Path], extract_to: Path | None) -> Index:
    """Index all sources.

    Args:
        sources: folders or archives.
        excluded: folders that are not entered (the output).
        extract_to: where compressed tars and archives within archives are unpacked; None lists their names only.

    Raises:
        UserError: LAY01 for a source that does not exist or is no folder or archive; ARC01 to ARC06 and NAM04 for an
            archive among the sources. One inside of a folder or an archive that is broken, encrypted or ambiguous
            becomes a file of no known kind.
    """
    found = Opened()
    closed_archives: set[str] = set()
    walk = Walk({identity(folder) for folder in excluded if folder.exists()})
    for number, source in enumerate(sources):
        itself = not _is_folder(source)
        for file in _files_of(number, source, walk):
            if not itself and not looks_like_archive(file.name):
                found.files.append(file)
                continue
            try:
                opened = open_archive(file, extract_to)
            except UserError as error:
                if itself:
                    raise
                found.add_unopened(file, error)
                continue
            found.merge(opened)
            if opened.closed:
                closed_archives.add(file.location)
    return Index(
        tuple(found.files),
        walk.skipped + found.skipped,
        tuple(walk.too_deep),
        frozenset(closed_archives),
        tuple(found.unopened),
    )


def _is_folder(source: Path) -> bool:
    try:
        if not source.exists():
            raise UserError("source not found", file=source, remedy="check the path given with -i", code="LAY01")
        return source.is_dir()
    except OSError as error:
        raise unreadable(str(source), error) from error


def _files_of(number: int, source: Path, walk: Walk) -> Iterator[SourceFile]:
    if source.is_dir():
        yield from walk.files(number, str(source))
        return
    if not source.is_file() or not (cannot_be_opened(source.name) or _kind(source)):
        raise UserError(
            f"{source} is neither a folder nor an archive",
            remedy="give the folder that holds the download",
            code="LAY01",
        )
    yield SourceFile(number, source.name, str(source), source.stat().st_size)


def _kind(source: Path) -> str:
    with broken_is_an_error(str(source)), source.open("rb") as stream:
        return kind(stream)


def read(file: SourceFile, count: int = -1) -> bytes:
    """Bytes of a file: all, or the first ``count``.

    Raises:
        UserError: IO02 for an empty file, a Git LFS pointer or a web page; IO01 if it cannot be read; ARC01.
    """
    size = file.size if count < 0 else min(count, file.size)
    try:
        if file.member:
            data = archives.read_member(file.location, file.member, file.offset, size, file.shown)
        else:
            with Path(file.location).open("rb") as stream:
                data = stream.read(size)
    except OSError as error:
        raise UserError(
            f"{file.shown} cannot be read: {error.strerror or error}",
            code="IO01",
            remedy="check its permissions and the disk",
        ) from error
    if not data:
        raise UserError(f"{file.shown} is empty", remedy="fetch the file again", code="IO02")
    start = data[:200].lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise UserError(f"{file.shown} is a Git LFS pointer", remedy="fetch the data with 'git lfs pull'", code="IO02")
    if start.startswith((b"<!doctype html", b"<html")):
        raise UserError(f"{file.shown} is a web page", remedy="log in and fetch the file again", code="IO02")
    return data
