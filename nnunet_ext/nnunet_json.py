"""nnU-Net's own small JSON files: dataset.json, splits_final.json, dataset_fingerprint.json, read and checked.

nnU-Net joins the names in them to folders and searches classes by them, so that a file of somebody else must be looked
at before nnU-Net reads it. Plans have a module of their own (``planning.plans_file``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnunet_ext import forms
from nnunet_ext.forms import FormError, read_document

_VALUE = forms.either(forms.digits, forms.whole_float, forms.count)
_LABEL = forms.either(forms.list_of(_VALUE, nonempty=True), _VALUE)
_AXES = forms.list_of(forms.between(0, 2), at_most=3)


def different_axes(value: Any, where: str) -> None:
    """Different axes of an image array; nnU-Net reads every image with three, a picture as a single slice."""
    _AXES(value, where)
    if len(set(value)) < len(value):
        raise FormError(f"{where} names an axis twice")


_DATASET = forms.record(
    {"labels": forms.mapping(forms.text, _LABEL, nonempty=True)},
    {
        "channel_names": forms.mapping(forms.text, forms.text),
        "modality": forms.mapping(forms.text, forms.text),
        "regions_class_order": forms.optional(forms.list_of(_VALUE)),
        "numTraining": forms.count,
        "file_ending": forms.component,
        "no_mirror_axes": different_axes,  # ours: trainers.mirror_axes follows it
        "overwrite_image_reader_writer": forms.optional(forms.identifier),
        # nnU-Net's other way to name files: identifier -> paths. Preprocessing writes files of the identifiers' names.
        "dataset": forms.mapping(
            forms.case_name, forms.record({"images": forms.list_of(forms.text), "label": forms.text})
        ),
    },
)


def _dataset(value: Any, where: str) -> None:
    """A dataset.json, with what nnU-Net's label manager asserts of its labels."""
    _DATASET(value, where)
    labels = {name: _whole(label) for name, label in value["labels"].items()}
    if "background" not in labels:
        raise FormError("labels has no background")
    if labels["background"] != 0:
        raise forms.fail(labels["background"], "labels.background", "0")
    # nnU-Net passes over labels of nothing but background
    foreground = [name for name, label in labels.items() if name != "ignore" and label not in (0, [0])]
    order = value.get("regions_class_order")
    if any(isinstance(labels[name], list) and len(labels[name]) > 1 for name in foreground) and (
        order is None or len(order) != len(foreground)
    ):
        raise FormError(f"regions_class_order does not name one value for each of the {len(foreground)} regions")


_SPLITS = forms.list_of(
    forms.record({"train": forms.list_of(forms.case_name), "val": forms.list_of(forms.case_name)}), nonempty=True
)
_SPACING = forms.number_between(1e-6, 1e6)
_FINGERPRINT = forms.record(
    {
        "spacings": forms.list_of(forms.list_of(_SPACING, length=3), nonempty=True),
        "shapes_after_crop": forms.list_of(forms.list_of(forms.between(1, 1 << 16), length=3), nonempty=True),
        "foreground_intensity_properties_per_channel": forms.mapping(forms.text, forms.mapping(forms.text, forms.real)),
        "median_relative_size_after_cropping": forms.positive,
    },
)


def _fingerprint(value: Any, where: str) -> None:
    _FINGERPRINT(value, where)
    if len(value["spacings"]) != len(value["shapes_after_crop"]):
        raise FormError(f"{len(value['spacings'])} spacings and {len(value['shapes_after_crop'])} shapes")


def read_dataset_json(file: Path) -> dict[str, Any]:
    """A dataset.json. Labels that are written as text or with a decimal point, which nnU-Net reads, are whole numbers.

    Raises:
        FileNotFoundError: there is none.
        UserError: it is something else.
    """
    remedy = "mend it, or copy the dataset.json that the model was trained with; 'nnunet_ext convert' writes one"
    content = read_document(file, _dataset, "a dataset.json of nnU-Net", remedy)
    content["labels"] = {name: _whole(label) for name, label in content["labels"].items()}
    if content.get("regions_class_order") is not None:
        content["regions_class_order"] = [_whole(value) for value in content["regions_class_order"]]
    return content


def _whole(label: Any) -> Any:
    """A label or region as nnU-Net's ``int()`` reads it."""
    if isinstance(label, list):
        return [_whole(value) for value in label]
    return int(label) if isinstance(label, str | float) else label


def read_splits(file: Path) -> list[dict[str, list[str]]]:
    """A splits_final.json: folds with the names of their cases. Raises as ``read_dataset_json``."""
    return read_document(
        file, _SPLITS, "a list of folds", 'give a JSON list of {"train": [CASE, ...], "val": [CASE, ...]}'
    )


def read_fingerprint(file: Path) -> dict[str, Any]:
    """A dataset_fingerprint.json. Raises as ``read_dataset_json``."""
    return read_document(
        file, _fingerprint, "a fingerprint of nnU-Net", "remove it; 'nnUNetv2_extract_fingerprint' makes it anew"
    )
