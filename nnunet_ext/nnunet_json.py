"""nnU-Net's own small JSON files: dataset.json, splits_final.json, dataset_fingerprint.json, read and checked.

nnU-Net joins the names in them to folders and searches classes by them, so that a file of somebody else must be looked
at before nnU-Net reads it. Plans have a module of their own (``planning.plans_file``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_ext import forms
from nnunet_ext.forms import FormError, read_document

_LABEL = forms.either(forms.list_of(forms.count, nonempty=True), forms.count)
_DATASET = forms.record(
    {"labels": forms.mapping(forms.text, _LABEL, nonempty=True)},
    {
        "channel_names": forms.mapping(forms.text, forms.text),
        "modality": forms.mapping(forms.text, forms.text),
        "regions_class_order": forms.optional(forms.list_of(forms.count)),
        "numTraining": forms.count,
        "file_ending": forms.file_ending,
        "overwrite_image_reader_writer": forms.optional(forms.identifier),
        # nnU-Net's other way to name files: identifier -> paths. Preprocessing writes files of the identifiers' names.
        "dataset": forms.mapping(
            forms.component, forms.record({"images": forms.list_of(forms.text), "label": forms.text})
        ),
    },
)


def _dataset(value: Any, where: str) -> None:
    """A dataset.json, with what nnU-Net's label manager asserts of its labels."""
    _DATASET(value, where)
    labels = value["labels"]
    if "background" not in labels:
        raise FormError("labels has no background")
    if labels["background"] != 0:
        raise forms.fail(labels["background"], "labels.background", "0")
    foreground = [name for name in labels if name not in ("background", "ignore")]
    order = value.get("regions_class_order")
    if any(isinstance(labels[name], list) and len(labels[name]) > 1 for name in foreground) and (
        order is None or len(order) != len(foreground)
    ):
        raise FormError(f"regions_class_order does not name one value for each of the {len(foreground)} regions")


_SPLITS = forms.list_of(
    forms.record({"train": forms.list_of(forms.component), "val": forms.list_of(forms.component)}), nonempty=True
)
_FINGERPRINT = forms.record(
    {
        "spacings": forms.list_of(forms.list_of(forms.positive, length=3), nonempty=True),
        "shapes_after_crop": forms.list_of(forms.list_of(forms.positive, length=3), nonempty=True),
        "foreground_intensity_properties_per_channel": forms.mapping(forms.text, forms.mapping(forms.text, forms.real)),
        "median_relative_size_after_cropping": forms.positive,
    },
)


def read_dataset_json(file: Path) -> dict[str, Any]:
    """A dataset.json.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is something else.
    """
    return read_document(file, _dataset, "a dataset.json of nnU-Net", "convert the dataset again")


def read_splits(file: Path) -> list[dict[str, list[str]]]:
    """A splits_final.json: folds with the names of their cases. Raises as ``read_dataset_json``."""
    return read_document(
        file, _SPLITS, "a list of folds", 'give a JSON list of {"train": [CASE, ...], "val": [CASE, ...]}'
    )


def read_fingerprint(file: Path) -> dict[str, Any]:
    """A dataset_fingerprint.json. Raises as ``read_dataset_json``."""
    return read_document(
        file, _FINGERPRINT, "a fingerprint of nnU-Net", "remove it; 'nnUNetv2_extract_fingerprint' makes it anew"
    )
