"""Writes pictures.json: what decoding, reducing and hashing of pictures gave with Pillow 13.0 (libjpeg-turbo), and the
header of a new volume. Run again only where a rule of ours changes: finished datasets and their folds hang on it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path

import numpy as np
from PIL import Image

from nnunet_ext.dataset_conversion.formats import nifti, pictures


def scene(number: int, height: int = 90, width: int = 120) -> np.ndarray:
    """A smooth picture by whole-number arithmetic alone, the same with every version of every library."""
    y, x = np.mgrid[:height, :width].astype(np.int64)
    parts = [((x * (number + 3 + part) + y * (2 * part + 5)) ** 2 // 997 + x * y // (7 + number)) for part in range(3)]
    return (np.abs(np.stack(parts, -1) % 510 - 255)).astype(np.uint8)


def jpeg(number: int, grey: bool) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(scene(number, 24, 32)).convert("L" if grey else "RGB").save(stream, "JPEG", quality=60)
    return stream.getvalue()


def digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(f"{pixels.dtype.name} {pixels.shape}".encode() + pixels.tobytes()).hexdigest()[:32]


def measured(jpegs: dict[str, str]) -> dict[str, object]:
    """What the golden file holds, of JPEG files given as base64."""
    decoded = {name: pictures.colour(base64.b64decode(text), name, f"{name}.jpg")[0] for name, text in jpegs.items()}
    numbers = range(6)
    return {
        "difference_hash": [pictures.difference_hash(scene(number)) for number in numbers],
        "resize_area": [digest(pictures.resize(scene(number), (50, 37), "area")) for number in numbers],
        "resize_nearest": [digest(pictures.resize(scene(number)[..., 0], (50, 37), "nearest")) for number in numbers],
        "jpeg_decoded": {name: digest(pixels) for name, pixels in decoded.items()},
        "new_header": hashlib.sha256(nifti.new_header((8, 9, 10), (1.0, 1.0, 2.5), "|u1")).hexdigest()[:32],
        "json_floats": json.dumps([0.1, 1e-7, 1 / 3, 1e22, float(np.float32(0.1)), 5e-324]),
    }


if __name__ == "__main__":
    jpegs = {
        f"{kind}{number}": base64.b64encode(jpeg(number, kind == "grey")).decode()
        for kind in ("colour", "grey")
        for number in (1, 2)
    }
    content = {"jpegs": jpegs, **measured(jpegs)}
    Path(__file__).with_name("pictures.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
