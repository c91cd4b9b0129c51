"""``nnunet_ext to-submission``: predictions in the names, values and types of the challenge."""

from __future__ import annotations

import argparse

from nnunet_ext.shown import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = "example: nnunet_ext to-submission brats2021 -d 137 -i PREDICTIONS -o SUBMISSION"
    parser.add_argument("name", help="the dataset")
    parser.add_argument("-i", dest="predictions", metavar="FOLDER", required=True, help="output of nnUNetv2_predict")
    parser.add_argument("-o", dest="output", metavar="FOLDER", required=True, help="where the submission goes")
    parser.add_argument(
        "-d", dest="dataset_id", metavar="ID", help="id of the converted dataset (default: the dataset's own)"
    )
    parser.add_argument("--raw", metavar="FOLDER", help="instead of the folder nnUNet_raw")
    parser.add_argument(
        "--partial", action="store_true", help="some cases only, such as the validation set of one fold"
    )


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.dataset_conversion.submission import to_submission

    written = to_submission(
        args.name, args.predictions, args.output, dataset_id=args.dataset_id, raw=args.raw, partial=args.partial
    )
    print(printable(f"{len(written)} files written to {args.output}"))
    return 0
