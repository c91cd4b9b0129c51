"""A picture of predictions: the worst, the median and the best case of a folder, with reference and errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.evaluate import evaluate_case
from nnunet_ext.evaluation.metrics import DICE
from nnunet_ext.evaluation.regions import foreground
from nnunet_ext.progress import with_progress
from nnunet_ext.report.case_view import load_view, worst_median_best
from nnunet_ext.report.grid import PICTURE_ENDINGS, read_shown_image
from nnunet_ext.report.overlay import write_overlay

#: more images side by side are too small to read
MAX_IMAGES = 4
# Empty masks count as nnU-Net counts them: no Dice where neither mask has the region.
POLICY = "nnunet"


def write_folder_overlay(
    predictions: Path,
    references: Path,
    images: Path,
    dataset: Mapping,
    out: Path,
    channels: Sequence[int] | None = None,
) -> list[str]:
    """Draw the worst, the median and the best case by mean Dice into a PNG file.

    Args:
        predictions: folder of label maps as nnU-Net writes them.
        references: folder that has the label map of each; it may hold more.
        images: folder of the images, named as nnU-Net names them (``CASE_0000``); colour pictures are shown as such.
        dataset: content of dataset.json.
        out: file.
        channels: image channels to show; the first ``MAX_IMAGES`` if not given.

    Returns:
        The cases shown, from worst to best.

    Raises:
        UserError: no prediction, a file is missing or does not fit, a channel that the dataset has not.
    """
    ending = dataset["file_ending"]
    names = {int(number): str(name) for number, name in dataset["channel_names"].items()}
    shown = list(names)[:MAX_IMAGES] if channels is None else list(channels)
    unknown = [number for number in shown if number not in names]
    if unknown:
        listed = ", ".join(f"{number} {name}" for number, name in names.items())
        raise UserError(f"the dataset has no channel {unknown[0]}", remedy=f"choose from {listed}")
    table = _scores(predictions, references, dataset)
    if not table[DICE.name].notna().any():
        raise UserError(
            "no case has a foreground, neither in its prediction nor in its reference",
            file=predictions,
            remedy="look at the label maps themselves",
        )
    chosen = worst_median_best(table)
    views = [
        load_view(
            f"{rank}: {case}" if len(chosen) > 1 else case,
            case,
            images=_image_files(images, case, ending, {number: names[number] for number in shown}, channels is None),
            references=references,
            predictions={"prediction": predictions},
            tables={"prediction": table},
            dataset=dataset,
        )
        for rank, case in chosen.items()
    ]
    number = table["case"].nunique()
    title = f"{number} cases: worst, median and best by mean Dice" if number > 2 else ""
    write_overlay(views, dataset, out, title)
    return list(chosen.values())


def _image_files(images: Path, case: str, ending: str, shown: Mapping[int, str], by_default: bool) -> dict[str, Path]:
    """Column title -> file. The colours of one picture are channels too, and one column: it shows them all."""
    picture = images / f"{case}_0000{ending}"
    if len(shown) > 1 or not by_default:
        colours = ending.lower() in PICTURE_ENDINGS and picture.is_file() and read_shown_image(picture)[0].ndim == 3
        if colours and not by_default:
            raise UserError("the channels of a colour picture are shown together", picture, "leave out --channels")
        if colours:
            return {", ".join(shown.values()): picture}
    return {name: images / f"{case}_{number:04d}{ending}" for number, name in shown.items()}


def _scores(predictions: Path, references: Path, dataset: Mapping) -> pd.DataFrame:
    ending = dataset["file_ending"]
    for folder in (predictions, references):
        if not folder.is_dir():
            raise UserError("folder not found", file=folder)
    # The ending is foreign text: no pattern. macOS leaves hidden files beside those that it copies.
    files = [file for file in sorted(predictions.iterdir()) if file.name.endswith(ending) and file.name[0] != "."]
    if not files:
        raise UserError(f"no *{ending} file is there", file=predictions, remedy="give the folder of the predictions")
    rows = []
    for file in with_progress(files, "evaluate", len(files)):
        reference = references / file.name
        if not reference.is_file():
            raise UserError(
                f"{file.name} has no reference", file=references, remedy="give the folder of its label maps"
            )
        scores = evaluate_case(
            file, reference, foreground(dataset), ignore=dataset["labels"].get("ignore"), policies=(POLICY,)
        )
        rows += [{"case": file.name.removesuffix(ending), **row} for row in scores]
    return pd.DataFrame(rows)
