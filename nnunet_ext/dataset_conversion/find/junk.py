"""Names that are of no data, in folders and in archives alike."""

from __future__ import annotations

_JUNK = ("__macosx", ".ds_store", "thumbs.db", "desktop.ini")
_UNFINISHED = (".crdownload", ".part", ".download")


def is_junk(path: str) -> bool:
    """Hidden files, leftovers of operating systems, unfinished downloads, and all in folders of such names."""
    return any(
        part.startswith(".") or part.lower() in _JUNK or part.lower().endswith(_UNFINISHED)
        for part in path.replace("!/", "/").split("/")
    )
