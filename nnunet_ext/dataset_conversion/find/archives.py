"""Archives: their members are listed, read or extracted.

Members of a zip or an uncompressed tar are read where they are. A compressed tar has no random order and is
extracted, after its size was checked. An archive is never trusted: all members pass ``archive_rules``.
"""

from __future__ import annotations

import zipfile
from functools import lru_cache
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.find.archive_kinds import broken_is_an_error, refuse_unsupported
from nnunet_ext.dataset_conversion.find.archive_rules import Budget, check_space
from nnunet_ext.dataset_conversion.find.members import Member, contents
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError
from nnunet_ext.progress import Progress

_CHUNK = 1 << 20


def members(path: Path) -> list[Member]:
    """All regular files of an archive on disk that are no junk.

    Raises:
        UserError: ARC01 to ARC06; NAM04 if two names are equal or differ only by case.
    """
    with broken_is_an_error(str(path)), path.open("rb") as stream:
        refuse_unsupported(stream, str(path))
        size = path.stat().st_size
        found = contents(stream, str(path), size, Budget(size, str(path)))
        return [member for member, _ in found if not member.junk]


def extract(path: Path, shown: str, target: Path, budget: Budget) -> list[Member]:
    """Extract the regular files of a compressed tar below ``target``, but for junk.

    Args:
        path: the tar.
        shown: the tar as messages name it.
        target: a folder.
        budget: how much the tar may expand to.

    Returns:
        The members, junk among them, in their order.

    Raises:
        UserError: ARC01 to ARC04, NAM04, OUT04.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        listed = [member for member, _ in contents(stream, shown, size, budget)]
    total = sum(member.size for member in listed if not member.junk)
    check_space(shown, total, target)
    with (
        path.open("rb") as stream,
        Progress(f"extracting {path.name}", total, "B", scale=True) as progress,
    ):
        for member, opened in contents(stream, shown, size, Budget(size, shown)):
            if member.junk:
                continue
            with (
                broken_is_an_error(shown),
                (target / member.same_as).open("rb") if member.same_as else opened() as data,
            ):
                copy(data, target / member.path)
            progress.step(member.size)
    return listed


def copy(stream: IO[bytes], target: Path) -> None:
    """Copy a member to a file of its own.

    Raises:
        UserError: OUT04.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        file = target.open("wb")
    except OSError as error:
        raise cannot_write(target, error) from error
    with file:
        # Reading and writing may both fail, for different reasons: a damaged archive, a full disk.
        while data := stream.read(_CHUNK):
            try:
                file.write(data)
                file.flush()
            except OSError as error:
                raise cannot_write(target, error) from error


def read_member(path: str, name: str, offset: int, size: int, shown: str) -> bytes:
    """Bytes of a member: the first ``size`` of them.

    Raises:
        UserError: ARC01 if the archive is damaged there.
    """
    if offset >= 0:
        with Path(path).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    else:
        with broken_is_an_error(shown), _open_zip(path).open(name) as stream:
            data = stream.read(size)
    if len(data) < size:
        raise UserError(f"{shown} ends early", remedy="fetch the archive again", code="ARC01")
    return data


@lru_cache(maxsize=16)
def _open_zip(path: str) -> zipfile.ZipFile:
    # Kept open: reading the directory of a large zip for each of its members would take longer than the members.
    return zipfile.ZipFile(path)


def close_all() -> None:
    """Forget the open archives, so that they can be moved or deleted."""
    _open_zip.cache_clear()
