"""What is compared with what: pairs of files in two folders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from nnunet_ext.errors import UserError
from nnunet_ext.evaluation.images import is_picture, spacing_file
from nnunet_ext.evaluation.label_folders import case_files, default_dataset_json, load_dataset_json


class CaseFiles(NamedTuple):
    """One case. ``fold`` is the fold that predicted it, or nothing."""

    case: str
    prediction: Path
    reference: Path
    fold: str = ""


@dataclass(frozen=True)
class Source:
    """What an evaluation compares.

    Attributes:
        name: for people and for the name of a folder, such as ``predictions``.
        predictions: folder of the predictions; of a model, the model's.
        references: folder of the references.
        dataset: content of dataset.json.
        cases: those with both files, each once, in the order of their names.
        missing: case -> which file it lacks.
        notes: lines on what is not there and need not be.
        folds: that are joined, if any.
    """

    name: str
    predictions: Path
    references: Path
    dataset: Mapping[str, Any]
    cases: tuple[CaseFiles, ...]
    missing: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    folds: tuple[str, ...] = ()

    @property
    def pixels(self) -> bool:
        """Whether the files know no mm."""
        first = self.cases[0].reference if self.cases else Path()
        return is_picture(first) and not spacing_file(first).is_file()


def folder_source(
    predictions: Path, references: Path, dataset_json: Path | None = None, partial: bool = False
) -> Source:
    """Every prediction of a folder against its reference of the same name.

    Args:
        predictions: folder of label maps as ``nnUNetv2_predict`` writes them.
        references: folder of label maps.
        dataset_json: ``default_dataset_json`` if not given.
        partial: references without a prediction are none of the matter; otherwise they are missing cases.

    Raises:
        UserError: a folder is not there, holds no label map, or both are the same; dataset.json is not there.
    """
    for folder in (predictions, references):
        if not folder.is_dir():
            raise UserError("folder not found", file=folder)
    if predictions.samefile(references):
        raise UserError(
            "predictions and references are the same folder", file=predictions, remedy="give -r the label maps"
        )
    dataset = load_dataset_json(dataset_json or default_dataset_json(predictions, references))
    ending = dataset["file_ending"]
    predicted, known = case_files(predictions, ending), case_files(references, ending)
    for folder, found in ((predictions, predicted), (references, known)):
        if not found:
            raise UserError(f"no *{ending} file is there", file=folder, remedy="give the folder of the label maps")
    expected = {} if partial else known
    return Source(predictions.resolve().name, predictions, references, dataset, *paired(predicted, known, expected))


def paired(
    predicted: Mapping[str, Path], known: Mapping[str, Path], expected: Iterable[str]
) -> tuple[tuple[CaseFiles, ...], dict[str, str]]:
    """The cases of two folders that have both files, and what each of the others lacks.

    Args:
        predicted: case -> label map.
        known: case -> reference.
        expected: cases that must have a prediction.
    """
    cases = tuple(CaseFiles(case, predicted[case], known[case]) for case in sorted(predicted.keys() & known.keys()))
    missing = dict.fromkeys(predicted.keys() - known.keys(), "no reference of that name")
    missing |= dict.fromkeys(set(expected) - predicted.keys(), "no prediction")
    return cases, dict(sorted(missing.items()))
