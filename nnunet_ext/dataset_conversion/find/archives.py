"""Archives, which are never trusted.

Members of a zip or an uncompressed tar are read where they are. A compressed tar has no random order and is
extracted, after its size was checked. Whatever an archive may do to leave its folder or to fill a disk is refused
(ARC01 to ARC06).
"""

from __future__ import annotations

import re
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path
from typing import IO

from nnunet_ext.dataset_conversion.find.tar_header import TarHeader, is_tar
from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError
from nnunet_ext.files import MAX_NAME_BYTES
from nnunet_ext.progress import Progress

SUFFIXES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
UNSUPPORTED_SUFFIXES = (".rar", ".7z")

#: An archive of images never expands by more; a few bytes of zeros do.
MAX_EXPANSION = 40
_CHUNK = 1 << 20
_MIN_SUSPICIOUS_BYTES = 64 << 20  # the ratio means nothing below this size
_MAX_PATH_LENGTH = 4096

_MAGIC = (
    (b"PK", "zip"),
    (b"Rar!", "rar"),
    (b"7z\xbc\xaf\x27\x1c", "7z"),
    (b"\x1f\x8b", "tar.gz"),
    (b"BZh", "tar.gz"),
    (b"\xfd7zXZ", "tar.gz"),
)
_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    LZMAError,
    NotImplementedError,
    ValueError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True)
class Member:
    """A regular file in an archive; ``offset`` is that of its first byte in an uncompressed tar, -1 elsewhere."""

    name: str
    size: int
    offset: int = -1


def kind(path: Path) -> str:
    """``"zip"``, ``"tar"``, ``"tar.gz"`` (any compressed tar), ``"rar"``, ``"7z"`` or ``""``, from the first bytes.

    Raises:
        UserError: ARC01 if the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            start = file.read(512)
        for magic, name in _MAGIC:
            if start.startswith(magic):
                return name
        return "tar" if start[257:262] == b"ustar" or is_tar(path) else ""
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(
        f"{path} cannot be read: {error.strerror or error}", remedy="check its permissions and the disk", code="ARC01"
    )


def looks_like_archive(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def refuse_unsupported(path: Path) -> None:
    """Raise ARC06 for rar and 7z, which Python cannot open."""
    if path.name.lower().endswith(UNSUPPORTED_SUFFIXES) or kind(path) in ("rar", "7z"):
        raise UserError(f"{path} cannot be opened", remedy="unpack it first and give the folder", code="ARC06")


def members(path: Path) -> list[Member]:
    """All regular files of an archive on disk.

    Raises:
        UserError: ARC01 to ARC06.
    """
    refuse_unsupported(path)
    with _broken_is_an_error(path):
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
    with _broken_is_an_error(path), _open_member(path, inner) as (stream, size):
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
    with _broken_is_an_error(path), _open_member(path, inner) as (stream, size):
        _check_space(path, size, target)
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
    _check_space(path, total, target)
    seen: dict[str, str] = {}
    with (
        _broken_is_an_error(path),
        tarfile.open(path, "r:*", tarinfo=TarHeader) as archive,
        Progress(f"extracting {path.name}", total, "B", scale=True) as progress,
    ):
        for info in archive:
            name = _safe_name(info.name, path)
            if info.isdir():
                continue
            _check_new(name, seen, path)
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
        with _broken_is_an_error(Path(path)), _open_zip(path).open(name) as stream:
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


@contextmanager
def _broken_is_an_error(path: Path) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        text = str(error) or type(error).__name__
        raise UserError(f"{path} cannot be read: {text}", remedy="fetch the archive again", code="ARC01") from error
    except OSError as error:
        raise _unreadable(path, error) from error


def _safe_name(name: str, path: Path) -> str:
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    if len(plain) > _MAX_PATH_LENGTH or any(len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in parts):
        raise UserError(
            f"{path} has a member whose name no file system takes: {name[:50]!r}...",
            remedy="do not use this archive",
            code="ARC02",
        )
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain) or ".." in parts or "\0" in plain:
        raise UserError(f"member {name!r} leads outside of {path}", remedy="do not use this archive", code="ARC02")
    return "/".join(part for part in parts if part not in ("", "."))


def _check_new(name: str, seen: dict[str, str], path: Path) -> None:
    """Raise NAM04 for a name that an earlier member has, but for the case of its letters; remember it otherwise."""
    if name.casefold() in seen:
        raise UserError(
            f"{seen[name.casefold()]} and {name} would be one file",
            file=path,
            code="NAM04",
            remedy="unpack the archive by hand and give the folder",
        )
    seen[name.casefold()] = name


def _zip_members(archive: zipfile.ZipFile, path: Path, archive_size: int) -> Iterator[Member]:
    total = 0
    seen: dict[str, str] = {}
    for info in archive.infolist():
        name = _safe_name(info.filename, path)
        mode = info.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise _no_regular_file(name, path)
        if info.is_dir():
            continue
        if info.flag_bits & 1:
            raise UserError(
                f"{path} is encrypted", remedy="unpack it with its password and give the folder", code="ARC05"
            )
        _check_new(name, seen, path)
        total += info.file_size
        _check_expansion(total, archive_size, path)
        # The name as the archive spells it: that is how the member is found again.
        yield Member(info.filename, info.file_size)


def _tar_members(archive: tarfile.TarFile, path: Path, compressed: bool, archive_size: int) -> Iterator[Member]:
    total = end = 0
    before = -1
    for info in archive:
        if info.size < 0 or info.offset <= before:  # extended headers may say so, and then it would never end
            raise tarfile.ReadError("it points back into itself")
        before = info.offset
        name = _safe_name(info.name, path)
        end = info.offset_data + -(-info.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        if info.isdir():
            continue
        if not info.isreg() or info.issparse():
            raise _no_regular_file(name, path)
        total += info.size
        _check_expansion(total, archive_size, path)
        if not compressed and info.offset_data + info.size > archive_size:
            raise tarfile.ReadError(f"it ends within {name}")
        yield Member(info.name, info.size, -1 if compressed else info.offset_data)
    if not compressed:
        # A tar that is cut between two members reads like a whole one, but for the block of zeros at its end.
        with path.open("rb") as file:
            file.seek(end)
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")


def _no_regular_file(name: str, path: Path) -> UserError:
    return UserError(f"member {name!r} of {path} is a link or a device", remedy="do not use this archive", code="ARC03")


def _check_expansion(total: int, archive_size: int, path: Path) -> None:
    if total > max(MAX_EXPANSION * archive_size, _MIN_SUSPICIOUS_BYTES):
        raise UserError(
            f"{path} would expand to more than {MAX_EXPANSION} times its size",
            remedy="if you trust it, unpack it by hand and give the folder",
            code="ARC04",
        )


def _check_space(path: Path, size: int, target: Path) -> None:
    free = shutil.disk_usage(target).free
    if size > free:
        raise UserError(
            f"{path} needs {size} bytes to unpack, {free} are free",
            file=target,
            code="ARC04",
            remedy="free some space, or unpack it elsewhere and give the folder",
        )
