"""``nnunet_ext demo``: the whole path on phantoms, from a download to an ensembled prediction."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_ext.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-o",
        dest="folder",
        type=Path,
        default=Path("nnunet_ext_demo"),
        metavar="DIR",
        help="folder to write, new or empty or of an earlier demo (default: ./nnunet_ext_demo)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of phantoms and trainings (default: 0)")
    parser.epilog = "exit code 1 if the ensemble is not good enough\nexample: nnunet_ext demo -o /tmp/demo"


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.demo.runner import run_demo

    if not 0 <= args.seed < 2**32:
        raise UserError(f"seed {args.seed} is not between 0 and 4294967295", remedy="choose --seed N")
    return run_demo(args.folder, args.seed)
