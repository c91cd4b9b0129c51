"""``nnunet_ext pretrained``: a start checkpoint with published weights, for nnU-Net's ``-pretrained_weights``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from nnunet_ext.families import ENCODERS
from nnunet_ext.quiet import quiet_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-d", dest="dataset", type=int, required=True, metavar="ID", help="of a planned dataset")
    parser.add_argument("-c", dest="configuration", required=True, metavar="CONFIGURATION")
    parser.add_argument("-tr", dest="trainer", required=True, metavar="TRAINER", help="that will train")
    parser.add_argument("-p", dest="plans", default="nnUNetPlans", metavar="PLANS")
    for part, rows in ENCODERS.items():
        parser.add_argument(
            f"--{part}",
            metavar="NAME|FILE",
            help=f"weights of the {rows[0].what}: a name on timm's hub, torchvision:NAME, or a file",
        )
    parser.add_argument(
        "--reference",
        metavar="FILE",
        help="weights of the whole published network under its authors' names, for a _paper trainer",
    )
    parser.add_argument(
        "--window",
        type=int,
        nargs="+",
        metavar="W",
        help="window that a transformer's file was trained with, one number or one a stage; timm's files do not tell",
    )
    parser.add_argument(
        "-o", dest="output", type=Path, required=True, metavar="FILE", help="checkpoint to write (.pth)"
    )
    parser.add_argument("--trust", action="store_true", help="import whatever classes the plans name")
    parser.epilog = (
        "example: nnunet_ext pretrained -d 537 -c 2d -tr nnUNetTrainerCFFormer_paper --cnn resnet34.pth -o start.pth"
    )


def run(args: argparse.Namespace) -> int:
    quiet_torch()
    from nnunet_ext.shown import command, joined, printable
    from nnunet_ext.trainers.hub_weights import NotFetchedError, options_for
    from nnunet_ext.trainers.pretrained import start_checkpoint

    sources = {part: getattr(args, part) for part in ENCODERS if getattr(args, part)}
    plans = () if args.plans == "nnUNetPlans" else ("-p", args.plans)
    try:
        report = start_checkpoint(
            args.dataset,
            args.configuration,
            args.trainer,
            args.plans,
            sources,
            args.window,
            args.output,
            trust=args.trust,
            reference=args.reference or "",
        )
    except NotFetchedError as error:
        files, options = options_for(sources, args.window)
        fetched = joined([f"{file.url} as {file.name}" for file in files])
        again = ("-d", args.dataset, "-c", args.configuration, "-tr", args.trainer, *plans, *options, "-o", args.output)
        print(printable(f"error: {error.message}; on a machine with a network fetch {fetched}"), file=sys.stderr)
        print(f"then: {command(['nnunet_ext', 'pretrained', *again])}", file=sys.stderr)
        return 2
    print(printable(report, keep="\n"))  # it names tensors of the file
    print(printable(f"written: {args.output}"))
    train = ("nnUNetv2_train", args.dataset, args.configuration, 0, "-tr", args.trainer, *plans)
    print(f"next: {command([*train, '-pretrained_weights', args.output])}")
    return 0
