"""Pictures: TIFF, PNG, JPEG and BMP as arrays, and PNG out again.

What here depends on the version of a library, each pinned by a golden file (tests/golden/pictures/pictures.json):

- Decoding. TIFF, PNG and BMP are lossless: every decoder gives the same pixels. Of a JPEG, the decoder decides the last
  bits: here it is libjpeg-turbo, as in Pillow's wheels, with the accurate integer DCT and smooth upsampling of colour.
- Grey from colour, resizing and difference hashes: Pillow's integer arithmetic (``difference_hash``, ``resize``).
- Compression: PNG files and gzip files of one content differ in their bytes between versions of zlib. Checksums of what
  is written are therefore taken over pixels and voxels, never over compressed bytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from nnunet_ext.dataset_conversion.checks import Finding
from nnunet_ext.errors import UserError

_FORMATS = {"tif": "TIFF", "tiff": "TIFF", "png": "PNG", "jpg": "JPEG", "jpeg": "JPEG", "bmp": "BMP"}
#: of the names of pictures that can be written
ENDINGS = tuple(f".{ending}" for ending in _FORMATS)
# Those that are recognised where another was expected. The others are not tried: for some, PIL starts other programs.
_KNOWN = (*dict.fromkeys(_FORMATS.values()), "GIF", "WEBP", "PPM")
_EXIF_ORIENTATION = 274
# 5 % larger than zlib's default of 6, in less than half the time (MR slices).
_PNG_LEVEL = 4
# of grey values whose neighbours a difference hash compares
_HASH_COLUMNS, _HASH_ROWS = 8, 8
# A mask that is equally bright everywhere, within the noise of its compression, but whose colours differ by more than
# half of their range: red on white, for example.
_EQUALLY_BRIGHT, _OTHER_COLOUR = 16, 127


def colour(data: bytes, case: str, file: str) -> tuple[np.ndarray, list[Finding]]:
    """A colour picture.

    Returns:
        uint8 of shape (Y, X, 3), and findings IMG03 and IMG04.

    Raises:
        UserError: IO01 if it cannot be decoded, DT01 for pixels of more than 8 bits.
    """
    picture, findings = _open(data, case, file)
    if picture.mode != "RGB":
        if picture.mode not in ("1", "L", "LA", "P", "PA", "RGBA"):
            raise UserError(
                f"{file} has pixels of mode {picture.mode}", code="DT01", remedy="8-bit pictures are needed"
            )
        findings.append(Finding("IMG03", f"{case}: {picture.mode} expanded to RGB", case, file))
    return np.asarray(picture.convert("RGB")), findings


def mask(data: bytes, case: str, file: str) -> tuple[np.ndarray, list[Finding]]:
    """A mask: the brightest of its colours, alpha ignored.

    Returns:
        uint8 of shape (Y, X) and findings IMG03, IMG04, LAB03 (equally bright everywhere: its shape is elsewhere).

    Raises:
        UserError: IO01, DT01.
    """
    picture, findings = _open(data, case, file)
    if picture.mode in ("1", "L"):
        return np.asarray(picture.convert("L")), findings
    if picture.mode not in ("LA", "P", "PA", "RGB", "RGBA"):
        raise UserError(f"{file} has pixels of mode {picture.mode}", code="DT01", remedy="8-bit masks are needed")
    values = np.asarray(picture.convert("RGBA"))
    if picture.mode in ("LA", "PA", "RGBA"):
        findings.append(Finding("IMG03", f"{case}: alpha of the mask dropped", case, file))
    brightest: np.ndarray = values[..., :3].max(axis=-1)
    where = _shape_elsewhere(picture, values, brightest)
    if where:
        findings.append(
            Finding(
                "LAB03",
                f"{case}: mask information only in {where}; its brightness is the same everywhere",
                case,
                file,
                "save the mask as grey, 0 for background and 255 for what is marked",
            )
        )
    return brightest, findings


def _shape_elsewhere(picture: Image.Image, values: np.ndarray, brightest: np.ndarray) -> str:
    """Where the shape of a mask is that does not show in its brightness; empty where it does, or there is none."""
    spread = int(brightest.max()) - int(brightest.min())
    if spread > _EQUALLY_BRIGHT:
        return ""
    if any(int(values[..., part].max()) - int(values[..., part].min()) > _OTHER_COLOUR for part in range(3)):
        return "its colours"
    if spread:
        return ""
    if values[..., 3].min() != values[..., 3].max():
        return "alpha"
    if picture.mode in ("P", "PA"):
        numbers = np.asarray(picture.getchannel(0))
        if numbers.min() != numbers.max():
            return "the numbers of its palette, which has one colour for all of them"
    return ""


def size_of(data: bytes, file: str) -> tuple[int, int]:
    """Size (x, y) that a picture's header declares; no pixel is decoded.

    Raises:
        UserError: IO01.
    """
    with _decoding(file):
        width, height = _identify(data, file).size
        return width, height


def _open(data: bytes, case: str, file: str) -> tuple[Image.Image, list[Finding]]:
    with _decoding(file):
        picture = _identify(data, file)
        picture.load()
        if getattr(picture, "n_frames", 1) > 1:
            raise UserError(f"{file} holds several pictures", remedy="give one picture a file", code="IO01")
        orientation = picture.getexif().get(_EXIF_ORIENTATION, 1)
    if orientation != 1:
        return picture, [Finding("IMG04", f"{case}: EXIF orientation {orientation} is ignored", case, file)]
    return picture, []


def _identify(data: bytes, file: str) -> Image.Image:
    picture = Image.open(io.BytesIO(data), formats=_KNOWN)
    ending = file.rsplit(".", 1)[-1].lower()
    if picture.format != _FORMATS.get(ending):
        raise UserError(
            f"{file} is {picture.format} data in a .{ending} name", remedy="fetch the original file", code="IO01"
        )
    return picture


@contextmanager
def _decoding(file: str) -> Iterator[None]:
    try:
        with _quiet():
            yield
    except (MemoryError, UserError):
        raise
    except Exception as error:  # of a damaged file, PIL's plugins raise whatever their parser came upon
        reason = "unknown format" if isinstance(error, UnidentifiedImageError) else (str(error) or repr(error))
        raise UserError(
            f"{file} cannot be decoded: {reason.splitlines()[-1]}", remedy="fetch the file again", code="IO01"
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """PIL warns of odd metadata, in lines that name no file, and of sizes. Metadata do not count here; sizes are
    bounded by ``sizes``, and where the user lifts the bound, by PIL's own error at twice its warning.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def stored_type(data: bytes) -> str:
    """``"bool"`` for a picture of 1 bit a pixel, else ``"uint8"``; of a picture that can be decoded."""
    with _quiet():
        return "bool" if Image.open(io.BytesIO(data), formats=_KNOWN).mode == "1" else "uint8"


def resize(pixels: np.ndarray, size: tuple[int, int], how: str) -> np.ndarray:
    """Pixels in another size.

    Args:
        pixels: uint8 or bool, (Y, X) or (Y, X, 3).
        size: (x, y).
        how: ``"area"``, the mean of the pixels under each new one, or ``"nearest"``, the pixel under its centre.

    Returns:
        The same type. Where a picture grows, pixels are repeated either way. Means are those of Pillow: integer
        arithmetic with weights of 22 bits, first along x, then along y, rounded to 8 bits after each.
    """
    filters = {"area": Image.Resampling.BOX, "nearest": Image.Resampling.NEAREST}
    return np.asarray(Image.fromarray(pixels).resize(size, filters[how]))


def png(pixels: np.ndarray) -> bytes:
    """A PNG file of uint8 pixels, (Y, X) or (Y, X, 3)."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=_PNG_LEVEL)
    return stream.getvalue()


def encode(pixels: np.ndarray, ending: str) -> bytes:
    """A picture file of uint8 or bool pixels by the ending of its name; JPEG with as little loss as it allows."""
    stream = io.BytesIO()
    kind = _FORMATS[ending.lstrip(".").lower()]
    Image.fromarray(pixels).save(stream, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return stream.getvalue()


def raw_pixels(data: bytes, file: str) -> bytes:
    """The pixels of a picture as they are stored, row by row.

    Raises:
        UserError: IO01.
    """
    return np.asarray(_open(data, file, file)[0]).tobytes()


def difference_hash(pixels: np.ndarray) -> str:
    """Whether each of 9x8 grey values is darker than its right neighbour: 64 bits that survive rescaling and noise.

    Which pictures count as repeats of one another, and so the folds, hang on these bits. The rule is Pillow's: grey is
    (19595 R + 38470 G + 7471 B + 32768) // 65536; it is reduced with a Lanczos window of three lobes, scaled to the
    reduction, in integer arithmetic as in ``resize``. A golden file holds hashes, so that another rule is noticed.

    Args:
        pixels: uint8 of shape (Y, X, 3).

    Returns:
        16 hexadecimal digits.
    """
    small = Image.fromarray(pixels).convert("L").resize((_HASH_COLUMNS + 1, _HASH_ROWS), Image.Resampling.LANCZOS)
    grey = np.asarray(small)
    return np.packbits(grey[:, 1:] > grey[:, :-1]).tobytes().hex()
