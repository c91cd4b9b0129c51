"""What the members of an archive may not be: whatever could leave its folder or fill a disk is refused."""

from __future__ import annotations

import re
import shutil
import stat
import tarfile
import zipfile
from pathlib import Path

from nnunet_ext.dataset_conversion.find.archive_kinds import MAX_MEMBERS, too_many
from nnunet_ext.errors import UserError
from nnunet_ext.files import MAX_NAME_BYTES

# An archive of images never expands by more; a few bytes of zeros do.
_MAX_EXPANSION = 40
_MIN_SUSPICIOUS_BYTES = 64 << 20  # the ratio means nothing below this size
_MAX_PATH_LENGTH = 4096
_UNPACK = "unpack it with 7z and give the folder"
_IF_TRUSTED = "if you trust it, unpack it by hand and give the folder"
# How zips may be compressed. Deflate64 is what Windows takes for files over 2 GB.
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS |= {getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}  # Python 3.14
_METHOD_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 93: "Zstandard", 95: "XZ", 98: "PPMd", 99: "AES"}


def safe_name(name: str, shown: str) -> str:
    """The name of a member as a path below a folder, with ``/``; empty for the folder itself.

    Args:
        name: as the archive spells it.
        shown: the archive as messages name it.

    Raises:
        UserError: ARC02 for one that leads outside or that no file system takes.
    """
    plain = name.replace("\\", "/")
    parts = plain.split("/")
    if len(plain) > _MAX_PATH_LENGTH or any(len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in parts):
        raise UserError(
            f"{shown} has a member whose name no file system takes: {name[:50]!r}...",
            remedy="do not use this archive",
            code="ARC02",
        )
    if plain.startswith("/") or re.match(r"[A-Za-z]:", plain):
        raise UserError(
            f"member {name!r} leads outside of {shown}: its name begins at the top of the disk",
            remedy="if you trust it, unpack it with 7z or 'tar -xf' into a folder of its own and give that",
            code="ARC02",
        )
    if ".." in parts or "\0" in plain:
        raise UserError(f"member {name!r} leads outside of {shown}", remedy="do not use this archive", code="ARC02")
    return "/".join(part for part in parts if part not in ("", "."))


class Names:
    """The names of an archive's files, none of which may be that of another file or of a folder.

    Args:
        shown: the archive as messages name it.
    """

    def __init__(self, shown: str) -> None:
        self._shown = shown
        self._files: dict[str, str] = {}
        self._folders: dict[str, str] = {}

    def add(self, name: str) -> None:
        """Remember a name.

        Raises:
            UserError: ARC01 for no name; NAM04 for one that an earlier member has, but for the case of its letters.
        """
        if not name:
            raise UserError(f"{self._shown} holds a file without a name", remedy=_UNPACK, code="ARC01")
        folded = name.casefold()
        other = self._files.get(folded) or self._folders.get(folded)
        above = folded
        while other is None and (above := above.rpartition("/")[0]) and above not in self._folders:
            other = self._files.get(above)
            self._folders[above] = name
        if other is not None:
            what = (
                f"holds {name} twice" if other == name else f"cannot be unpacked: {other} and {name} would be one file"
            )
            raise UserError(
                f"{self._shown} {what}",
                code="NAM04",
                remedy="unpack it by hand, see which of the two is right, and give the folder",
            )
        self._files[folded] = name


def check_zip_member(info: zipfile.ZipInfo, name: str, shown: str) -> None:
    """Raise for a file of a zip that is none or that cannot be read.

    Raises:
        UserError: ARC01 for a way of compression that Python has not; ARC03 for a link or device; ARC05.
    """
    mode = stat.S_IFMT(info.external_attr >> 16)
    if mode not in (0, stat.S_IFREG, stat.S_IFDIR):
        raise _no_file(f"{shown}!/{name}", "a symbolic link" if mode == stat.S_IFLNK else "a device or a pipe")
    if info.flag_bits & 1:
        raise UserError(
            f"{shown}!/{name} is encrypted", remedy="unpack the zip with its password and give the folder", code="ARC05"
        )
    if info.compress_type not in _METHODS:
        method = _METHOD_NAMES.get(info.compress_type, f"method {info.compress_type}")
        raise UserError(
            f"{shown}!/{name} is compressed by {method}, which Python cannot read",
            remedy="unpack the zip with 7z and give the folder",
            code="ARC01",
        )


def no_regular_file(info: tarfile.TarInfo, name: str, shown: str) -> UserError:
    """ARC03 for a member of a tar that is neither a file nor a folder."""
    if info.issym():
        what = "a symbolic link"
    elif info.islnk():
        what = f"a hard link to {info.linkname!r}, which is no earlier file of the archive,"
    else:
        what = "a device or a pipe" if info.isdev() else f"of a kind of its own ({info.type!r})"
    return _no_file(f"{shown}!/{name}", what)


def _no_file(member: str, what: str) -> UserError:
    return UserError(f"{member} is {what} and no file", remedy=_IF_TRUSTED, code="ARC03")


class Budget:
    """How much an archive may hold, in members and in bytes, and with all else in it the archive that holds it.

    Args:
        size: of the archive.
        shown: the archive as messages name it.
        outer: of the archive that this one is a member of.
    """

    def __init__(self, size: int, shown: str, outer: Budget | None = None) -> None:
        self._most = max(_MAX_EXPANSION * size, _MIN_SUSPICIOUS_BYTES)
        self._shown = shown
        self._outer = outer
        self._total = self._members = 0

    def add(self, size: int, members: int = 1) -> None:
        """Count a member, or bytes of it; raise ARC04 if no archive holds so much unless it is a bomb."""
        self._total += size
        self._members += members
        if self._members > MAX_MEMBERS:
            raise too_many(self._shown)
        if self._total > self._most:
            raise UserError(
                f"{self._shown} would expand to more than {_MAX_EXPANSION} times its size",
                remedy=_IF_TRUSTED,
                code="ARC04",
            )
        if self._outer is not None:
            self._outer.add(size, members)


def check_space(shown: str, size: int, target: Path) -> None:
    """Raise ARC04 where ``size`` bytes do not fit on the disk of the folder ``target``."""
    free = shutil.disk_usage(target).free
    if size > free:
        raise UserError(
            f"{shown} needs {size} bytes to unpack, {free} are free",
            file=target,
            code="ARC04",
            remedy="free some space, or unpack it elsewhere and give the folder",
        )
