"""Reading plans files that others may have written: their form, and the classes they would import."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_ext import forms
from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORKS
from nnunet_ext.forms import FormError, read_document
from nnunet_ext.planning import imports
from nnunet_ext.planning.private_nnunet import IMPORTED_KEYWORDS
from nnunet_ext.versions import numbers

#: key under which our planner notes what it made plans for, at the top of a plans file
OURS = "nnunet_ext"
#: the option of our commands with which a user vouches for a file
FLAG = "--trust"
REMEDY = f"look at the file; if you trust whoever wrote it, add {FLAG}"
_KIND = "a plans file of nnU-Net 2.3 or later"
_REMEDY = "plan the dataset again"
# Bounds far above every real plan, so that no list of a foreign plan runs on without end.
_MAX_STAGES, _MAX_LAYERS, _MAX_EDGE, _MAX_FEATURES, _MAX_BATCH = 32, 128, 1 << 16, 1 << 16, 1 << 20

_SHOWN = 100
_MAX_CONFIGURATIONS, _MAX_INHERITED, _MAX_BYTES = 256, 16, 1 << 24

_LAYERS = forms.between(0, _MAX_LAYERS)
_EDGES = forms.list_of(forms.between(1, _MAX_EDGE), at_most=3, nonempty=True)


def _by_stage(form: forms.Form) -> forms.Form:
    """One value for all stages, or a list with one each."""
    return forms.either(forms.list_of(form, at_most=_MAX_STAGES), form)


_KEYWORD_ARGUMENTS = forms.optional(forms.mapping(forms.text, forms.anything))
# A network of somebody else may mean what it likes by these keywords, so they are looked at where nnU-Net's networks
# or ours take them.
_KNOWN_PACKAGES = ("dynamic_network_architectures.", "nnunet_ext.")
_ARCHITECTURE_KEYWORDS = forms.record(
    {},
    {
        "strides": forms.list_of(forms.either(_EDGES, forms.between(1, _MAX_EDGE)), at_most=_MAX_STAGES, nonempty=True),
        "n_stages": forms.between(1, _MAX_STAGES),
        "features_per_stage": _by_stage(forms.between(1, _MAX_FEATURES)),
        "kernel_sizes": _by_stage(forms.either(_EDGES, forms.between(1, _MAX_EDGE))),
        "n_conv_per_stage": _by_stage(_LAYERS),
        "n_blocks_per_stage": _by_stage(_LAYERS),
        "n_conv_per_stage_decoder": _by_stage(_LAYERS),
        "conv_bias": forms.boolean,
        "deep_supervision": forms.boolean,
        "norm_op_kwargs": _KEYWORD_ARGUMENTS,
        "dropout_op_kwargs": _KEYWORD_ARGUMENTS,
        "nonlin_kwargs": _KEYWORD_ARGUMENTS,
    },
)


def _name(value: Any, where: str) -> None:
    """A single name that a command does not read as an option."""
    forms.component(value, where)
    if value.startswith("-"):
        raise forms.fail(value, where, "a name without a hyphen in front, which commands read as an option")


def _data_identifier(value: Any, where: str) -> None:
    _name(value, where)
    if value == "gt_segmentations":
        raise forms.fail(value, where, "a folder of preprocessed cases: that one holds the references")


def _architecture(value: Any, where: str) -> None:
    forms.record(
        {
            "network_class_name": forms.text,
            "arch_kwargs": forms.mapping(forms.text, forms.anything),
            IMPORTED_KEYWORDS: forms.list_of(forms.text),
        }
    )(value, where)
    if value["network_class_name"].startswith(_KNOWN_PACKAGES):
        _ARCHITECTURE_KEYWORDS(value["arch_kwargs"], f"{where}.arch_kwargs")
    for name in value[IMPORTED_KEYWORDS]:
        if name not in value["arch_kwargs"]:
            raise FormError(f"{where}.arch_kwargs has no {name}, which is to be imported")
        forms.optional(forms.text)(value["arch_kwargs"][name], f"{where}.arch_kwargs.{name}")


_CONFIGURATION_KEYS: dict[str, forms.Form] = {
    "architecture": _architecture,
    "inherits_from": _name,
    # nnU-Net removes and makes the folder of this name, and searches its own packages for these classes
    "data_identifier": _data_identifier,
    "preprocessor_name": forms.identifier,
    "resampling_fn_data": forms.identifier,
    "resampling_fn_seg": forms.identifier,
    "resampling_fn_probabilities": forms.identifier,
    "resampling_fn_data_kwargs": _KEYWORD_ARGUMENTS,
    "resampling_fn_seg_kwargs": _KEYWORD_ARGUMENTS,
    "resampling_fn_probabilities_kwargs": _KEYWORD_ARGUMENTS,
    "normalization_schemes": forms.list_of(forms.identifier, nonempty=True),
    "use_mask_for_norm": forms.list_of(forms.boolean),
    "batch_size": forms.between(1, _MAX_BATCH),
    "patch_size": _EDGES,
    "median_image_size_in_voxels": forms.list_of(forms.number, at_most=3, nonempty=True),
    "spacing": forms.list_of(forms.number, at_most=3, nonempty=True),
    "batch_dice": forms.boolean,
    "previous_stage": forms.optional(_name),
    "next_stage": forms.optional(forms.either(forms.list_of(_name), _name)),
}
_CONFIGURATION = forms.record({}, _CONFIGURATION_KEYS)
_PLANS = forms.record(
    {
        "plans_name": _name,
        "dataset_name": _name,
        "configurations": forms.mapping(_name, _CONFIGURATION),
    },
    {
        "image_reader_writer": forms.identifier,
        "label_manager": forms.identifier,
        "experiment_planner_used": forms.identifier,
        "transpose_forward": forms.list_of(forms.between(0, 2), length=3),
        "transpose_backward": forms.list_of(forms.between(0, 2), length=3),
        "original_median_spacing_after_transp": forms.list_of(forms.number, length=3),
        "original_median_shape_after_transp": forms.list_of(forms.number, length=3),
        "foreground_intensity_properties_per_channel": forms.mapping(forms.text, forms.mapping(forms.text, forms.real)),
        # what our planner notes of its own
        OURS: forms.record(
            {"network": forms.identifier, "gpu_memory_target_in_gb": forms.number},
            {
                "version": forms.text,
                "options": forms.mapping(forms.text, forms.anything),
                "trainer": forms.either(forms.one_of(("",)), forms.identifier),
            },
        ),
    },
)


#: what nnU-Net reads of every configuration
_NEEDED = ("architecture", "data_identifier", "preprocessor_name", "batch_size", "patch_size", "spacing",
           "normalization_schemes", "use_mask_for_norm")  # fmt: skip


def _form(content: Any, where: str) -> None:
    _PLANS(content, where)
    if len(content["configurations"]) > _MAX_CONFIGURATIONS:
        raise FormError(f"configurations has {len(content['configurations'])} entries, more than {_MAX_CONFIGURATIONS}")
    for name in content["configurations"]:
        _resolved(content["configurations"], name)


def _resolved(configurations: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A configuration with what it inherits, which must end in one that names an architecture."""
    seen: list[str] = []
    merged: dict[str, Any] = {}
    following: str | None = name
    while following is not None:
        if following not in configurations:
            raise FormError(f"configurations.{seen[-1]} inherits from {following}, which is not there")
        if following in seen:
            raise FormError(f"configurations.{name} inherits from itself")
        if len(seen) == _MAX_INHERITED:
            raise FormError(f"configurations.{name} inherits through more than {_MAX_INHERITED} others")
        seen.append(following)
        merged = {**configurations[following], **merged}
        following = configurations[following].get("inherits_from")
    for key in _NEEDED:
        if key not in merged:
            raise FormError(f"configurations.{name} has no {key}")
    previous = merged.get("previous_stage")
    if previous is not None and previous not in configurations:
        raise FormError(f"configurations.{name} has the previous stage {previous}, which is not there")
    return merged


def read_plans(file: Path) -> dict[str, Any]:
    """A plans file of nnU-Net 2.

    Names in it that nnU-Net joins to folders are single names, and those that it searches in its own packages are
    names of classes; what it imports by path is for ``foreign_classes`` to judge.

    Raises:
        UserError: it is missing, no JSON, or of another form, such as that of another major version.
    """
    try:
        return read_document(file, _form, _KIND, _REMEDY, _MAX_BYTES)
    except FileNotFoundError as error:
        raise UserError("there are no such plans", file=file, remedy="'nnunet_ext plan' makes them") from error
    except UserError as error:
        if error.message.startswith("not a plans file"):
            raise
        raise UserError(f"not {_KIND}: {error.message}", file=file, remedy=_REMEDY) from error


def foreign_classes(plans: Mapping[str, Any]) -> list[str]:
    """Import paths of plans that lead to something else than networks of nnU-Net or ours and layers of torch. Following
    them runs their code."""
    named = {named for configuration in plans["configurations"].values() for named in class_paths(configuration)}
    return sorted({path for key, path in named if not imports.is_known(key, path)})


def refuse_foreign_classes(plans: Mapping[str, Any], file: Path) -> None:
    """Stop at plans that name anything but networks of nnU-Net or of this plugin and layers of torch.

    Raises:
        UserError: naming those import paths.
    """
    foreign = foreign_classes(plans)
    if foreign:
        named = ", ".join(path if len(path) <= _SHOWN else f"{path[:_SHOWN]}..." for path in foreign[:3])
        more = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
        raise UserError(f"the plans name {named}{more}, which would be imported", file=file, remedy=REMEDY)


def class_paths(configuration: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """``(key, import path)`` of a configuration's network and of each keyword argument that is to be imported."""
    architecture = configuration.get("architecture")
    if architecture is None:  # it inherits one from another configuration
        return
    yield imports.NETWORK, architecture[imports.NETWORK]
    for keyword in architecture[IMPORTED_KEYWORDS]:
        path = architecture["arch_kwargs"].get(keyword)
        if path is not None:
            yield keyword, path


def counts_more_than_is_kept(plans: Mapping[str, Any]) -> bool:
    """Whether plans of ours were made when their network kept more memory in training than it does now."""
    made = plans.get(OURS, {})
    row = NETWORKS.get(made.get("network", ""))
    return row is not None and numbers(made.get("version", "")) < numbers(row.keeps_less_since)
