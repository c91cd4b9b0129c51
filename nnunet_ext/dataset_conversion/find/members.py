"""What an archive holds, member by member, without anything being unpacked."""

from __future__ import annotations

import stat
import tarfile
import zipfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import IO

from nnunet_ext.dataset_conversion.find.archive_kinds import broken_is_an_error, kind, sparse
from nnunet_ext.dataset_conversion.find.archive_rules import (
    Budget,
    Names,
    check_zip_member,
    no_regular_file,
    safe_name,
)
from nnunet_ext.dataset_conversion.find.junk import is_junk
from nnunet_ext.dataset_conversion.find.tar_header import TarHeader
from nnunet_ext.errors import UserError

# A tar may begin with its label, and hold lists of what lay in a folder: neither is a file.
_NO_FILES = (b"V", b"D")


@dataclass(frozen=True)
class Member:
    """A regular file in an archive.

    Args:
        name: as the archive spells it: that is how the member is found again.
        size: bytes.
        offset: of its first byte in an uncompressed tar; -1 elsewhere.
        path: its name as a path below a folder, with ``/``.
        same_as: path of the earlier member that this one, a hard link, is another name of.
        junk: a hidden file or leftover, which is neither read nor extracted, and may be anything.
    """

    name: str
    size: int
    offset: int = -1
    path: str = ""
    same_as: str = ""
    junk: bool = False


#: A member, and how its content is opened while its archive is being gone through.
Content = tuple[Member, Callable[[], IO[bytes]]]


def contents(stream: IO[bytes], shown: str, size: int, budget: Budget) -> Iterator[Content]:
    """Go through an archive: a file on disk, or a member of another archive that is being gone through.

    Args:
        stream: the archive, at its beginning.
        shown: the archive as messages name it.
        size: of the archive in bytes.
        budget: how much it may expand to.

    Raises:
        UserError: ARC01 to ARC05, NAM04.
    """
    with broken_is_an_error(shown):
        is_kind = kind(stream)
        if is_kind == "zip":
            with zipfile.ZipFile(stream) as archive:
                yield from _zip_contents(archive, shown, budget)
        else:
            with tarfile.open(fileobj=stream, mode="r:*", tarinfo=TarHeader) as archive_tar:
                end = yield from _tar_contents(archive_tar, shown, size if is_kind == "tar" else -1, budget)
            # A tar that is cut between two members reads like a whole one, but for the block of zeros at its end.
            if is_kind == "tar" and (stream.seek(end), stream.read(tarfile.BLOCKSIZE))[1] != bytes(tarfile.BLOCKSIZE):
                raise tarfile.ReadError("it ends early")


def _zip_contents(archive: zipfile.ZipFile, shown: str, budget: Budget) -> Iterator[Content]:
    names = Names(shown)
    for info in archive.infolist():
        name = safe_name(info.filename, shown)
        if info.filename.endswith("/") or stat.S_ISDIR(info.external_attr >> 16):
            continue
        opened: Callable[[], IO[bytes]] = partial(archive.open, info)
        if is_junk(name):
            yield Member(info.filename, info.file_size, path=name, junk=True), opened
            continue
        names.add(name)
        check_zip_member(info, name, shown)
        budget.add(info.file_size)
        yield Member(info.filename, info.file_size, path=name), opened


def _tar_contents(
    archive: tarfile.TarFile, shown: str, archive_size: int, budget: Budget
) -> Generator[Content, None, int]:
    """The members of a tar, of ``archive_size`` bytes if it is not compressed; returns where the last one ends."""
    end = 0
    before = -1
    names = Names(shown)
    plain: dict[str, tuple[Member, tarfile.TarInfo]] = {}
    for info in archive:
        if info.size < 0 or info.offset <= before:  # extended headers may say so, and then it would never end
            raise tarfile.ReadError("it points back into itself")
        before = info.offset
        name = safe_name(info.name, shown)
        held = info.size if info.isreg() or info.type not in tarfile.SUPPORTED_TYPES else 0
        end = info.offset_data + -(-held // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        header = info.offset_data - info.offset
        budget.add(header if archive_size < 0 else 0)
        if info.isdir() or info.type in _NO_FILES:
            continue
        if is_junk(name):
            budget.add(held if archive_size < 0 else 0, 0)  # to skip it, it must be decompressed
            yield Member(info.name, info.size, path=name, junk=True), partial(_open_in_tar, archive, info)
            continue
        names.add(name)
        linked = plain.get(_linked_name(info, shown))
        if linked is not None:
            member = replace(linked[0], name=info.name, path=name, same_as=linked[0].path)
            info = linked[1]
        elif info.issparse():
            raise sparse(shown, name)
        elif not info.isreg():
            raise no_regular_file(info, name, shown)
        else:
            member = Member(info.name, info.size, -1 if archive_size < 0 else info.offset_data, name)
            plain[name] = member, info
        budget.add(member.size, 0)
        if 0 <= archive_size < member.offset + member.size:
            raise tarfile.ReadError(f"it ends within {name}")
        yield member, partial(_open_in_tar, archive, info)
    return end


def _linked_name(info: tarfile.TarInfo, shown: str) -> str:
    """What a hard link leads to, as a path below a folder; empty for anything else."""
    try:
        return safe_name(info.linkname, shown) if info.islnk() else ""
    except UserError:
        return ""


def _open_in_tar(archive: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = archive.extractfile(info)
    if stream is None:
        raise tarfile.ReadError(f"{info.name} holds no data")
    return stream
