"""The shape of a mask is read where it is, or the mask is refused by name; never is it foreground without a word."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.formats import pictures

SHAPE = np.zeros((20, 30), bool)
SHAPE[4:12, 5:20] = True


def png(pixels: np.ndarray | Image.Image, **how: object) -> bytes:
    stream = io.BytesIO()
    picture = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    picture.save(stream, "PNG", **how)
    return stream.getvalue()


def with_alpha(colour: int, alpha: np.ndarray, channels: int = 3) -> np.ndarray:
    return np.dstack([*[np.full(alpha.shape, colour, np.uint8)] * channels, alpha.astype(np.uint8)])


def two_colours(first: tuple[int, int, int], second: tuple[int, int, int]) -> np.ndarray:
    return np.where(SHAPE[..., None], np.array(first), np.array(second)).astype(np.uint8)


def palette(colours: list[int], **how: object) -> bytes:
    picture = Image.fromarray(SHAPE.astype(np.uint8), "L").convert("P")
    picture.putdata(SHAPE.astype(np.uint8).reshape(-1).tolist())
    picture.putpalette(colours)
    return png(picture, **how)


HIDDEN = {
    "white, shape in alpha": (png(with_alpha(255, 255 * SHAPE)), "only in alpha"),
    "grey, shape in alpha": (png(with_alpha(128, 255 * SHAPE)), "only in alpha"),
    "black, shape in alpha": (png(with_alpha(0, 255 * SHAPE)), "only in alpha"),
    "faint alpha": (png(with_alpha(255, 254 + SHAPE)), "only in alpha"),
    "white grey picture with alpha": (png(with_alpha(255, 255 * SHAPE, 1)), "only in alpha"),
    "transparent colour of a palette": (palette([255] * 6, transparency=b"\0\xff"), "only in alpha"),
    "red on white": (png(two_colours((255, 0, 0), (255, 255, 255))), "only in its colours"),
    "red on green": (png(two_colours((255, 0, 0), (0, 250, 0))), "only in its colours"),
    "a palette of one colour": (palette([255] * 6), "only in the numbers of its palette"),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", HIDDEN)
def test_a_mask_whose_shape_is_not_in_its_brightness_is_refused_by_name(what: str) -> None:
    data, text = HIDDEN[what]
    _, findings = pictures.mask(data, "case", "case_mask.png")
    (finding,) = [finding for finding in findings if finding.code == "LAB03"]
    assert finding.severity == "error"
    assert text in finding.message


SEEN = {
    "grey": png(255 * SHAPE.astype(np.uint8)),
    "one bit": png(SHAPE),
    "white on black with alpha everywhere": png(
        np.dstack([*[255 * SHAPE.astype(np.uint8)] * 3, (SHAPE + 254).astype(np.uint8)])
    ),
    "red on black": png(two_colours((255, 0, 0), (0, 0, 0))),
    "a palette": palette([0, 0, 0, 128, 0, 0]),
    "white on transparent black": png(np.dstack([*[255 * SHAPE.astype(np.uint8)] * 4])),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", SEEN)
def test_a_mask_whose_shape_shows_is_read(what: str) -> None:
    mask, findings = pictures.mask(SEEN[what], "case", "case_mask.png")
    np.testing.assert_array_equal(mask > 127, SHAPE)
    assert not [finding for finding in findings if finding.severity != "info"]


@pytest.mark.parametrize("colour", [0, 255])
def test_a_constant_mask_without_alpha_hides_nothing(colour: int) -> None:
    data = png(np.full((20, 30, 3), colour, np.uint8))
    assert pictures.mask(data, "case", "case_mask.png")[1] == []
