"""Reading plans files that others may have written: their form, and the classes they would import."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nnunet_ext.errors import UserError

#: packages that plans of nnU-Net and of this plugin name
TRUSTED_PREFIXES = ("nnunet_ext.", "dynamic_network_architectures.", "torch.nn.")


def read_plans(file: Path) -> dict[str, Any]:
    """A plans file of nnU-Net 2.

    Raises:
        UserError: it is missing, no JSON, or of another form, such as that of another major version.
    """
    try:
        plans = json.loads(file.read_text(encoding="utf-8"))
        configurations = plans["configurations"].values()
        for configuration in configurations:
            if not {"architecture", "inherits_from"} & set(configuration):
                raise KeyError("architecture")
            list(class_paths(configuration))
        if not all(isinstance(plans[key], str) for key in ("plans_name", "dataset_name")):
            raise TypeError("names")
    except FileNotFoundError as error:
        raise UserError("there are no such plans", file=file, remedy="'nnunet_ext plan' makes them") from error
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            "not a plans file of nnU-Net 2.3 or later", file=file, remedy="plan the dataset again"
        ) from error
    return plans


def foreign_classes(plans: Mapping[str, Any]) -> list[str]:
    """Classes that the plans name outside the packages that plans usually name. Importing them runs their code."""
    named = {path for configuration in plans["configurations"].values() for path in class_paths(configuration)}
    return sorted(path for path in named if not path.startswith(TRUSTED_PREFIXES))


def class_paths(configuration: Mapping[str, Any]) -> Iterator[str]:
    """Import paths of a configuration: its network and what its keyword arguments name."""
    architecture = configuration.get("architecture")
    if architecture is None:  # it inherits one from another configuration
        return
    yield architecture["network_class_name"]
    for keyword in architecture["_kw_requires_import"]:
        path = architecture["arch_kwargs"].get(keyword)
        if path is not None:
            yield path
