"""A lock keeps others out for as long as its process lives, and not a moment longer. Processes here are real ones."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nnunet_ext import lock as locking
from nnunet_ext import lock_by_name
from nnunet_ext.lock import Held, Lock, take

pytestmark = pytest.mark.skipif(os.name == "nt", reason="forks and kills")

HOLD = """
import os, sys, time
from pathlib import Path
from nnunet_ext import lock
if {by_name}:
    lock._lockf = lambda descriptor: None
held = lock.take(Path(sys.argv[1]), "a test")
{then}
print("held", flush=True)
time.sleep(120)
"""
FORK = "pid = os.fork()\nif not pid:\n    time.sleep(120)\nprint(pid)"


class Holder:
    """A process that holds a lock, and its forked child if it has one."""

    def __init__(self, file: Path, then: str = "", by_name: bool = False) -> None:
        code = HOLD.format(then=then, by_name=by_name)
        self.process = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.child = 0
        while (line := self.process.stdout.readline().strip()) != "held":
            assert line, "it ended"
            self.child = int(line)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        if self.child:
            os.kill(self.child, signal.SIGKILL)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., Holder]]:
    started: list[Holder] = []

    def start(**how: object) -> Holder:
        started.append(Holder(tmp_path / "x.lock", **how))  # type: ignore[arg-type]
        return started[-1]

    yield start
    for each in started:
        each.end()


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a file system that refuses locks."""
    monkeypatch.setattr(locking, "_lockf", lambda descriptor: None)


# --- locks of the kernel ---------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_holds_the_lock(tmp_path, holder) -> None:
    first = holder()
    with pytest.raises(Held, match=rf"held by process {first.process.pid} on .* since .*: a test; wait for it") as held:
        take(tmp_path / "x.lock")
    assert "remove" not in held.value.remedy, "the lock ends with the process; there is nothing to remove"


@pytest.mark.parametrize("then", ["", FORK])
def test_a_killed_holder_is_in_nobodys_way_even_while_its_forked_children_live(tmp_path, holder, then) -> None:
    first = holder(then=then)
    first.kill()
    if then:
        os.kill(first.child, 0)  # it lives
    with take(tmp_path / "x.lock"):
        pass


def test_a_forked_child_that_ends_or_releases_leaves_the_lock_to_its_parent(tmp_path) -> None:
    with take(tmp_path / "x.lock") as held:
        pid = os.fork()
        if not pid:
            try:
                held.release()
            finally:
                os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert taken_elsewhere(tmp_path / "x.lock")
    assert not taken_elsewhere(tmp_path / "x.lock")


def test_a_forked_child_is_another_process(tmp_path) -> None:
    with take(tmp_path / "x.lock"):
        pid = os.fork()
        if not pid:
            try:
                take(tmp_path / "x.lock")
            except Held:
                os._exit(7)
            finally:
                os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        assert taken_elsewhere(tmp_path / "x.lock")


def taken_elsewhere(file: Path) -> bool:
    """Whether a process of its own is refused the lock."""
    done = subprocess.run([sys.executable, "-c", locking._SECOND_PROCESS, str(file)], check=False)
    return done.returncode == 0


def test_one_process_takes_a_lock_once_and_asking_again_does_not_lose_it(tmp_path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    with take(tmp_path / "x.lock"):
        for other in (tmp_path / "x.lock", tmp_path / "link" / "x.lock"):
            with pytest.raises(Held, match="this process"):
                take(other)
        assert taken_elsewhere(tmp_path / "x.lock")
    with take(tmp_path / "x.lock"):
        pass


def test_the_file_stays_and_what_a_killed_process_wrote_there_says_nothing(tmp_path) -> None:
    file = tmp_path / "x.lock"
    for content in (b"", b"1 another-machine.invalid", str(os.getppid()).encode(), b"\xff" * 5000):
        file.write_bytes(content)
        with take(file):
            assert file.read_text().startswith(f"process {os.getpid()} on ")
        assert file.read_bytes() == b""


def test_a_full_disk_takes_the_text_and_not_the_lock(tmp_path, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    with take(tmp_path / "x.lock"):
        assert taken_elsewhere(tmp_path / "x.lock")
    with take(tmp_path / "x.lock"):
        pass


@pytest.mark.parametrize("round_", range(3))
def test_of_many_that_start_at_once_one_holds_the_lock_at_a_time(tmp_path, round_) -> None:
    """Six processes, a hundred turns each; two inside at once would find each other's file."""
    code = """
import os, sys
from pathlib import Path
from nnunet_ext import lock
file, inside = Path(sys.argv[1]), Path(sys.argv[1] + ".inside")
lock._tried.add(file.parent.stat().st_dev)
if sys.argv[2] == "2":
    lock._lockf = lambda descriptor: None
won = 0
while won < 100:
    try:
        held = lock.take(file)
    except lock.Held:
        continue
    os.close(os.open(inside, os.O_CREAT | os.O_EXCL))
    won += 1
    inside.unlink()
    held.release(remove=sys.argv[2] == "1")
"""
    command = [sys.executable, "-c", code, str(tmp_path / "x.lock"), str(round_)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(6)]
    failed = [process.communicate(timeout=300)[1] for process in started]
    assert [process.returncode for process in started] == [0] * 6, failed


@pytest.mark.parametrize("kind", ["pipe", "folder", "link", "device", "second name"])
def test_what_is_no_lock_is_neither_opened_nor_changed(tmp_path, kind) -> None:
    file, other = tmp_path / "x.lock", tmp_path / "other"
    other.write_text("kept")
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "second name":
        os.link(other, file)
    else:
        file.symlink_to("/dev/zero" if kind == "device" else other)
    with pytest.raises(OSError, match="no lock"):
        take(file)
    assert other.read_text() == "kept"
    assert os.path.lexists(file)


def test_whoever_may_write_into_the_folder_may_take_the_lock(tmp_path) -> None:
    for mode in (0o700, 0o775, 0o777):
        folder = tmp_path / f"{mode:o}"
        folder.mkdir()
        folder.chmod(mode)
        take(folder / "x.lock").release()
        assert (folder / "x.lock").stat().st_mode & 0o777 == 0o600 | (mode & 0o066)


def test_a_lock_whose_file_its_holder_removes_is_taken_on_a_new_file(tmp_path, monkeypatch) -> None:
    """Between our opening the file and our locking it."""
    opened = locking._open
    first: list[Lock | None] = [take(tmp_path / "x.lock")]
    locking._held.clear()

    def meanwhile(file: Path) -> int:
        descriptor = opened(file)
        if first[0] is not None:
            first.pop()
            file.unlink()
            first.append(None)
        return descriptor

    monkeypatch.setattr(locking, "_open", meanwhile)
    with take(tmp_path / "x.lock"):
        assert taken_elsewhere(tmp_path / "x.lock")


# --- files that stand for locks --------------------------------------------------------------------------------------


def test_where_a_second_process_would_get_the_lock_a_file_stands_for_it_and_that_is_said(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(locking, "_SECOND_PROCESS", "import sys; sys.exit(3)")  # gets it, as without locks
    monkeypatch.setattr(locking, "_tried", set())
    said: list[str] = []
    with take(tmp_path / "x.lock", "a test", said.append):
        assert (tmp_path / "x.lock.held").read_text().startswith(f"process {os.getpid()} on ")
    assert said == [f"note: this file system does not lock files ({tmp_path}); x.lock.held stands for the lock"]
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]


def test_a_lock_by_name_keeps_others_out_and_is_taken_over_from_the_dead(tmp_path, holder, no_locks) -> None:
    first = holder(by_name=True, then=FORK)
    with pytest.raises(Held, match=rf"process {first.process.pid} on .*; wait for it; if it is gone, remove .*\.held"):
        take(tmp_path / "x.lock")
    first.kill()
    with take(tmp_path / "x.lock"):
        assert (tmp_path / "x.lock.held").is_file()
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]


def test_a_number_that_another_process_has_by_now_is_that_of_a_dead_one(tmp_path, no_locks) -> None:
    mine = [str(os.getppid()), lock_by_name._machine(), lock_by_name._start(os.getppid())]
    assert not lock_by_name._has_ended(mine)
    assert lock_by_name._has_ended([*mine[:2], "1"])
    (tmp_path / "x.lock.held").write_text("\n".join(["who", *mine[:2], "1", ""]))
    take(tmp_path / "x.lock").release()


@pytest.mark.parametrize(
    "content", ["", "a lock of something else", "who\n1\nanother machine of this name\n5\n", "who\n²\n\n\n", "\udcff"]
)
def test_a_lock_by_name_of_another_machine_or_container_is_respected(tmp_path, no_locks, content) -> None:
    held = tmp_path / "x.lock.held"
    held.write_bytes(content.encode("utf-8", "surrogateescape"))
    before = held.read_bytes()
    with pytest.raises(Held, match=r"remove .*x\.lock\.held"):
        take(tmp_path / "x.lock")
    assert held.read_bytes() == before
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x.lock", "x.lock.held"]


def test_a_full_disk_leaves_no_lock_by_name(tmp_path, no_locks, monkeypatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(Path, "write_bytes", full)
        with pytest.raises(OSError, match="No space"):
            take(tmp_path / "x.lock")
    assert [file.name for file in tmp_path.iterdir()] == ["x.lock"]
    take(tmp_path / "x.lock").release()


def test_a_lock_by_name_needs_no_hard_links(tmp_path, no_locks, monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    held = tmp_path / "x.lock.held"
    with take(tmp_path / "x.lock"):
        assert held.read_text().startswith(f"process {os.getpid()} on ")
    held.write_text("another")
    with pytest.raises(Held, match="another"):
        take(tmp_path / "x.lock")
    assert held.read_text() == "another"


def test_a_lock_that_another_start_put_in_place_of_a_dead_one_stays(tmp_path) -> None:
    held = tmp_path / "x.lock.held"
    held.write_text("another start")
    lock_by_name._take_away(held, "the dead one")
    assert held.read_text() == "another start"
    lock_by_name._take_away(held, "another start")
    assert list(tmp_path.iterdir()) == []
