"""``nnunet_ext info NAME``: what is known of a dataset."""

from __future__ import annotations

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: nnunet_ext info brats2021"
    parser.add_argument("name", help="the dataset; 'nnunet_ext list datasets' names all")
    parser.add_argument("--json", action="store_true", help="print one json document instead of text")


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.dataset_conversion.datasets import get
    from nnunet_ext.dataset_conversion.reporting import facts

    dataset = get(args.name)
    print(json.dumps(facts.as_json(dataset), indent=2) if args.json else facts.as_text(dataset))
    return 0
