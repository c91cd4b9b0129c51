"""Axes along which images are not mirrored, since their two sides have labels of their own: ``no_mirror_axes``."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from nnunet_ext import forms
from nnunet_ext.nnunet_json import different_axes

#: key of dataset.json, which nnU-Net passes over
KEY = "no_mirror_axes"
_FORM = forms.record({KEY: different_axes})


def unmirrored_axes(
    dataset_json: Mapping[str, Any], transpose_forward: Sequence[int], patch_axes: int, file: Path
) -> tuple[int, ...]:
    """Axes of a patch along which it must not be mirrored.

    Args:
        dataset_json: names axes of the arrays as nnU-Net reads them, before plans transpose them.
        transpose_forward: of the plans: axis ``i`` of a preprocessed array is axis ``transpose_forward[i]`` of the
            array as it was read.
        patch_axes: 3, or 2 where a patch is a slice: it then has the last two axes of a preprocessed array.
        file: the dataset.json, for messages.

    Raises:
        UserError: what it names is no list of different axes.
    """
    named = dataset_json.get(KEY, [])
    remedy = f'give different axes of the image as nnU-Net reads it, such as "{KEY}": [2], or remove the key'
    forms.check_form({KEY: named}, _FORM, "a dataset.json of this plugin", file, remedy)
    in_patch = list(transpose_forward)[len(transpose_forward) - patch_axes :]
    return tuple(number for number, axis in enumerate(in_patch) if axis in named)


def without(mirror_axes: Sequence[int] | None, unmirrored: Collection[int]) -> tuple[int, ...] | None:
    """The axes that are left. None where none is: nnU-Net's prediction takes no empty tuple for that."""
    return tuple(axis for axis in mirror_axes or () if axis not in unmirrored) or None
