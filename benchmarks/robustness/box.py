"""The folder in which every input is tried: always at the same path, filled from a store, compared afterwards.

Layout: ``box/outside/mine.txt`` must never change; ``box/1/2/3/4/here`` holds download, nnU-Net's folders and what
commands write. The depth lets a name with ``../`` land where it is seen.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

Tree = dict[str, tuple[int, int, int]]
#: folders of ``here``
DOWNLOAD, RAW, PREPROCESSED, RESULTS, PREDICTIONS, OUT, TABLES = (
    *("download", "raw", "preprocessed", "results", "predictions", "out", "tables"),
)
_MADE = (RAW, PREPROCESSED, RESULTS, OUT, TABLES, "tmp", "home", "cwd")
#: names that a mutated archive would leave where nothing may be written
_ELSEWHERE = (Path("/mine"), Path("/outside"))


@dataclass(frozen=True)
class Box:
    """The box below a work folder, and the store beside it."""

    work: Path

    @property
    def top(self) -> Path:
        return self.work / "box"

    @property
    def here(self) -> Path:
        return self.top / "1" / "2" / "3" / "4" / "here"

    @property
    def outside(self) -> Path:
        return self.top / "outside" / "mine.txt"

    def environment(self) -> dict[str, str]:
        """What commands find in their environment."""
        return {
            "nnUNet_raw": os.fspath(self.here / RAW),
            "nnUNet_preprocessed": os.fspath(self.here / PREPROCESSED),
            "nnUNet_results": os.fspath(self.here / RESULTS),
            "HOME": os.fspath(self.here / "home"),
            "TMPDIR": os.fspath(self.here / "tmp"),
        }

    def clear(self) -> None:
        """An empty box."""
        remove(self.top)
        for name in _MADE:
            (self.here / name).mkdir(parents=True)
        self.outside.parent.mkdir()
        self.outside.write_text("mine")

    def keep(self, name: str) -> None:
        """The box goes to the store."""
        self.top.rename(self._stored(name))

    def has(self, name: str) -> bool:
        return self._stored(name).is_dir()

    def fill(self, name: str) -> None:
        """The box as it was kept."""
        remove(self.top)
        shutil.copytree(self._stored(name), self.top, symlinks=True)

    def _stored(self, name: str) -> Path:
        (self.work / "store").mkdir(exist_ok=True)
        return self.work / "store" / name.replace(":", "-")

    def shown(self, text: str) -> str:
        """Text without the path of this machine."""
        return text.replace(os.fspath(self.here), "HERE").replace(os.fspath(self.top), "BOX")


def remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def tree(top: Path) -> Tree:
    """Every path below: kind, size, time of change; and ``_ELSEWHERE``, as far as it exists."""
    found: Tree = {os.fspath(path): (0, 0, 0) for path in _ELSEWHERE if os.path.lexists(path)}
    folders = [os.fspath(top)]
    while folders:
        for entry in os.scandir(folders.pop()):
            state = entry.stat(follow_symlinks=False)
            kind = stat.S_IFMT(state.st_mode)
            if kind == stat.S_IFDIR:
                folders.append(entry.path)
                found[entry.path] = (kind, 0, 0)
            else:
                found[entry.path] = (kind, state.st_size, state.st_mtime_ns)
    return found


def changed(before: Tree, after: Tree) -> list[str]:
    """Paths that came, went or changed."""
    return sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))


def outside(paths: Iterable[str], allowed: Iterable[Path]) -> list[str]:
    """Those of the paths that lie in none of the allowed places."""
    prefixes = [os.fspath(place) for place in allowed]
    return [path for path in paths if not any(path == at or path.startswith(at + os.sep) for at in prefixes)]
