"""``nnunet_ext plan``: plans for any network of ours that fit a GPU."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import nullcontext

from nnunet_ext.quiet import quiet_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", dest="dataset", type=int, required=True, metavar="ID", help="of the dataset")
    parser.add_argument("-a", dest="network", metavar="NETWORK", help="see 'nnunet_ext list networks'")
    parser.add_argument(
        "-tr",
        dest="trainer",
        metavar="TRAINER",
        help="plan for a variant of it: nnUNetTrainerCFFormer_base",
    )
    parser.add_argument(
        "-c",
        dest="configurations",
        nargs="+",
        metavar="CONFIGURATION",
        help="show and preprocess these only; all are planned (default: all)",
    )
    parser.add_argument(
        "-gpu_memory_target", type=float, default=8.0, metavar="GB", help="memory of the GPU (default: 8)"
    )
    parser.add_argument(
        "--small",
        action="store_true",
        help="small patches and few feature maps, to try things out without a GPU; plans nnUNet<NETWORK>Plans_small",
    )
    parser.add_argument("-overwrite_plans_name", metavar="NAME", help="instead of nnUNet<NETWORK>Plans")
    parser.add_argument(
        "-overwrite_target_spacing", nargs=3, type=float, metavar="MM", help="of 3d_fullres, as nnU-Net spells it"
    )
    parser.add_argument(
        "-np", dest="processes", type=int, metavar="N", help="worker processes (default: cores, up to 8)"
    )
    parser.add_argument("--no_pp", action="store_true", help="plan only, preprocess nothing")
    parser.add_argument("--dry-run", action="store_true", help="show the plans, write nothing")
    parser.add_argument("--trust", action="store_true", help="import whatever classes plans of this name already name")
    parser.add_argument("--json", action="store_true", help="print the table as JSON, in bytes")
    parser.epilog = "example: nnunet_ext plan -d 137 -a CFNet -gpu_memory_target 24"


def run(args: argparse.Namespace) -> int:
    quiet_torch()
    from nnunet_ext.folders import dataset_name, default_processes
    from nnunet_ext.planning import make_plans, plan_text
    from nnunet_ext.planning.plan_facts import facts_of
    from nnunet_ext.trainers.estimates import network_to_plan

    name = dataset_name(args.dataset)
    wanted = make_plans.Wanted(
        dataset_name=name,
        **network_to_plan(args.network, args.trainer),
        target=args.gpu_memory_target,
        plans_name=args.overwrite_plans_name,
        processes=args.processes or default_processes(),
        configurations=tuple(args.configurations or ()),
        small=args.small,
        spacing=None if args.overwrite_target_spacing is None else tuple(args.overwrite_target_spacing),
    )
    make_plans.check(wanted, args.trust)

    def say(line: str) -> None:
        print(line, file=sys.stderr if args.json else sys.stdout, flush=True)

    with make_plans.nothing_written(name) if args.dry_run else nullcontext():
        plans = make_plans.make_plans(wanted, say)
    facts = facts_of(wanted, plans, args.configurations)
    if args.json:
        print(json.dumps(facts.as_json(), indent=2))
    else:
        say(plan_text.as_text(facts, written=not args.dry_run))
    if args.dry_run:
        say("dry run: nothing was written")
        return 0
    if args.no_pp:
        make_plans.require_own_data(plans, facts.missing)  # which the command printed below would remove
    else:
        make_plans.preprocess(args.dataset, plans, facts.missing, wanted.processes, say)
    say(plan_text.next_commands(facts, args.dataset, wanted.processes, preprocessed=not args.no_pp))
    return 0
