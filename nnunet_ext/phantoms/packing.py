"""Puts files into folders and archives: the same files give the same bytes, whoever writes them and whenever.

A destination is a relative path; ``archive.tar::member`` and ``archive.zip::member`` name a member of an archive.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

# 2021-07-16, the date in the folder name of the BraTS 2021 release.
_DATE = (2021, 7, 16, 0, 0, 0)
_EPOCH_SECONDS = 1626393600


class Packer:
    """Writes files below a folder, in the order in which they come. A context manager: it closes the archives."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._archives: dict[str, tarfile.TarFile | zipfile.ZipFile] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Packer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _archive(self, name: str) -> tarfile.TarFile | zipfile.ZipFile:
        if name not in self._archives:
            path = self._root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith(".zip"):
                self._archives[name] = self._stack.enter_context(zipfile.ZipFile(path, "w"))
            else:
                self._archives[name] = self._stack.enter_context(tarfile.TarFile(path, "w"))
        return self._archives[name]

    def add(self, destination: str, content: bytes) -> None:
        """Write one file.

        Args:
            destination: relative path, or ``archive::member``.
            content: the file's bytes.
        """
        name, _, member = destination.rpartition("::")
        if not name:
            path = self._root / destination
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            return
        archive = self._archive(name)
        if isinstance(archive, zipfile.ZipFile):
            info = zipfile.ZipInfo(member, date_time=_DATE)
            info.external_attr = 0o644 << 16
            info.create_system = 3  # else the writing platform's number
            archive.writestr(info, content)
        else:
            header = tarfile.TarInfo(member)
            header.size, header.mtime, header.mode = len(content), _EPOCH_SECONDS, 0o644
            archive.addfile(header, io.BytesIO(content))
