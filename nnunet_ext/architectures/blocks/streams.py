"""Image channels dealt out to the encoders of a network with several streams."""

from __future__ import annotations

from collections.abc import Sequence

import torch

Streams = tuple[tuple[int, ...], ...]


def deal_channels(image_channels: int, streams: int = 2) -> Streams:
    """Channel i goes to stream i mod ``streams``: in nnU-Net's BraTS order T1, T1ce, T2, FLAIR and two streams that is
    (T1, T2) and (T1ce, FLAIR)."""
    return tuple(tuple(range(stream, image_channels, streams)) for stream in range(streams))


# spellings of the four sequences of a brain tumor protocol, without punctuation
_SEQUENCES = {
    "T1": ("t1", "t1w", "t1n"),
    "T1ce": ("t1ce", "t1c", "t1gd", "t1gad", "t1post", "t1wce", "t1contrast"),
    "T2": ("t2", "t2w"),
    "FLAIR": ("flair", "t2flair", "t2f", "fl"),
}


def streams_by_name(channel_names: Sequence[str]) -> Streams | None:
    """The published pairs (T1, T2) and (T1ce, FLAIR), in whatever order the four sequences stand; None for others."""
    places: dict[str, int] = {}
    for place, name in enumerate(channel_names):
        plain = "".join(letter for letter in name.lower() if letter.isalnum())
        places.update({sequence: place for sequence, names in _SEQUENCES.items() if plain in names})
    if len(channel_names) != len(_SEQUENCES) or len(places) != len(_SEQUENCES):
        return None
    return (places["T1"], places["T2"]), (places["T1ce"], places["FLAIR"])


def checked_streams(stream_channels: Sequence[Sequence[int]], image_channels: int, streams: int = 2) -> Streams:
    """Lists of channel indices, one a stream, as tuples. They may overlap.

    Raises:
        ValueError: another number of lists, an empty list, an unknown channel or a channel that no stream gets.
    """
    dealt = tuple(tuple(int(channel) for channel in stream) for stream in stream_channels)
    used = {channel for stream in dealt for channel in stream}
    if len(dealt) != streams or not all(dealt) or used != set(range(image_channels)):
        raise ValueError(
            f"stream_channels must be {streams} lists that together name every image channel from 0 to "
            f"{image_channels - 1}; got {[list(stream) for stream in dealt]}"
        )
    return dealt


def take_channels(x: torch.Tensor, channels: Sequence[int]) -> torch.Tensor:
    """(B, C, *spatial) -> (B, len(channels), *spatial), in the order given.

    Slices, because a list of indices would be copied to the GPU at every call, and a buffer would be one more thing to
    move and to load.
    """
    return torch.cat([x[:, channel : channel + 1] for channel in channels], dim=1)
