"""One walk over the sources: an index of every file, on disk or in an archive. Names only."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find import archives
from nnunet_ext.dataset_conversion.find.archive_kinds import kind, looks_like_archive, refuse_unsupported
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError

#: Folders are searched this deep: the deepest known tree and four levels more.
MAX_DEPTH = 8
_JUNK = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")
#: Codes of archives that cannot be used but are not dangerous: where the data is complete without them, the user may
#: leave them out.
_USELESS = ("ARC01", "ARC05", "ARC06", "NAM04")
_UNFINISHED = (".crdownload", ".part", ".download")


@dataclass(frozen=True)
class Index:
    """Every file of the sources, in the order of sources and names.

    Args:
        files: all of them; members of archives as well.
        skipped: number of hidden files and leftovers of other programs.
        too_deep: folders below the deepest level.
        closed_archives: archives whose files are known by name alone (in a dry run, which unpacks nothing).
        unopened: why archives that were found in a folder could not be opened.
    """

    files: tuple[SourceFile, ...]
    skipped: int = 0
    too_deep: tuple[str, ...] = ()
    closed_archives: frozenset[str] = frozenset()
    unopened: tuple[UserError, ...] = ()


@dataclass
class _Walk:
    excluded: set[tuple[int, int]]
    above: set[tuple[int, int]] = field(default_factory=set)
    skipped: int = 0
    too_deep: list[str] = field(default_factory=list)
    visited: set[tuple[int, int]] = field(default_factory=set)


def index(sources: list[Path], excluded: list[Path], extract_to: Path | None) -> Index:
    """Index all sources.

    Args:
        sources: folders or archives.
        excluded: folders that are not entered (the output).
        extract_to: where compressed tars and archives within archives are unpacked; None lists their names only.

    Raises:
        UserError: LAY01 for a source that does not exist or is no folder or archive; ARC01 to ARC06 and NAM04 for an
            archive among the sources. One inside of a folder that is broken, encrypted or ambiguous becomes a file of
            no known kind.
    """
    files: list[SourceFile] = []
    unopened: list[UserError] = []
    closed_archives: set[str] = set()
    walk = _Walk({_identity(folder) for folder in excluded if folder.exists()})
    for number, source in enumerate(sources):
        itself = not _is_folder(source)
        for file in _files_of(number, source, walk):
            if itself or looks_like_archive(file.name):
                try:
                    found, closed = _open(file, extract_to)
                except UserError as error:
                    if itself or error.code not in _USELESS:
                        raise
                    unopened.append(error)
                    found, closed = [file], False
                files += found
                if closed:
                    closed_archives.add(file.location)
            else:
                files.append(file)
    kept = [file for file in files if not is_junk(file.path)]
    skipped = walk.skipped + len(files) - len(kept)
    return Index(tuple(kept), skipped, tuple(walk.too_deep), frozenset(closed_archives), tuple(unopened))


def is_junk(path: str) -> bool:
    """Hidden files, leftovers of operating systems, unfinished downloads."""
    parts = path.replace("!/", "/").split("/")
    return any(part.startswith(".") or part.lower() in _JUNK for part in parts) or path.lower().endswith(_UNFINISHED)


def _is_folder(source: Path) -> bool:
    try:
        if not source.exists():
            raise UserError("source not found", file=source, remedy="check the path given with -i", code="LAY01")
        return source.is_dir()
    except OSError as error:
        raise _unreadable(str(source), error) from error


def _files_of(number: int, source: Path, walk: _Walk) -> Iterator[SourceFile]:
    if source.is_dir():
        walk.above = {_identity(folder) for folder in Path(os.path.realpath(source)).parents}
        yield from _walk(number, str(source), "", 0, walk)
        return
    if source.is_file():
        refuse_unsupported(source)
    if not source.is_file() or not kind(source):
        raise UserError(
            f"{source} is neither a folder nor an archive",
            remedy="give the folder that holds the download",
            code="LAY01",
        )
    yield SourceFile(number, source.name, str(source), source.stat().st_size)


def _walk(number: int, folder: str, prefix: str, depth: int, walk: _Walk) -> Iterator[SourceFile]:
    identity = _identity(folder)
    if identity in walk.visited or identity in walk.excluded:
        return
    walk.visited.add(identity)
    if depth > MAX_DEPTH:
        walk.too_deep.append(folder)
        return
    try:
        # Links last: a folder met twice is indexed under its own name.
        with os.scandir(folder) as scan:
            entries = sorted(scan, key=lambda entry: (entry.is_symlink(), entry.name))
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in entries:
        if is_junk(entry.name):
            walk.skipped += 1
            continue
        try:
            is_folder = entry.is_dir()
            if is_folder and entry.is_symlink() and _identity(entry.path) in walk.above:
                walk.skipped += 1  # a link of the download to all that is around it
                continue
            size = entry.stat().st_size if not is_folder and entry.is_file() else None
        except OSError as error:
            raise _unreadable(entry.path, error) from error
        if is_folder:
            yield from _walk(number, entry.path, f"{prefix}{entry.name}/", depth + 1, walk)
        elif size is not None:
            yield SourceFile(number, prefix + entry.name, entry.path, size)
        else:
            walk.skipped += 1  # a broken link, a socket


def _unreadable(path: str, error: OSError) -> UserError:
    return UserError(f"{path} cannot be read: {error.strerror}", remedy="check its permissions", code="LAY01")


def _identity(folder: str | Path) -> tuple[int, int]:
    status = Path(folder).stat()
    return status.st_dev, status.st_ino


def _open(file: SourceFile, extract_to: Path | None, nested: bool = False) -> tuple[list[SourceFile], bool]:
    """Files of an archive, and whether some of them cannot be read where they are."""
    path = Path(file.location)
    listed = archives.members(path)
    if kind(path) == "tar.gz":
        if extract_to is None:
            return [_member(file, member) for member in listed], True
        return _extracted(file, path, extract_to), False
    found: list[SourceFile] = []
    closed = False
    for member in listed:
        inside = _member(file, member)
        if nested or not looks_like_archive(inside.name):
            found.append(inside)
        elif extract_to is None:
            found += [
                replace(_member(inside, deeper), location=file.location)
                for deeper in archives.members_of_nested(path, member.name)
            ]
            closed = True
        else:
            copy = archives.extract_nested(path, member.name, _free_folder(extract_to))
            inner = replace(inside, location=str(copy), member="", offset=-1, size=member.size, temporary=True)
            found += _open(inner, extract_to, nested=True)[0]
    return found, closed


def _member(file: SourceFile, member: archives.Member) -> SourceFile:
    name = member.name.replace("\\", "/").removeprefix("./")
    return replace(file, path=f"{file.path}!/{name}", member=member.name, offset=member.offset, size=member.size)


def _extracted(file: SourceFile, path: Path, extract_to: Path) -> list[SourceFile]:
    folder = _free_folder(extract_to)
    archives.extract(path, folder)
    walk = _Walk(set())
    return [
        replace(found, path=f"{file.path}!/{found.path}", temporary=True)
        for found in _walk(file.source, str(folder), "", 0, walk)
    ]


def _free_folder(parent: Path) -> Path:
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / f"{sum(1 for _ in parent.iterdir()):03d}"
        folder.mkdir()
    except OSError as error:
        raise cannot_write(parent, error) from error
    return folder


def read(file: SourceFile, count: int = -1) -> bytes:
    """Bytes of a file: all, or the first ``count``.

    Raises:
        UserError: IO02 for an empty file, a Git LFS pointer or a web page; IO01 if it cannot be read; ARC01.
    """
    size = file.size if count < 0 else min(count, file.size)
    try:
        if file.member:
            data = archives.read_member(file.location, file.member, file.offset, size)
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
