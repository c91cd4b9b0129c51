"""``nnunet_ext overlay``: a picture of predictions beside their references."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-i", dest="images", required=True, metavar="FOLDER", help="of the images, such as imagesTs")
    parser.add_argument("-p", dest="predictions", required=True, metavar="FOLDER", help="of the predicted label maps")
    parser.add_argument(
        "-r", dest="references", required=True, metavar="FOLDER", help="of the label maps to compare with"
    )
    parser.add_argument("-o", dest="output", required=True, metavar="FILE.png", help="the picture")
    parser.add_argument(
        "-djfile",
        dest="dataset_json",
        metavar="FILE",
        help="dataset.json (default: the one that nnUNetv2_predict left beside the predictions, else the one above -r)",
    )
    parser.add_argument(
        "--channels", nargs="+", type=int, metavar="N", help="image channels to show (default: the first four)"
    )
    parser.epilog = (
        "shows the worst, the median and the best case by mean Dice\n"
        "example: nnunet_ext overlay -i imagesTs -p predictions -r labelsTs -o overlay.png"
    )


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.label_folders import default_dataset_json, load_dataset_json
    from nnunet_ext.report.folder_overlay import write_folder_overlay
    from nnunet_ext.shown import printable

    predictions, references, out = Path(args.predictions), Path(args.references), Path(args.output)
    if out.suffix.lower() != ".png":
        raise UserError("the picture is a PNG file", file=out, remedy="give -o a name that ends in .png")
    given = Path(args.dataset_json) if args.dataset_json else default_dataset_json(predictions, references)
    dataset = load_dataset_json(given)
    shown = write_folder_overlay(predictions, references, Path(args.images), dataset, out, args.channels)
    print(printable(f"wrote {out}: {', '.join(shown)}"))
    return 0
