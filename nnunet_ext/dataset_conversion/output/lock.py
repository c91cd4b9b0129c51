"""One conversion at a time into a dataset's folder, and who is still running."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nnunet_ext.dataset_conversion.writing import cannot_write
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file

# A process number and the name of a machine.
_MAX_BYTES = 1 << 10


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other conversions out of a dataset's folder.

    The lock is a file beside the folder, so that it outlives the folder's removal by ``--restart``. That of a process
    which was killed is taken over, where the process ran on this machine.

    Raises:
        UserError: OUT07 if another conversion holds the lock, OUT04.
    """
    lock = folder.with_name(f".{folder.name}.lock")
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        if not _create(lock):
            _remove_if_stale(lock, folder)
            if not _create(lock):
                raise _held(lock, folder, "another process")
    except OSError as error:
        raise cannot_write(lock, error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)


def _create(lock: Path) -> bool:
    try:
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {socket.gethostname()}")
    return True


def _remove_if_stale(lock: Path, folder: Path) -> None:
    try:
        content = _content(lock)
    except FileNotFoundError:
        return
    number, _, host = content.partition(" ")
    if not number.isdecimal() or host != socket.gethostname() or is_running(int(number)):
        raise _held(lock, folder, f"process {number or 'unknown'} on {host or 'an unknown machine'}")
    _take_away(lock, content)


def _content(lock: Path) -> str:
    """What a lock says; nothing where it is no lock of ours."""
    try:
        return read_regular_file(lock, _MAX_BYTES).decode("utf-8")
    except (UserError, UnicodeDecodeError):
        return ""


def _take_away(lock: Path, content: str) -> None:
    """Remove a lock that has this content.

    Between our reading it and our removing it another process may have taken the lock over: the file that was moved
    away then has other content and is put back.
    """
    aside = lock.with_name(f"{lock.name}.{os.getpid()}")
    try:
        lock.rename(aside)
        if _content(aside) != content:
            os.link(aside, lock)
    except (FileNotFoundError, FileExistsError):
        pass  # another start was faster; creating ours tells
    finally:
        aside.unlink(missing_ok=True)


def _held(lock: Path, folder: Path, who: str) -> UserError:
    return UserError(
        f"another conversion is writing to {folder} ({who})",
        code="OUT07",
        remedy=f"wait for it; if it is gone, remove {lock}",
    )


def is_running(number: int) -> bool:
    """Whether another process of this machine has this number.

    The own number counts as gone: in a container that was started again, the process before us had the same.
    """
    if number == os.getpid():
        return False
    if sys.platform == "win32":
        # os.kill would end the process there.
        import ctypes

        kernel = ctypes.windll.kernel32
        handle = kernel.OpenProcess(0x1000, False, number)  # PROCESS_QUERY_LIMITED_INFORMATION
        kernel.CloseHandle(handle)
        return bool(handle)
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
