"""Whether two plans preprocess a dataset to the same data, and whether that data is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_OF_THE_DATASET = ("transpose_forward", "image_reader_writer", "foreground_intensity_properties_per_channel")
_OF_THE_CONFIGURATION = (
    "preprocessor_name",
    "spacing",
    "normalization_schemes",
    "use_mask_for_norm",
    "resampling_fn_data",
    "resampling_fn_seg",
    "resampling_fn_data_kwargs",
    "resampling_fn_seg_kwargs",
)


def shares_data(ours: Mapping[str, Any], others: Mapping[str, Any], configuration: str) -> bool:
    """Whether everything that decides the preprocessed voxels of a configuration is equal in two plans. Patch and batch
    sizes are not among that: patches are cut when data is loaded."""
    mine, theirs = ours["configurations"].get(configuration), others["configurations"].get(configuration)
    return (
        mine is not None
        and theirs is not None
        and all(ours.get(key) == others.get(key) for key in _OF_THE_DATASET)
        and all(mine.get(key) == theirs.get(key) for key in _OF_THE_CONFIGURATION)
    )


def data_digest(plans: Mapping[str, Any], configuration: str) -> str:
    """A few characters that differ where ``shares_data`` says that data differs."""
    content = plans["configurations"][configuration]
    decides = [plans.get(key) for key in _OF_THE_DATASET] + [content.get(key) for key in _OF_THE_CONFIGURATION]
    return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:8]


def missing_cases(folder: Path, cases: Iterable[str]) -> list[str]:
    """The training cases of which ``folder`` does not hold image, segmentation and properties."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    return [
        case
        for case in cases
        if not (f"{case}.pkl" in names and ({f"{case}.b2nd", f"{case}_seg.b2nd"} <= names or f"{case}.npz" in names))
    ]
