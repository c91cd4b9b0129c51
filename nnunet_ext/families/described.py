"""What ``nnunet_ext info`` and ``list`` say of a network and of a trainer. Needs neither torch nor nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from nnunet_ext.families import FAMILIES, NETWORKS, Network, Trainer, figures, suffixes_of, trainers_of
from nnunet_ext.lookup import plain

_DEFAULT_PLANS = "nnU-Net's default plans for BraTS, 3d_fullres"


def find_network(name: str) -> Network | None:
    """A network of the table; case, ``-`` and ``_`` do not matter."""
    return next((row for row in NETWORKS.values() if plain(row.name) == plain(name)), None)


def network_as_json(row: Network) -> dict[str, Any]:
    """A row of ``list networks --json``."""
    return asdict(row) | {"trainers": tuple(trainer.name for trainer in trainers_of(row.name))} | figures(row.name)


def trainer_as_json(row: Trainer) -> dict[str, Any]:
    """A row of ``list trainers --json``, with the suffixes that only trainers of its network know."""
    return asdict(row) | {"suffixes": {f"_{each.name}": each.help for each in suffixes_of(row.network, row.form)}}


def network_rows(row: Network) -> list[tuple[str, str]]:
    """Titles and texts to read."""
    known = network_as_json(row)
    channels = row.minimum_image_channels
    rows = [
        ("title", row.title),
        ("doi", row.doi),
        ("licence", f"of the reference implementation: {row.licence}"),
        ("channels", f"{channels} image channel{'s' * (channels != 1)} or more"),
        ("trainers", ", ".join(known["trainers"])),
    ]
    if known["default_parameters"] is not None:
        memory = f"about {known['default_training_gb']} GB of GPU memory to train"
        rows.append(("size", f"{known['default_parameters']:,} parameters with {_DEFAULT_PLANS}; {memory}"))
    rows += [
        (title, ", ".join(f"{form} {count:,}" for form, count in counts.items()) + f" parameters{what}")
        for title, counts, what in (
            ("published", known["reference_parameters"], ", the published form as built here"),
            ("authors", known["published_parameters"], ", as the authors' code counts, idle parts included"),
        )
        if counts
    ]
    return [*rows, ("options", ", ".join(row.options)), ("class", row.class_path), ("page", _page(row.name))]


def trainer_rows(row: Trainer, fixed: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Titles and texts to read; ``fixed`` is what the trainer trains with whatever the plans say, by name."""
    own = suffixes_of(row.network, row.form)
    rows = [("trains", row.network), ("what", row.summary)]
    if row.published:
        own_values = "".join(f", {name} {value}" for name, value in fixed.items())
        rows.append(("plans", f"any {row.plans}; the network is the published one{own_values}, whatever they say"))
    rows.append(("suffixes", "those of every trainer: 'nnunet_ext list trainers'"))
    if own:
        rows.append(("", f"and besides, of {row.network}: " + ", ".join(f"_{each.name}" for each in own)))
    return [*rows, ("class", row.class_path), ("page", f"{_page(row.network)}, docs/trainers.md")]


def recipe_row(recipe: Mapping[str, Any]) -> tuple[str, str]:
    """The recipe of a trainer under the names of its fields."""
    return "recipe", ", ".join(
        f"{name} {'none' if value is None else value}" for name, value in recipe.items() if value not in ({}, [])
    )


def _page(network: str) -> str:
    (family,) = (family.name for family in FAMILIES if any(row.name == network for row in family.networks))
    return f"docs/networks/{family}.md"
