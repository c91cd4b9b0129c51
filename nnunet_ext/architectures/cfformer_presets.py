"""Sizes of the self-configuring CFFormer: what plans do not say of its two encoders."""

from __future__ import annotations

from dataclasses import dataclass

MAX_WIDTH = 1024
XFF_KERNEL = {2: 5, 3: 3}


@dataclass(frozen=True)
class Preset:
    """Sizes beyond the plan's.

    Attributes:
        embed: width of the transformer's first stage; doubled at each, up to 1024.
        deep: blocks of its last stage but one; all others have two.
        blocks: basic blocks of each level of the convolutional encoder, the last entry repeated.
    """

    embed: int
    deep: int
    blocks: tuple[int, ...]


PRESETS: dict[int, dict[str, Preset]] = {
    2: {"small": Preset(64, 6, (1, 1, 2)), "base": Preset(128, 18, (1, 1, 3, 4, 6, 3))},
    3: {
        "small": Preset(32, 2, (1, 1, 2)),
        "base": Preset(64, 6, (1, 1, 2)),
        "large": Preset(96, 18, (1, 1, 3, 4, 6, 3)),
    },
}


def blocks_at(preset: Preset, level: int) -> int:
    """Basic blocks of a level of the convolutional encoder."""
    return preset.blocks[min(level, len(preset.blocks) - 1)]


def depths(stages: int, deep: int) -> list[int]:
    """Blocks of each stage of the transformer."""
    counts = [2] * stages
    if stages > 1:
        counts[-2] = deep
    return counts
