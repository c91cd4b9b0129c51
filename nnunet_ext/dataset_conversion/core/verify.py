"""Is an output file still what was recorded of it?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.core import gz, pictures
from nnunet_ext.dataset_conversion.core.writing import sha256
from nnunet_ext.errors import UserError

_MOST = 1 << 34


def unchanged(folder: Path, record: dict[str, Any]) -> bool:
    """Compare size and checksum of a file with its record.

    Args:
        folder: the dataset's.
        record: path, size, sha256, and ``of``: ``"file"``, or ``"content"`` for uncompressed bytes or pixels.
    """
    path = folder / record["path"]
    try:
        data = path.read_bytes()
        if len(data) != record["size"]:
            return False
        if record["of"] == "content" and path.name.endswith(".gz"):
            data = gz.decompress(data, _MOST, str(path))
        elif record["of"] == "content" and path.suffix == ".png":
            data = pictures.raw_pixels(data, str(path))
    except (OSError, UserError):
        return False
    return sha256(data) == record["sha256"]
