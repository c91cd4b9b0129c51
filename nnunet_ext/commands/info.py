"""``nnunet_ext info NAME``: what is known of a dataset, a network or a trainer."""

from __future__ import annotations

import argparse
import json

from nnunet_ext.quiet import quiet_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = (
        "examples: nnunet_ext info brats2021; nnunet_ext info CFNet; nnunet_ext info nnUNetTrainerCFNet_paper"
    )
    parser.add_argument(
        "name", help="a dataset, a network or a trainer, with its suffixes if it has some; 'nnunet_ext list' names all"
    )
    parser.add_argument("--json", action="store_true", help="print one json document instead of text")


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.dataset_conversion import datasets
    from nnunet_ext.dataset_conversion.reporting import facts
    from nnunet_ext.errors import UserError
    from nnunet_ext.families import NETWORKS, TRAINERS, described
    from nnunet_ext.lookup import did_you_mean
    from nnunet_ext.shown import abridged, facts_text
    from nnunet_ext.trainers import registry

    quiet_torch()
    name = args.name
    dataset, network, trainer = datasets.find(name), described.find_network(name), registry.row_of(name)
    if dataset is not None:
        document, text = facts.as_json(dataset), facts.as_text(dataset)
    elif network is not None:
        document = described.network_as_json(network)
        text = facts_text(f"{network.name}: a network", described.network_rows(network))
    elif trainer is not None:
        recipe, fixed = registry.recipe_of(name).as_dict(), registry.fixed_values(name)
        document = described.trainer_as_json(trainer) | {"name": name, "recipe": recipe, "fixed": fixed}
        rows = [*described.trainer_rows(trainer, fixed), described.recipe_row(recipe)]
        text = facts_text(f"{name}: a trainer", rows)
    else:
        raise UserError(
            f"'{abridged(name)}' is no dataset, network or trainer",
            remedy=did_you_mean(name, [*datasets.DATASETS, *NETWORKS, *TRAINERS], "'nnunet_ext list' names all"),
        )
    print(json.dumps(document, indent=2) if args.json else text)
    return 0
