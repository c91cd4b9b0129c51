"""``dataset.json``: nnU-Net's description of a dataset."""

from __future__ import annotations

from typing import Any

from nnunet_ext import __version__
from nnunet_ext.dataset_conversion.options import RGB_NORMS, Options
from nnunet_ext.dataset_conversion.output.mirroring import no_mirror_axes
from nnunet_ext.dataset_conversion.plan import Plan


def dataset_json(plan: Plan, options: Options, training: int, rule: str | None) -> dict[str, Any]:
    """nnU-Net's description of the dataset, with our facts under free keys."""
    dataset, target = plan.destination.dataset, plan.destination.target
    labels = target.labels
    content: dict[str, Any] = {
        # nnU-Net chooses the normalisation by these names.
        "channel_names": {
            str(number): RGB_NORMS[options.rgb_norm] or name for number, name in enumerate(dataset.channels)
        },
        "labels": labels.names_for_json,
        "numTraining": training,
        "file_ending": target.file_ending,
    }
    if labels.regions_class_order:
        content["regions_class_order"] = list(labels.regions_class_order)
    unmirrored = no_mirror_axes(dataset, plan.tasks)
    if unmirrored:
        content["no_mirror_axes"] = unmirrored  # nnU-Net passes over it; the trainers of this plugin follow it
    return content | {
        "name": plan.destination.folder_name,
        "description": dataset.title,
        "reference": "; ".join(f"doi:{doi}" for doi in dataset.doi),
        "release": dataset.years_or_release,
        "licence": dataset.licence,
        "citation": list(dataset.citation),
        "converted_by": f"nnunet_ext {__version__}",
        "nnunet_ext": {
            "dataset": dataset.name,
            "version": __version__,
            "channels": list(dataset.channels),
            "resize": list(options.resize) if options.resize else None,
            "label_map": labels.forward_for_json,
            "splits": rule,
        },
    }
