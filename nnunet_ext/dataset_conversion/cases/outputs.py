"""Output files of a case, each written or linked and recorded the same way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nnunet_ext.dataset_conversion.case import SourceFile
from nnunet_ext.dataset_conversion.find.sources import read
from nnunet_ext.dataset_conversion.formats import pictures
from nnunet_ext.dataset_conversion.tasks import CaseResult
from nnunet_ext.dataset_conversion.writing import Files, sha256


def write_content(files: Files, result: CaseResult, path: str, operation: str, data: bytes, content: bytes) -> None:
    """Write a file whose checksum is over its uncompressed content, and record it."""
    size = files.write(path, data)
    _record(result, path, operation, size, sha256(content), "content")


def write_picture(files: Files, result: CaseResult, path: str, operation: str, pixels: np.ndarray) -> None:
    """Write uint8 pixels, (Y, X) or (Y, X, 3), as PNG and record it."""
    write_content(files, result, path, operation, pictures.png(pixels), pixels.tobytes())


def keep_file(
    files: Files,
    result: CaseResult,
    path: str,
    file: SourceFile,
    link: str,
    source: Mapping[str, Any],
    stored: bytes | None = None,
) -> None:
    """Link or copy a source file that needs no change, and record it.

    Args:
        files: the case's.
        result: takes the record of the output.
        path: where it goes, below the dataset's folder.
        file: the source file.
        link: ``--link``.
        source: the record of the source file, with its size and checksum.
        stored: its bytes, where they are in memory already.
    """
    how = files.link(path, file.location, link) if file.linkable and link != "copy" else None
    if how is None:
        files.write(path, read(file) if stored is None else stored)
    _record(result, path, how or "copy", source["size"], source["sha256"], "file")


def _record(result: CaseResult, path: str, operation: str, size: int, checksum: str, of: str) -> None:
    result.files.append({"path": path, "operation": operation, "size": size, "sha256": checksum, "of": of})
