"""The masks of each label or region of one case, from its two label maps."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.images import Geometry, read_geometry, read_label_map
from nnunet_ext.evaluation.masks import MaskPair, bounding_box, joint_box


def foreground(dataset: Mapping) -> dict[str, tuple[int, ...]]:
    """Name -> label values of every foreground label or region of a dataset.json, in its order."""
    values = {
        name: tuple(value) if isinstance(value, list | tuple) else (value,)
        for name, value in dataset["labels"].items()
        if name not in ("background", "ignore")
    }
    return {name: value for name, value in values.items() if value != (0,)}


def known_values(dataset: Mapping) -> frozenset[int]:
    """Every value that label maps of a dataset may hold: background, labels, regions and the ignore label."""
    values = dataset["labels"].values()
    return frozenset(value for label in values for value in (label if isinstance(label, list | tuple) else (label,)))


def region_masks(
    prediction: Path,
    reference: Path,
    regions: Mapping[str, Sequence[int]],
    *,
    ignore: int | None = None,
    known: Collection[int] | None = None,
) -> Iterator[tuple[str, MaskPair]]:
    """Name and masks of each region of one case.

    Voxels of the reference that hold ``ignore`` count on neither side. Masks are cut out around all labels.

    Args:
        prediction: label map.
        reference: label map.
        regions: name -> label values.
        ignore: value of the reference.
        known: values that the label maps may hold; any if not given.

    Raises:
        UserError: unreadable file, a value that is not known, or prediction and reference differ in shape or spacing.
    """
    # By the headers alone: a prediction may declare what no memory holds.
    geometry, of_reference = read_geometry(prediction), read_geometry(reference)
    _check_same_grid(prediction, geometry, of_reference)
    predicted, labels = read_label_map(prediction)[0], read_label_map(reference)[0]
    voxels = labels.size - (0 if ignore is None else int(np.count_nonzero(labels == ignore)))
    # Around all labels there is nothing but background, unless a region holds the background.
    box = joint_box(bounding_box(predicted), bounding_box(labels))
    if box is not None and not any(0 in values for values in regions.values()):
        predicted, labels = predicted[box], labels[box]
    if known is not None:
        _check_values(prediction, predicted, known)
        _check_values(reference, labels, known)
    counted = None if ignore is None else labels != ignore
    for region, values in regions.items():
        pair = _holds(predicted, values), _holds(labels, values)
        first, second = pair if counted is None else tuple(mask & counted for mask in pair)
        yield region, MaskPair(first, second, geometry.spacing, voxels)


def _check_same_grid(prediction: Path, geometry: Geometry, reference: Geometry) -> None:
    if geometry.shape != reference.shape or not np.allclose(geometry.spacing, reference.spacing, rtol=1e-3):
        raise UserError(
            f"prediction {geometry.shape} at {geometry.spacing} mm does not fit its reference {reference.shape} at "
            f"{reference.spacing} mm",
            file=prediction,
            remedy="give label maps on one grid; nnU-Net predicts on the grid of the image",
        )


def axes_differ(prediction: Geometry, reference: Geometry) -> bool:
    """Whether the headers say that the axes of two images of one shape lead in different directions."""
    # 0.02 is about one degree; headers of single precision are off by far less
    return len(prediction.direction) != len(reference.direction) or not np.allclose(
        prediction.direction, reference.direction, atol=0.02
    )


def _check_values(file: Path, labels: np.ndarray, known: Collection[int]) -> None:
    unknown = sorted({int(value) for value in _values(labels)} - set(known))
    if unknown:
        shown = ", ".join(map(str, unknown[:5])) + (", ..." if len(unknown) > 5 else "")
        raise UserError(
            f"dataset.json does not know the label {shown}" if len(unknown) == 1 else f"unknown labels {shown}",
            file=file,
            remedy=f"give the dataset.json that the labels are made after; this one knows {sorted(known)}",
        )


def _values(labels: np.ndarray) -> np.ndarray:
    if labels.dtype.itemsize == 1:  # no sorting: there are few values
        counts = np.bincount(labels.view(np.uint8).ravel(), minlength=256)
        return np.flatnonzero(counts).astype(np.uint8).view(labels.dtype)
    return np.unique(labels)


def _holds(labels: np.ndarray, values: Sequence[int]) -> np.ndarray:
    """Where a label map has one of a few values; values beyond its type are nowhere."""
    low, high = (np.iinfo(labels.dtype).min, np.iinfo(labels.dtype).max)
    mask = np.zeros(labels.shape, dtype=bool)
    for value in values:
        if low <= value <= high:
            mask |= labels == value
    return mask
