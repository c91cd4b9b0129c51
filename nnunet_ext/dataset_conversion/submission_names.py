"""Predictions and the names of the files that they become, which the record of a conversion tells.

The record may be somebody else's, so that names are looked at before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nnunet_ext.dataset_conversion.formats import pictures
from nnunet_ext.dataset_conversion.record_forms import PICTURE_TYPES, VOLUME_TYPES
from nnunet_ext.errors import UserError
from nnunet_ext.forms import FormError, component


@dataclass(frozen=True)
class Prediction:
    """One prediction: where it is, what the record says of its case, and the names of the files that it becomes."""

    path: Path
    identifier: str
    case: dict[str, Any]
    names: tuple[str, ...]

    @property
    def is_picture(self) -> bool:
        return self.path.name.endswith(".png")

    @property
    def becomes_pictures(self) -> bool:
        return self.is_picture or len(self.names) > 1  # one picture a slice

    @property
    def dtype(self) -> str:
        return self.case["label_dtype"] or "uint8"


def names_of(path: str, identifier: str, case: dict[str, Any], record: dict[str, Any]) -> tuple[str, ...]:
    """File names that a prediction becomes: those of the source label, else the challenge's."""
    names = tuple(label.rsplit("/", 1)[-1] for label in case["source_labels"].get(identifier, ()))
    if names:
        return names[:1] if path.endswith(".png") else names
    if path.endswith(".png"):
        return (f"{identifier}_mask.png",)
    return (record.get("submission_name", "{case}.nii.gz").replace("{case}", case["name"]),)


def check_names(given: Iterable[Prediction], record: Path) -> None:
    """Whether the record leads every prediction to files of its own, directly in the output folder, of a fitting kind.

    Raises:
        UserError: LAY01 for a name or a type that the way back cannot have, NAM04 for two predictions of one name.
    """
    taken: dict[str, str] = {}
    for prediction in given:
        identifier, names, shape = prediction.identifier, prediction.names, prediction.case["shape"]
        where = f"the name of the submission of {identifier}"
        endings = pictures.ENDINGS if prediction.becomes_pictures else (".nii", ".nii.gz")
        types = PICTURE_TYPES if prediction.becomes_pictures else VOLUME_TYPES
        try:
            for name in names:
                component(name, where)
                if name.startswith((".", "-")):
                    raise FormError(f"{where} is {name[:100]!r}, which is hidden or read as an option")
                if not name.lower().endswith(endings):
                    raise FormError(f"{where} is {name[:100]!r}, which does not end in {' or '.join(endings)}")
            if prediction.dtype not in types:
                raise FormError(f"the type of the label of {identifier} is {prediction.dtype}")
            if len(names) > 1 and shape[2:] != [len(names)]:
                raise FormError(f"{identifier} has {len(names)} labels and the shape {shape}")
        except FormError as error:
            raise UserError(
                str(error), file=record, code="LAY01", remedy="convert the dataset again with --restart"
            ) from error
        for name in names:
            # Without regard to case: on some file systems two such files would be one.
            if name.casefold() in taken:
                raise UserError(
                    f"the predictions for {taken[name.casefold()]} and {identifier} would both become {name}",
                    file=record,
                    code="NAM04",
                    remedy="put each into a folder of its own, and give --partial",
                )
            taken[name.casefold()] = identifier
