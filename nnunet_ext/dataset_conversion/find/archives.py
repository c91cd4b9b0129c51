"""Archives: their members are listed, read or extracted.

Members of a zip or an uncompressed tar are read where they are. A compressed tar has no random order and is
extracted, after its size was checked. An archive is never trusted: all members pass ``archive_rules``.
"""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.find.archive_kinds import broken_is_an_error, kind, refuse_unsupported
from nnunet_ext.dataset_conversion.find.archive_rules import (
    check_expansion,
    check_new,
    check_space,
    no_regular_file,
    safe_name,
)
from nnunet_ext.dataset_conversion.find.tar_header import TarHeader
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError
from nnunet_ext.progress import Progress

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Member:
    """A regular file in an archive; ``offset`` is that of its first byte in an uncompressed tar, -1 elsewhere."""

    name: str
    size: int
    offset: int = -1


def members(path: Path) -> list[Member]:
    """All regular files of an archive on disk.

    Raises:
        UserError: ARC01 to ARC06.
    """
    refuse_unsupported(path)
    with broken_is_an_error(path):
        if kind(path) == "zip":
            with zipfile.ZipFile(path) as archive:
                return list(_zip_members(archive, path, path.stat().st_size))
        compressed = kind(path) != "tar"
        with tarfile.open(path, "r:*", tarinfo=TarHeader) as archive_tar:
            return list(_tar_members(archive_tar, path, compressed, path.stat().st_size))


def members_of_nested(path: Path, inner: str) -> list[Member]:
    """Regular files of an archive that is itself a member of a zip or tar, without extracting it.

    Raises:
        UserError: ARC01 to ARC05.
    """
    with broken_is_an_error(path), _open_member(path, inner) as (stream, size):
        if inner.lower().endswith(".zip"):
            with zipfile.ZipFile(stream) as archive:
                return list(_zip_members(archive, path, size))
        with tarfile.open(fileobj=stream, mode="r|*", tarinfo=TarHeader) as archive_tar:
            return list(_tar_members(archive_tar, path, True, size))


def extract_nested(path: Path, inner: str, target: Path) -> Path:
    """Copy one member, itself an archive, to ``target`` and return its path there.

    Raises:
        UserError: ARC01, ARC04.
    """
    target.mkdir(parents=True, exist_ok=True)
    with broken_is_an_error(path), _open_member(path, inner) as (stream, size):
        check_space(path, size, target)
        copy = target / inner.rsplit("/", 1)[-1]
        _copy(stream, copy)
    return copy


def extract(path: Path, target: Path) -> None:
    """Extract the regular files of a compressed tar below ``target``.

    Raises:
        UserError: ARC01 to ARC04; NAM04 if two names differ only by case.
    """
    total = sum(member.size for member in members(path))
    target.mkdir(parents=True, exist_ok=True)
    check_space(path, total, target)
    seen: dict[str, str] = {}
    with (
        broken_is_an_error(path),
        tarfile.open(path, "r:*", tarinfo=TarHeader) as archive,
        Progress(f"extracting {path.name}", total, "B", scale=True) as progress,
    ):
        for info in archive:
            name = safe_name(info.name, path)
            if info.isdir():
                continue
            check_new(name, seen, path)
            source = archive.extractfile(info)
            if source is None:
                raise tarfile.ReadError(f"{name} holds no data")
            _copy(source, target / name)
            progress.step(info.size)


def _copy(stream: IO[bytes], target: Path) -> None:
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


def read_member(path: str, name: str, offset: int, size: int) -> bytes:
    """Bytes of a member: the first ``size`` of them.

    Raises:
        UserError: ARC01 if the archive is damaged there.
    """
    if offset >= 0:
        with Path(path).open("rb") as file:
            file.seek(offset)
            data = file.read(size)
    else:
        with broken_is_an_error(Path(path)), _open_zip(path).open(name) as stream:
            data = stream.read(size)
    if len(data) < size:
        raise UserError(f"{path} ends within {name}", remedy="fetch the archive again", code="ARC01")
    return data


@lru_cache(maxsize=16)
def _open_zip(path: str) -> zipfile.ZipFile:
    # Kept open: reading the directory of a large zip for each of its members would take longer than the members.
    return zipfile.ZipFile(path)


def close_all() -> None:
    """Forget the open archives, so that they can be moved or deleted."""
    _open_zip.cache_clear()


@contextmanager
def _open_member(path: Path, name: str) -> Iterator[tuple[IO[bytes], int]]:
    if kind(path) == "zip":
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            yield stream, archive.getinfo(name).file_size
    else:
        with tarfile.open(path, "r:*", tarinfo=TarHeader) as archive_tar:
            info = archive_tar.getmember(name)
            member = archive_tar.extractfile(info)
            if member is None:
                raise tarfile.ReadError(f"{name} holds no data")
            yield member, info.size


def _zip_members(archive: zipfile.ZipFile, path: Path, archive_size: int) -> Iterator[Member]:
    total = 0
    seen: dict[str, str] = {}
    for info in archive.infolist():
        name = safe_name(info.filename, path)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise no_regular_file(name, path)
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise UserError(
                f"{path} is encrypted", remedy="unpack it with its password and give the folder", code="ARC05"
            )
        check_new(name, seen, path)
        total += info.file_size
        check_expansion(total, archive_size, path)
        # The name as the archive spells it: that is how the member is found again.
        yield Member(info.filename, info.file_size)


def _tar_members(archive: tarfile.TarFile, path: Path, compressed: bool, archive_size: int) -> Iterator[Member]:
    total = end = 0
    before = -1
    for info in archive:
        if info.size < 0 or info.offset <= before:  # extended headers may say so, and then it would never end
            raise tarfile.ReadError("it points back into itself")
        before = info.offset
        name = safe_name(info.name, path)
        end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise no_regular_file(name, path)
        total += info.size
        check_expansion(total, archive_size, path)
        if not compressed and info.offset_data + info.size > archive_size:
            raise tarfile.ReadError(f"it ends within {name}")
        yield Member(info.name, info.size, -1 if compressed else info.offset_data)
    if not compressed:
        # A tar that is cut between two members reads like a whole one, but for the block of zeros at its end.
        with path.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")
