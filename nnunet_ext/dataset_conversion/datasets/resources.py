"""Tables that come with the descriptions, in the folder ``data``."""

from __future__ import annotations

import csv
from importlib.resources import files


def read_text(name: str) -> str:
    """A text file of the folder."""
    return files("nnunet_ext.dataset_conversion.datasets").joinpath(f"data/{name}").read_text(encoding="utf-8")


def read_rows(name: str) -> list[dict[str, str]]:
    """Rows of a csv of the folder, by the names of its header."""
    return list(csv.DictReader(read_text(name).splitlines()))
