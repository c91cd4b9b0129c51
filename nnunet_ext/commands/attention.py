"""``nnunet_ext attention``: what the attention blocks of a trained network do in the prediction of one case."""

from __future__ import annotations

import argparse
from pathlib import Path

from nnunet_ext.quiet import quiet_torch


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-m", dest="model", type=Path, required=True, metavar="MODEL_FOLDER", help="TRAINER__PLANS__CONFIGURATION"
    )
    parser.add_argument(
        "-i",
        dest="case",
        type=Path,
        required=True,
        metavar="CASE",
        help="one case: FOLDER/CASE, any of its files, or a folder that holds no other",
    )
    parser.add_argument("-o", dest="output", type=Path, required=True, metavar="OUT", help="folder to make")
    parser.add_argument("-f", dest="fold", metavar="FOLD", help="number, or all (default: the first trained one)")
    parser.add_argument("-chk", dest="checkpoint", default="checkpoint_final.pth", metavar="FILE")
    parser.add_argument("-device", choices=("cpu", "cuda", "mps"), default="cuda")
    parser.add_argument(
        "-step_size", type=float, default=0.5, metavar="TILES", help="from one tile to the next (default: 0.5)"
    )
    parser.add_argument(
        "--places", nargs="+", default=(), metavar="TEXT", help="only places whose name in the network contains a TEXT"
    )
    parser.add_argument(
        "--channel", type=int, default=0, metavar="N", help="image channel that pictures show (default: 0)"
    )
    parser.add_argument("--trust", action="store_true", help="import whatever classes the plans name")
    parser.epilog = (
        "example: nnunet_ext attention -m nnUNetTrainerCFNet__nnUNetPlans__3d_fullres -i imagesTs/case7 -o attention"
    )


def run(args: argparse.Namespace) -> int:
    quiet_torch()
    from nnunet_ext.attention_maps.explain import write_attention
    from nnunet_ext.attention_maps.map_files import INDEX
    from nnunet_ext.shown import printable

    files = write_attention(
        args.model,
        args.case,
        args.output,
        fold=args.fold,
        checkpoint=args.checkpoint,
        device=args.device,
        step_size=args.step_size,
        containing=tuple(args.places),
        channel=args.channel,
        trusted=args.trust,
    )
    for file in files:
        what = " ".join(filter(None, (file.name, file.place and f"of {file.place}"))) or "all slice weights"
        print(printable(f"{file.file}: {what}, {file.minimum:.3g} to {file.maximum:.3g}"))
    pictures = [file for file in files if file.file.endswith(".png")]
    # The finest weight of voxels is the one that an image explains best; a later one is nearer to the output.
    first = max(pictures, key=lambda file: (file.name in ("gate", "voxels"), -(file.level or 0), file.file))
    print(printable(f"next: look at {args.output / first.file}; {args.output / INDEX} tells how to read each file"))
    return 0
