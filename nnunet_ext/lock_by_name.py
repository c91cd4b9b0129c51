"""A lock that is a file which only one process can create, for file systems that do not lock (see ``lock.py``).

It stays when its process is killed. It is taken over only from a process of which this machine knows that it has ended:
never because it is old, nor because another machine or container has no process of that number.
"""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file, temporary_name

#: of what a lock says
MAX_BYTES = 1 << 12


class Held(Exception):
    """Somebody holds the lock.

    Attributes:
        who: which process, for people.
        remedy: what can be done.
    """

    def __init__(self, who: str, remedy: str) -> None:
        self.who, self.remedy = who, remedy
        super().__init__(f"held by {who}; {remedy}")


def this_process(about: str) -> str:
    """Process, machine and time, in one line for people."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return f"process {os.getpid()} on {socket.gethostname()} since {now}" + (f": {about}" if about else "")


def take_name(name: Path, about: str) -> None:
    """Create the file that stands for a lock, with its content: at no moment is it there without.

    Raises:
        Held: another process has it, or is not known to have ended.
        OSError: it cannot be written.
    """
    content = f"{this_process(about)}\n{os.getpid()}\n{_machine()}\n{_start(os.getpid())}\n"
    waiting = temporary_name(name)
    try:
        waiting.unlink(missing_ok=True)
        waiting.write_bytes(content.encode("utf-8", "backslashreplace"))
        for _ in range(2):
            with suppress(FileExistsError):
                return _create(name, waiting)
            before = _content(name)
            who, *process = before.split("\n")
            if not _has_ended(process):
                raise Held(who or "another process", f"wait for it; if it is gone, remove {name}")
            _take_away(name, before)
        raise Held("another process", "wait for it")
    finally:
        waiting.unlink(missing_ok=True)


def _create(name: Path, waiting: Path) -> None:
    try:
        os.link(waiting, name)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        with name.open("xb") as file:
            try:
                file.write(waiting.read_bytes())
                file.flush()
            except BaseException:
                name.unlink(missing_ok=True)
                raise


def _content(name: Path) -> str:
    """What a lock says; nothing where it is no lock of ours."""
    with suppress(UserError, UnicodeDecodeError, FileNotFoundError):
        return read_regular_file(name, MAX_BYTES).decode("utf-8")
    return ""


def _take_away(name: Path, content: str) -> None:
    """Remove the file that a process has left. Between our reading it and our removing it another one may have taken
    the lock over: what was moved away then has other content and is put back."""
    aside = name.with_name(f"{name.name}.{os.getpid()}")
    with suppress(FileNotFoundError, FileExistsError):  # another one was faster; creating ours tells
        name.rename(aside)
        if _content(aside) != content:
            _create(name, aside)
    aside.unlink(missing_ok=True)


def _has_ended(process: list[str]) -> bool:
    """Whether this machine knows that a process has ended: the number is free, or another process has it."""
    number, machine, start = (*process, "", "", "")[:3]
    if not number.isdecimal() or machine != _machine() or sys.platform == "win32":  # os.kill ends a process there
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    now = _start(int(number))
    return bool(start and now and start != now) or int(number) == os.getpid()


def _machine() -> str:
    """Where a process number means something: the machine since its start, and the container."""
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.readlink("/proc/self/ns/pid")  # noqa: PTH115 - it names nothing in the file system
    return f"{socket.gethostname()} {boot} {namespace}"


def _start(number: int) -> str:
    """When a process began, as Linux counts; empty where that is not known."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    return ""
