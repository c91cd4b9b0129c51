"""Is an output file still what was recorded of it?"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.formats import gz, nifti, pictures
from nnunet_ext.dataset_conversion.record_forms import CHECKSUMS, read_or_refuse
from nnunet_ext.dataset_conversion.writing import sha256
from nnunet_ext.errors import UserError
from nnunet_ext.files import read_regular_file
from nnunet_ext.progress import Progress

_MAX_BYTES = 8 * nifti.MAX_VOXELS + nifti.MAX_OFFSET
_MAX_PICTURE_BYTES = 1 << 30
_STEP = 1 << 20


def changed_files(folder: Path) -> list[str]:
    """Output files that are gone or no longer what the conversion wrote or linked.

    A hard link follows its source, so that an edited download shows here.

    Args:
        folder: a finished dataset.

    Returns:
        Paths below the folder.

    Raises:
        UserError: if the folder has no record of ours, or one of another form.
    """
    record = read_or_refuse(folder, CHECKSUMS)
    if record is None:
        raise UserError("no provenance.json of a conversion", file=folder, remedy="convert the dataset with nnunet_ext")
    files = [file for case in record.get("cases", ()) for file in case["files"]]
    changed = []
    with Progress("comparing checksums", len(files), "file") as progress:
        for file in files:
            if not unchanged(folder, file):
                changed.append(file["path"])
            progress.step()
    return changed


def unchanged(folder: Path, record: dict[str, Any]) -> bool:
    """Compare size and checksum of a file with its record.

    The size is compared before anything is read, and volumes are read in pieces: a record of somebody else decides
    neither how long this takes nor how much memory.

    Args:
        folder: the dataset's.
        record: path below the folder, size, sha256, and ``of``: ``"file"``, or ``"content"`` for uncompressed bytes or
            pixels.
    """
    path = folder / record["path"]
    try:
        if record["of"] == "content" and path.suffix == ".png":
            picture = read_regular_file(path, min(record["size"], _MAX_PICTURE_BYTES))
            same_size = len(picture) == record["size"]
            return same_size and sha256(pictures.raw_pixels(picture, str(path))) == record["sha256"]
        data: Iterator[bytes] = _parts(path, record["size"])
        if record["of"] == "content" and path.name.endswith(".gz"):
            data = gz.pieces(data, _MAX_BYTES, str(path))
        return _digest(data) == record["sha256"]
    except (OSError, ValueError, UserError):
        return False


def _parts(path: Path, size: int) -> Iterator[bytes]:
    """A regular file of that size, or a link to one: the images of a dataset may be links to the download.

    Raises:
        ValueError: it is something else.
    """
    # without O_NONBLOCK, opening a pipe waits for a writer; O_BINARY exists on Windows alone
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode) or status.st_size != size or size > _MAX_BYTES:
            raise ValueError(f"{path} is no file of {size} bytes")
        while data := file.read(min(_STEP, size)):
            size -= len(data)
            yield data


def _digest(data: Iterator[bytes]) -> str:
    digest, total = hashlib.sha256(), 0
    for piece in data:
        digest.update(piece)
        total += len(piece)
    return digest.hexdigest() if total <= _MAX_BYTES else ""
