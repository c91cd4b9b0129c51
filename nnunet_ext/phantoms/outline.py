"""What phantoms of single pictures share: sizes, irregular outlines, encoding."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nnunet_ext.errors import UserError
from nnunet_ext.phantoms.anatomy import MIN_AXIS
from nnunet_ext.phantoms.download import Study
from nnunet_ext.phantoms.fields import smooth_field

#: Factors of height and width by which pictures of one download differ; a study names its own by number.
SIZES = ((1.0, 1.0), (0.9, 1.2), (1.2, 0.9), (1.05, 1.1), (0.95, 1.0))

#: (z, y, x) of phantoms of pictures if no other is asked for; the first means nothing.
SHAPE = (1, 80, 96)


def picture_size(study: Study, shape: tuple[int, int, int]) -> tuple[int, int]:
    """Height and width of a study's picture: those asked for, times the factors that the study names.

    Raises:
        UserError: the shape is too small. Its first number has no meaning for pictures.
    """
    if min(shape[1:]) < MIN_AXIS:
        raise UserError(
            f"shape {'x'.join(map(str, shape))} is too small for a phantom",
            remedy=f"give at least {MIN_AXIS} pixels an axis",
        )
    factors = SIZES[int(study.oddities["size"])]
    return round(shape[1] * factors[0]), round(shape[2] * factors[1])


def axes(shape: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions from -1 to 1 along y and x, shaped to broadcast."""
    y, x = (np.linspace(-1, 1, 2 * n + 1, dtype=np.float32)[1::2] for n in shape)
    return y[:, None], x[None, :]


def outline(
    generator: np.random.Generator,
    shape: tuple[int, int],
    centre: tuple[float, float],
    radii: tuple[float, float],
    roughness: float,
) -> NDArray[np.float32]:
    """Depth below an irregular, roughly elliptical outline: 1 at the centre, 0 on the outline, negative outside.

    Args:
        generator: source of the irregularity.
        shape: (y, x) pixels.
        centre: (y, x) from -1 to 1.
        radii: in the same unit.
        roughness: share of the radius by which the outline moves in and out.
    """
    y, x = axes(shape)
    distance = np.hypot((y - np.float32(centre[0])) / np.float32(radii[0]), (x - np.float32(centre[1])) / radii[1])
    depth: NDArray[np.float32] = 1 - distance * (1 + np.float32(roughness) * smooth_field(generator, shape, 7))
    return depth.astype(np.float32)


def encode(pixels: NDArray[np.generic], kind: str, quality: int = 75) -> bytes:
    """A picture file: ``kind`` is PNG or JPEG."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **({"quality": quality} if kind == "JPEG" else {}))
    return stream.getvalue()
