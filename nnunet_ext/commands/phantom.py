"""``nnunet_ext phantom``: write a small synthetic download."""

from __future__ import annotations

import argparse

from nnunet_ext.dataset_conversion.datasets import DATASETS
from nnunet_ext.shown import command, printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", metavar="DATASET", help=", ".join(DATASETS))
    parser.add_argument("-o", "--output", required=True, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument(
        "--cases",
        type=int,
        default=8,
        metavar="N",
        help="labelled cases; what counts as one is the dataset's own (docs/phantoms.md; default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="same seed, same bytes (default: %(default)s)")
    parser.add_argument(
        "--shape",
        type=int,
        nargs=3,
        metavar=("Z", "Y", "X"),
        help="voxels a case (default: the dataset's own, such as 32 40 40; full size of BraTS: 155 240 240)",
    )
    parser.add_argument("--layout", metavar="NAME", help="folder, zip or kaggle, as far as the real download has them")
    parser.add_argument(
        "--quirks",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="with the oddities of the real download (default: yes)",
    )
    parser.add_argument(
        "--appearance",
        type=int,
        default=1,
        metavar="A",
        help="2 is another machine, to try a domain shift on, for datasets that have it (default: %(default)s)",
    )
    parser.add_argument("-np", type=int, default=1, metavar="N", help="worker processes (default: %(default)s)")
    parser.epilog = "example: nnunet_ext phantom brats2021 -o DOWNLOAD --cases 20"


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.phantoms import write_phantoms

    out = write_phantoms(
        args.dataset,
        args.output,
        cases=args.cases,
        seed=args.seed,
        shape=None if args.shape is None else tuple(args.shape),
        layout=args.layout,
        quirks=args.quirks,
        processes=args.np,
        appearance=args.appearance,
    )
    print(printable(f"wrote {args.cases} cases to {out}"))
    print(f"next: {command(['nnunet_ext', 'convert', args.dataset, '-i', out])}")
    return 0
