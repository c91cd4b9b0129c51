"""Masks that several tests compare, and label maps on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk


def make_boxes(shape, *corners_and_sizes):
    """A mask that holds boxes, each a corner and a size along every axis."""
    mask = np.zeros(shape, dtype=bool)
    for corner, size in corners_and_sizes:
        mask[tuple(slice(c, c + s) for c, s in zip(corner, size, strict=True))] = True
    return mask


def make_random_pairs(number: int = 30) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]:
    """Prediction, reference and spacing: balls and boxes with ragged surfaces, every third pair of two dimensions, some
    at the edge of the image. Neither mask is empty."""
    for seed in range(number):
        rng = np.random.default_rng(seed)
        dimensions = 2 if seed % 3 == 2 else 3
        shape = tuple(int(length) for length in rng.integers(9, 22, dimensions))
        spacing = tuple(
            float(size) for size in (rng.integers(1, 9, dimensions) / 4 if seed % 2 else np.ones(dimensions))
        )
        where = np.indices(shape)
        masks = []
        for _ in range(2):
            mask = np.zeros(shape, dtype=bool)
            for _ in range(int(rng.integers(1, 4))):
                centre = rng.integers(0, shape).reshape(-1, *[1] * dimensions)
                far = np.abs(where - centre)
                radius = float(rng.integers(2, 7))
                mask |= (far.max(axis=0) <= radius - 1) if rng.random() < 0.5 else (far**2).sum(axis=0) <= radius**2
            masks.append(mask ^ (rng.random(shape) < 0.02 * (seed % 4)))
        yield masks[0], masks[1], spacing


@pytest.fixture
def boxes() -> Callable[..., np.ndarray]:
    return make_boxes


@pytest.fixture
def random_pairs() -> Callable[..., Iterator[tuple[np.ndarray, np.ndarray, tuple[float, ...]]]]:
    return make_random_pairs


@pytest.fixture
def write_labels() -> Callable[..., Path]:
    """Write a label map, array order (z, y, x), and return its path."""

    def write(path: Path, labels: np.ndarray, spacing: tuple[float, ...] = ()) -> Path:
        image = sitk.GetImageFromArray(np.asarray(labels))
        image.SetSpacing(tuple(reversed(spacing)) if spacing else (1.0,) * np.ndim(labels))
        path.parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(path))
        return path

    return write
