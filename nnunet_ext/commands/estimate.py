"""``nnunet_ext estimate``: what trainers need on the configurations of a planned dataset."""

from __future__ import annotations

import argparse
import json

from nnunet_ext.quiet import quiet_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", dest="dataset", type=int, required=True, metavar="ID", help="of a planned dataset")
    parser.add_argument(
        "-tr",
        dest="trainers",
        nargs="+",
        default=["nnUNetTrainer"],
        metavar="TRAINER",
        help="one or more (default: nnUNetTrainer, which trains the network that the plans name)",
    )
    parser.add_argument("-p", dest="plans", nargs="+", default=["nnUNetPlans"], metavar="PLANS", help="one or more")
    parser.add_argument(
        "-c", dest="configurations", nargs="+", metavar="CONFIGURATION", help="some only (default: all of the plans)"
    )
    parser.add_argument(
        "-gpu_memory_target",
        type=float,
        metavar="GB",
        help="memory of a GPU to fit into (default: that of the GPU here, if there is one)",
    )
    parser.add_argument("--parts", action="store_true", help="also what each part of a network keeps")
    parser.add_argument("--trust", action="store_true", help="import whatever classes the plans name")
    parser.add_argument("--json", action="store_true", help="print the rows as JSON, in bytes")
    parser.epilog = "example: nnunet_ext estimate -d 137 -tr nnUNetTrainer nnUNetTrainerCFNet -gpu_memory_target 11"


def run(args: argparse.Namespace) -> int:
    quiet_torch()
    from nnunet_ext.planning import gpu
    from nnunet_ext.planning.make_plans import check_target
    from nnunet_ext.planning.table import render, render_parts
    from nnunet_ext.trainers.estimates import available_memory, estimates

    given = args.gpu_memory_target
    if given is not None:
        check_target(given)
    rows = estimates(
        args.dataset,
        args.trainers,
        args.plans,
        args.configurations,
        available_memory() if given is None else given * gpu.GB,
        trust=args.trust,
    )
    if args.json:
        print(json.dumps([row.as_json() for row in rows], indent=2))
        return 0
    print(render(rows))
    if args.parts:
        print(render_parts(rows))
    return 0
