"""``nnunet_ext list``: the tables of trainers, networks, datasets and planners, as text or JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from nnunet_ext.shown import joined, text_table

Rows = list[dict[str, Any]]


def _trainers() -> Rows:
    from nnunet_ext.families import TRAINERS

    return [asdict(row) for row in TRAINERS.values()]


def _networks() -> Rows:
    from nnunet_ext.families import NETWORKS, described

    return [described.network_as_json(row) for row in NETWORKS.values()]


def _planners() -> Rows:
    from nnunet_ext.planning import PLANNERS

    return [asdict(row) for row in PLANNERS]


def _datasets() -> Rows:
    from nnunet_ext.dataset_conversion.datasets import DATASETS, get

    fields = ("name", "title", "years_or_release", "cases", "licence", "doi", "channels", "download")
    return [{field: getattr(get(name), field) for field in fields} for name in DATASETS]


# what to list -> its rows, and the columns that fit a line
TABLES: dict[str, tuple[Callable[[], Rows], tuple[str, ...]]] = {
    "trainers": (_trainers, ("name", "network", "summary")),
    "networks": (
        _networks,
        ("name", "default_parameters", "default_training_gb", "reference_parameters", "published_parameters", "doi"),
    ),
    "datasets": (_datasets, ("name", "years_or_release", "cases", "title")),
    "planners": (_planners, ("name", "used_by", "plans_name", "summary")),
}

# a column -> its head, where the name of the field says too little
HEADS = {
    "default_parameters": "parameters (a)",
    "default_training_gb": "GPU GB (a)",
    "reference_parameters": "parameters as published (b)",
    "published_parameters": "by the authors' code (c)",
    "years_or_release": "release",
    "plans_name": "plans",
    "used_by": "used by",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", choices=TABLES)
    parser.add_argument("--json", action="store_true", help="print every row as a JSON object with all it says")
    parser.epilog = "example: nnunet_ext list trainers"


def run(args: argparse.Namespace) -> int:
    make_rows, columns = TABLES[args.what]
    rows = make_rows()
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    heads = [HEADS.get(column, column) for column in columns]
    print(text_table([heads, *([_text(row[column]) for column in columns] for row in rows)]))
    if args.what == "trainers":
        _print_suffixes()
    if args.what == "networks":
        print(
            "\n(a) with nnU-Net's default plans for BraTS, 3d_fullres, patch 128 x 128 x 128, batch 2; GPU memory is "
            "estimated, for training (nnU-Net's own U-Net: 31,199,796 parameters, 7.6 GB)\n"
            "(b) the published network as built here, by form; a _paper trainer builds it where there is one\n"
            "(c) the same as the authors' code counts it, with parts that nothing reaches; empty where not compared\n"
            "'nnunet_ext info CFNet' tells more of one"
        )
    return 0


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_text(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and value > 9999 else str(value)


def _print_suffixes() -> None:
    from nnunet_ext.families import NETWORK_SUFFIXES, NETWORKS, suffixes_of
    from nnunet_ext.families.rows import FORMS
    from nnunet_ext.trainers.suffixes import SUFFIXES

    def said(row: Any) -> str:
        return row.help if row.forms == FORMS else f"{' or '.join(row.forms)} form only: {row.help}"

    width = max(len(spelling) for spelling in (row.spelling for row in SUFFIXES))
    width = max(width, *(len(row.name) + 1 for row in NETWORK_SUFFIXES), 0)
    print("\nsuffixes, in any number; other orders than this one work too, in folders of their own:")
    for suffix in SUFFIXES:
        print(f"  {suffix.spelling:<{width}}  {said(suffix)}")
    networks: dict[tuple[str, ...], list[str]] = {}
    for network in filter(suffixes_of, NETWORKS):
        lines = tuple(f"  {'_' + row.name:<{width}}  {said(row)}" for row in suffixes_of(network))
        networks.setdefault(lines, []).append(network)
    for lines, names in networks.items():
        print(f"besides, of {joined(names)}:", *lines, sep="\n")
    print("example: -tr nnUNetTrainerCFNet_50epochs_NoMirroring")
