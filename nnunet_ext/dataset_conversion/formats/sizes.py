"""How large a volume or picture may be: known from headers, and asked before anything is decoded.

A few bytes can declare, and honestly hold, what no memory holds. Everything of a published dataset fits below these
bounds with room, and a case of this size is converted in less than 1.5 GB. ``--allow`` lifts them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnunet_ext.dataset_conversion.checks import Finding

#: Voxels of a volume, as a multiple of the published number.
VOLUME_FACTOR = 4
#: Voxels and bytes of a volume whose dataset publishes no shape: 512 x 512 x 512 of 16 bits.
MAX_VOLUME_VOXELS, MAX_VOLUME_BYTES = 1 << 27, 1 << 28
#: Pixels of a picture: 5792 x 5792. Those of the datasets here have 2 million at most.
MAX_PICTURE_PIXELS = 1 << 25
#: Pixels of all slices of a case together: 256 of 512 x 512.
MAX_SERIES_PIXELS = 1 << 26
#: Bytes of a picture's file: twice what 5792 x 5792 pixels take without compression.
MAX_PICTURE_BYTES = 1 << 28


def max_volume_voxels(published: Sequence[int] | None) -> int:
    """Voxels that a volume may have, by the published shape of its dataset."""
    return MAX_VOLUME_VOXELS if published is None else VOLUME_FACTOR * math.prod(published)


def volume_too_large(
    shape: Sequence[int], content_size: int, published: Sequence[int] | None, case: str, file: str
) -> list[Finding]:
    """SIZ01 for a volume that is larger than its dataset makes likely.

    Args:
        shape: (x, y, z).
        content_size: bytes of the uncompressed file.
        published: shape of the volumes of the dataset; None if they differ.
        case, file: for messages.
    """
    most = max_volume_voxels(published)
    if math.prod(shape) <= most and (published is not None or content_size <= MAX_VOLUME_BYTES):
        return []
    size = f"{case}: {'x'.join(map(str, shape))} voxels ({content_size / 1e6:,.0f} MB)"
    limit = f"{most:,} voxels" + ("" if published is not None else f" and {MAX_VOLUME_BYTES / 1e6:,.0f} MB")
    text = f"{size} are more than the {limit} that a volume of this dataset may have"
    return [Finding("SIZ01", text, case, file, "fetch it again, or --allow SIZ01 if it is what you want to convert")]


def picture_too_large(size: tuple[int, int], count: int, case: str, file: str) -> list[Finding]:
    """SIZ02 for a picture of ``size`` (x, y) that is one of ``count`` of its case."""
    most = min(MAX_PICTURE_PIXELS, MAX_SERIES_PIXELS // max(count, 1))
    if math.prod(size) <= most:
        return []
    which = f"each of the {count} pictures of this case" if count > 1 else "a picture"
    text = f"{case}: {size[0]}x{size[1]} pixels are more than the {most:,} that {which} may have"
    return [Finding("SIZ02", text, case, file, "fetch it again, or --allow SIZ02 if it is what you want to convert")]


def picture_file_too_large(size: int, case: str, file: str) -> list[Finding]:
    """SIZ03 for a picture's file of ``size`` bytes."""
    if size <= MAX_PICTURE_BYTES:
        return []
    text = f"{case}: a file of {size / 1e6:,.0f} MB, where a picture takes {MAX_PICTURE_BYTES / 1e6:,.0f} MB at most"
    return [Finding("SIZ03", text, case, file, "fetch it again, or --allow SIZ03 if it is what you want to convert")]
