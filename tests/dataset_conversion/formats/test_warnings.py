"""What PIL thinks of a picture's metadata never stands among our lines: it names neither file nor remedy."""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
import pytest
from PIL import Image

from nnunet_ext.dataset_conversion.formats import pictures


def tiff(field: int, value: int) -> bytes:
    """A TIFF whose entry of the horizontal resolution (tag 282) has another number at a place of the entry."""
    stream = io.BytesIO()
    Image.fromarray(np.full((20, 30), 255, np.uint8)).save(stream, "TIFF", dpi=(72, 72))
    data = bytearray(stream.getvalue())
    first = struct.unpack_from("<I", data, 4)[0]
    (entry,) = [
        at
        for at in range(first + 2, first + 2 + 12 * struct.unpack_from("<H", data, first)[0], 12)
        if struct.unpack_from("<H", data, at)[0] == 282
    ]
    struct.pack_into("<I", data, entry + field, value)
    return bytes(data)


@pytest.mark.parametrize(("field", "value"), [(4, 8), (8, 32773)], ids=["too many entries", "leads outside the file"])
def test_odd_metadata_of_a_picture_are_no_warning_of_a_library(field: int, value: int) -> None:
    data = tiff(field, value)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning):  # PIL has something to say
            Image.open(io.BytesIO(data)).load()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pixels, findings = pictures.mask(data, "case", "mask.tif")
        assert pixels.min() == 255
        assert findings == []
        assert pictures.size_of(data, "mask.tif") == (30, 20)
        assert pictures.stored_type(data) == "uint8"
