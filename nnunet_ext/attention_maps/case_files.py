"""The image files of one case, found from what a user names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from nnunet_ext.errors import UserError
from nnunet_ext.files import is_case_name
from nnunet_ext.folders import require_readable
from nnunet_ext.report.grid import read_shown_shape
from nnunet_ext.shown import abridged, joined

_CHANNEL = re.compile(r"_(\d{4})")
_SHOWN = 3


@dataclass(frozen=True)
class CaseFiles:
    """One case.

    Attributes:
        name: without channel and ending.
        files: one a channel, in the order of the channels; their images have the same shape.
    """

    name: str
    files: list[Path]


def find_case(given: Path, ending: str) -> CaseFiles:
    """The files ``CASE_0000``, ``CASE_0001``, ... of a case.

    Args:
        given: the path of one of its files; that path without channel and ending (``imagesTs/case7``); or a folder with
            the images of this case alone.
        ending: of the image files, such as ``".nii.gz"``.

    Raises:
        UserError: there is no such case, a channel between others is missing, or its images differ in shape.
    """
    folder, name = _case_of(given, ending)
    if not is_case_name(name):
        raise UserError("the name is none that a case can have", file=given)
    numbers = _cases(folder, ending).get(name)
    if not numbers:
        there = ", ".join(sorted(_cases(folder, ending))[:_SHOWN])
        raise UserError(
            f"there is no case '{abridged(name)}' with files such as {abridged(name)}_0000{ending}",
            file=folder,
            remedy=f"name one that is there, such as {there}" if there else "name a case by its folder and its name",
        )
    missing = [number for number in range(max(numbers)) if number not in numbers]
    if missing:
        raise UserError(f"the case {name} has no file for channel {missing[0]}", file=folder)
    files = [folder / f"{name}_{number:04d}{ending}" for number in sorted(numbers)]
    shapes = [read_shown_shape(file) for file in files]
    if len(shapes[0]) not in (2, 3):
        raise UserError("an image of two or three dimensions is expected, one file a channel", file=files[0])
    for file, shape in zip(files, shapes, strict=True):
        if shape != shapes[0]:
            raise UserError(f"its shape {shape} is not that of channel 0, {shapes[0]}", file=file)
    return CaseFiles(name, files)


def _case_of(given: Path, ending: str) -> tuple[Path, str]:
    if given.is_dir():
        cases = sorted(_cases(given, ending))
        if len(cases) != 1:
            listed = joined([*cases[:_SHOWN], "others"] if len(cases) > _SHOWN else cases)
            raise UserError(
                f"the folder holds {listed}, and one case is shown at a time"
                if cases
                else f"no *_0000{ending} is there",
                file=given,
                remedy="name one case, such as FOLDER/CASE",
            )
        return given, cases[0]
    name = given.name
    if name.endswith(ending):
        case, channel = name[: -len(ending)][:-5], name[: -len(ending)][-5:]
        if not _CHANNEL.fullmatch(channel):
            raise UserError(f"the name of an image ends in its channel, such as _0000{ending}", file=given)
        return given.parent, case
    return given.parent, name


def _cases(folder: Path, ending: str) -> dict[str, set[int]]:
    """Case -> the channels that a folder has of it. Hidden files, which macOS leaves beside copies, are none."""
    require_readable(folder)
    found: dict[str, set[int]] = {}
    if not folder.is_dir():
        raise UserError("there is no such folder", file=folder)
    for file in folder.iterdir():
        stem = file.name[: -len(ending)]
        channel = _CHANNEL.fullmatch(stem[-5:])
        if file.name.endswith(ending) and channel and stem[:-5] and not file.name.startswith("."):
            found.setdefault(stem[:-5], set()).add(int(channel[1]))
    return found
