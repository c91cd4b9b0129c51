"""Reading files that somebody else may have written: regular files only, of bounded size, and names that stay where
they are joined. Writing files and folders that are either whole or not there."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from nnunet_ext.errors import UserError

#: Bytes of a JSON file. The record of 10,000 cases with four images each takes about 30 MB.
MAX_JSON_BYTES = 1 << 28
#: Nested lists and objects of a JSON file. Plans of nnU-Net have seven levels, our records six.
MAX_JSON_DEPTH = 32
#: Lists and objects of a JSON file: each takes about a hundred bytes of memory, however short it is written.
MAX_JSON_CONTAINERS = 1 << 22
#: Bytes of a file name that common file systems allow.
MAX_NAME_BYTES = 255

# A string of JSON, also one that the end of the file cuts off; every byte is passed over once.
_JSON_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def read_regular_file(file: Path, max_bytes: int) -> bytes:
    """The content of a regular file, or of a link to one.

    Devices, pipes and folders are refused before a byte is read: reading ``/dev/zero`` or a pipe would never end.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no regular file, larger than ``max_bytes``, or cannot be read.
    """
    try:
        # without O_NONBLOCK, opening a pipe waits for a writer; O_BINARY exists on Windows alone
        descriptor = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with os.fdopen(descriptor, "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise UserError("not a regular file", file=file, remedy="put the file itself there")
            if status.st_size > max_bytes:
                raise _too_large(file, max_bytes)
            data = stream.read(status.st_size + 1)  # reading takes as much memory as it is asked for
            if len(data) > status.st_size:  # it grew, or is one of those that do not know their size
                data += stream.read(max_bytes + 1 - len(data))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UserError(
            f"the file cannot be read: {reason}", file=file, remedy="check its name and permissions"
        ) from error
    if len(data) > max_bytes:
        raise _too_large(file, max_bytes)
    return data


def read_json(file: Path, max_bytes: int = MAX_JSON_BYTES) -> Any:
    """The content of a JSON file, whose size and depth are bounded before it is parsed.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: it is no regular file, too large, too deeply nested, or no JSON.
    """
    return parse_json(read_regular_file(file, max_bytes), file)


def parse_json(data: bytes, file: Path | str) -> Any:
    """The content of JSON bytes; ``file`` is where they come from, for the message.

    Raises:
        UserError: too deeply nested, or no JSON.
    """
    brackets = _brackets(data)
    if len(brackets) > 2 * MAX_JSON_CONTAINERS:
        raise UserError(
            f"the JSON holds more than {MAX_JSON_CONTAINERS} lists and objects",
            file=file,
            remedy="check that it is the right file",
        )
    if max(itertools.accumulate(map(_STEP.__getitem__, brackets)), default=0) > MAX_JSON_DEPTH:
        raise UserError(
            f"the JSON is nested more than {MAX_JSON_DEPTH} levels deep", file=file, remedy="write or copy it again"
        )
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:  # ValueError: also what is not UTF-8
        raise UserError(f"not valid JSON: {error}", file=file, remedy="write or copy it again") from error


def _brackets(data: bytes) -> bytes:
    return _JSON_STRING.sub(b"", data).translate(None, _NO_BRACKETS)


def _too_large(file: Path, max_bytes: int) -> UserError:
    return UserError(
        f"the file is larger than the {max_bytes / 2**20:.0f} MiB that such a file may have",
        file=file,
        remedy="check that it is the right file",
    )


def is_component(name: object) -> bool:
    """Whether a text may name one file or folder: joined to a folder, it stays directly inside it.

    Separators of any system, ``.`` and ``..``, a drive's colon, control and unpaired surrogate characters, blanks at
    the ends and names that no file system takes are not allowed.
    """
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and name == name.strip()
        and not any(character in '/\\:"<>|?*' or unicodedata.category(character) in _UNNAMED for character in name)
        and len(name.encode("utf-8")) <= MAX_NAME_BYTES
    )


def is_case_name(name: object) -> bool:
    """Whether a text may name a case: joined to a folder it stays inside it. Whatever else the file systems of Linux
    take is allowed, since the names are the user's and never written by this plugin."""
    return (
        isinstance(name, str)
        and name not in ("", ".", "..")
        and not any(character in "/\\" or unicodedata.category(character) in ("Cc", "Cs") for character in name)
        and len(name.encode("utf-8")) <= MAX_NAME_BYTES
    )


#: control, format (such as right-to-left override), surrogate; line and paragraph separators
_UNNAMED = frozenset(("Cc", "Cf", "Cs", "Zl", "Zp"))


def is_path_below(path: object, levels: int = 16) -> bool:
    """Whether a text with ``/`` names something below the folder that it is joined to, without leaving it."""
    return isinstance(path, str) and path.count("/") < levels and all(map(is_component, path.split("/")))


def temporary_name(path: Path) -> Path:
    """Where a file or folder is written before it is renamed to ``path``: a hidden name in the same folder, which tells
    the process that writes."""
    return path.with_name(f".{path.name}.tmp-{os.getpid()}")


def is_temporary(name: str) -> bool:
    """Whether a name is one that ``temporary_name`` gives, in whatever process."""
    return name.startswith(".") and ".tmp-" in name


@contextmanager
def write_atomically(file: Path, *, temporary: Path | None = None, sync: bool = False) -> Iterator[BinaryIO]:
    """A stream for the new content of a file, which takes the place of the old content when the block ends.

    At any moment ``file`` holds the old content or the new one, whole. After an error the old content stays, and
    nothing half-written is left.

    Args:
        file: in a folder that exists.
        temporary: where the new content is written first, in the same folder; ``temporary_name`` unless given.
        sync: wait until the disk has the content before the file is renamed, so that it also outlasts a power failure.

    Raises:
        OSError: it cannot be written.
    """
    temporary = temporary_name(file) if temporary is None else temporary
    try:
        temporary.unlink(missing_ok=True)  # left by a process that was killed, it may be a link that leads elsewhere
        with temporary.open("wb") as stream:
            yield stream
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        temporary.replace(file)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def write_folder_atomically(folder: Path) -> Iterator[Path]:
    """A new folder to fill, which becomes ``folder`` when the block ends; after an error nothing of it is left.

    Args:
        folder: absent or empty; the folders above it are made.

    Raises:
        OSError: it cannot be written, or ``folder`` holds something.
    """
    temporary = temporary_name(folder)
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()  # Windows renames onto no folder, not even an empty one
        temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
