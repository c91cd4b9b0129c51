"""A lock that one process at a time holds, and that ends with this process, however it ends.

It is a POSIX record lock (``fcntl.lockf``) on a file: the kernel releases it when the process is gone, also after
``kill -9``, and unlike a lock by ``flock`` it does not live on in forked workers. The file itself says nothing; it is
opened once, because closing any other descriptor of it would release the lock, and it stays where it is: a lock on a
file that somebody has removed keeps nobody out. What it holds (process, machine, time) is for people to read.

Where a lock does not keep a second process out, which is tried at the start (some network file systems, and Windows),
a file ``NAME.held`` that only one process can create takes its place (``lock_by_name.py``). A network file system that
locks for each machine alone (mount options ``nolock``, ``local_lock`` of NFS) cannot be told from one that locks.
"""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from nnunet_ext.lock_by_name import MAX_BYTES, Held, take_name, this_process

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
# Ends with 3 where it gets the lock that another process holds.
_SECOND_PROCESS = """
import fcntl, os, sys
try:
    fcntl.lockf(os.open(sys.argv[1], os.O_RDWR), fcntl.LOCK_EX | fcntl.LOCK_NB)
except OSError:
    sys.exit(0)
sys.exit(3)
"""

# Locks of this process: the kernel does not tell its threads apart. Device and inode of each file.
_held: set[tuple[int, int]] = set()
_guard = threading.Lock()
# Devices on which a second process was seen to be kept out.
_tried: set[int] = set()


class Lock:
    """A lock that this process holds, until it is released or the process ends. See ``take``."""

    def __init__(self, file: Path, descriptor: int, by_name: Path | None) -> None:
        self._file, self._descriptor, self._by_name, self._process = file, descriptor, by_name, os.getpid()
        self._key = _key(os.fstat(descriptor))
        _held.add(self._key)

    def release(self, *, remove: bool = False) -> None:
        """Let others have it. A forked child, which does not hold it, releases nothing.

        Args:
            remove: also remove the file, where its name will not be used again. Who is about to take it notices.
        """
        if self._descriptor < 0:
            return
        if os.getpid() == self._process:
            with suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            for path in (self._file if remove else None, self._by_name):
                if path is not None:
                    with suppress(OSError):
                        path.unlink(missing_ok=True)
            _held.discard(self._key)
        os.close(self._descriptor)
        self._descriptor = -1

    def __enter__(self) -> Lock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def take(file: Path, about: str = "", say: Callable[[str], None] | None = None) -> Lock:
    """Take a lock, or say who has it; nobody is waited for.

    Args:
        file: of the lock, in a folder that exists. It is made where it is not there, and stays.
        about: what the lock is taken for, for people.
        say: is told where the file system does not lock.

    Raises:
        Held: another process has it, or this one.
        OSError: the file cannot be made or opened, or is a link or no file.
    """
    with _guard:
        while True:
            with suppress(OSError):
                if _key(file.lstat()) in _held:
                    raise Held("this process", "wait for it")
            descriptor = _open(file)
            lock = None
            try:
                lock = _locked(file, descriptor, about, say)
            finally:
                if lock is None:
                    os.close(descriptor)
            if lock is not None:
                return lock


def _locked(file: Path, descriptor: int, about: str, say: Callable[[str], None] | None) -> Lock | None:
    """The lock on an open file; None if its holder has removed the file meanwhile."""
    granted = _lockf(descriptor)
    if granted is False:
        text = os.pread(descriptor, MAX_BYTES, 0).decode("utf-8", "replace").partition("\n")[0]
        raise Held(text or "another process", "wait for it, or end it; the lock ends with the process")
    try:
        if _key(file.lstat()) != _key(os.fstat(descriptor)):
            return None
    except FileNotFoundError:
        return None
    if granted and _keeps_others_out(file, descriptor):
        with suppress(OSError):  # such as a full disk: the text is for people, the lock is held without it
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{this_process(about)}\n".encode("utf-8", "backslashreplace"), 0)
        return Lock(file, descriptor, None)
    by_name = file.with_name(f"{file.name}.held")
    take_name(by_name, about)
    if say is not None:
        say(f"note: this file system does not lock files ({file.parent}); {by_name.name} stands for the lock")
    return Lock(file, descriptor, by_name)


def _key(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _open(file: Path) -> int:
    """A descriptor of the file, which may be written by whoever may write into its folder."""
    # without O_NONBLOCK, opening a pipe waits; neither flag exists on Windows
    flags = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        try:
            descriptor = os.open(file, flags)
            break
        except FileNotFoundError:
            with suppress(FileExistsError):
                descriptor = os.open(file, flags | os.O_CREAT | os.O_EXCL, 0o666)
                with suppress(OSError, AttributeError):  # Windows has no fchmod
                    os.fchmod(descriptor, 0o600 | (file.parent.stat().st_mode & 0o066))
                break
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.EISDIR):
                raise _no_lock(file) from error
            raise
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink > 1:
        os.close(descriptor)
        raise _no_lock(file)
    return descriptor


def _no_lock(file: Path) -> OSError:
    return OSError(errno.EINVAL, "it is no file, or has a second name, and so is no lock", str(file))


def _lockf(descriptor: int) -> bool | None:
    """Whether the lock was granted; None where there are no such locks."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in _UNSUPPORTED:
            return None
        raise
    return True


def _keeps_others_out(file: Path, descriptor: int) -> bool:
    """Whether a second process is refused the lock that this one holds."""
    device = os.fstat(descriptor).st_dev
    if device not in _tried:
        command = [sys.executable, "-I", "-S", "-c", _SECOND_PROCESS, os.fspath(file)]
        try:
            if subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).returncode == 3:
                return False
        except (OSError, subprocess.SubprocessError):
            return True  # it could not be tried, and nothing speaks against it
        _tried.add(device)
    return True


def _forget() -> None:
    """After a fork: the child holds nothing."""
    global _guard
    _guard = threading.Lock()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
