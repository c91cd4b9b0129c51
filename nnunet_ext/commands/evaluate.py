"""``nnunet_ext evaluate``: predictions against their references, case by case, with the metrics that papers report."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

DEFAULT_PLANS, DEFAULT_TRAINER = "nnUNetPlans", "nnUNetTrainer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-p",
        dest="predictions",
        metavar="PREDICTIONS|PLANS",
        help=f"folder of predicted label maps; with -d the name of plans (default there: {DEFAULT_PLANS}), or a folder "
        "of the dataset's results by name, such as TRAINER__PLANS__CONFIGURATION/crossval_results_folds_0_1_2_3_4 or "
        "ensemble___.../postprocessed",
    )
    parser.add_argument(
        "-r",
        dest="references",
        metavar="REFERENCE",
        help="folder of the label maps to compare with (needed without -d)",
    )
    parser.add_argument("-d", dest="dataset", type=_dataset_id, metavar="ID", help="cross-validation of this dataset")
    parser.add_argument("-tr", dest="trainer", metavar="TRAINER", help=f"with -d and -c (default: {DEFAULT_TRAINER})")
    parser.add_argument("-c", dest="configuration", metavar="CONFIGURATION", help="such as 3d_fullres, with -d")
    parser.add_argument(
        "-f", dest="folds", nargs="+", metavar="FOLD", help="with -c (default: the folds that are there)"
    )
    parser.add_argument(
        "-djfile",
        dest="dataset_json",
        metavar="FILE",
        help="dataset.json (default: the one beside the predictions, else the one above -r)",
    )
    parser.add_argument(
        "--metrics", nargs="+", metavar="NAME", help="names, or all (default: Dice IoU HD95 NSD); docs/evaluation.md"
    )
    parser.add_argument(
        "--tolerance", nargs="+", type=float, metavar="MM", help="of NSD, one column each (default: 1 2); pixels in 2D"
    )
    parser.add_argument(
        "--brats",
        nargs="?",
        const="GLI",
        metavar="CHALLENGE",
        help="also HD95_surfel and lesion-wise scores of BraTS 2023: GLI (default), SSA, PED, MEN or MET",
    )
    parser.add_argument(
        "--partial", action="store_true", help="some cases only: references without a prediction are not missing"
    )
    parser.add_argument("-np", dest="processes", type=int, metavar="N", help="worker processes, each with one case")
    parser.add_argument(
        "-o",
        dest="output",
        metavar="OUT",
        help="folder of the results (default: NAME_evaluation beside the predictions, or here if nnU-Net wrote them)",
    )
    parser.add_argument("--json", action="store_true", help="print metrics.json instead of a table")
    parser.epilog = (
        "writes metrics.csv, a row a case and region, and metrics.json, means; goes on where a call was cut off\n"
        "examples: nnunet_ext evaluate -p predictions -r labelsTs -djfile dataset.json\n"
        "          nnunet_ext evaluate -d 137 -tr nnUNetTrainerCFNet -c 3d_fullres --brats\n"
        "exit code: 1 if a case is missing or broken, 2 if none could be evaluated"
    )


def _dataset_id(text: str) -> int:
    if not text.isascii() or not text.isdecimal() or not 0 < int(text[:5]) < 1000:
        raise argparse.ArgumentTypeError("an id is a number from 1 to 999")
    return int(text)


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.columns import choose_columns
    from nnunet_ext.evaluation.destination import default_folder
    from nnunet_ext.evaluation.run import evaluate
    from nnunet_ext.evaluation.sources import Source, folder_source
    from nnunet_ext.evaluation.summary import as_text
    from nnunet_ext.evaluation.trained import trained_source
    from nnunet_ext.folders import default_processes
    from nnunet_ext.shown import command, printable

    def chosen_source() -> Source:
        dataset_json = Path(args.dataset_json) if args.dataset_json else None
        references = Path(args.references) if args.references else None
        if args.dataset is None:
            if args.predictions is None or references is None:
                raise UserError(
                    "say what is compared", remedy="give -p PREDICTIONS -r REFERENCE, or -d ID -c CONFIGURATION"
                )
            if args.trainer or args.configuration or args.folds:
                raise UserError("-tr, -c and -f choose a model of a dataset", remedy="add -d ID, or leave them out")
            return folder_source(Path(args.predictions), references, dataset_json, args.partial)
        if args.partial:
            raise UserError("--partial belongs to -p PREDICTIONS -r REFERENCE", remedy="choose folds with -f")
        name = args.predictions or DEFAULT_PLANS
        if "__" in name:  # nnU-Net splits names of models there, so that no plans bear it
            if args.trainer or args.configuration:
                raise UserError(f"{name} names the trainer and the configuration", remedy="leave out -tr and -c")
        elif args.configuration is None:
            raise UserError("-d needs a configuration or the name of a model", remedy="add such as -c 3d_fullres")
        else:
            name = f"{args.trainer or DEFAULT_TRAINER}__{name}__{args.configuration}"
        return trained_source(args.dataset, name, args.folds, references, dataset_json)

    if args.processes is not None and args.processes < 1:
        raise UserError("-np is the number of worker processes", remedy="give 1 or more")
    columns = choose_columns(args.metrics, args.tolerance, args.brats)
    source = chosen_source()
    columns = columns.of_pictures() if source.pixels else columns
    folder = Path(args.output) if args.output else default_folder(source)
    done = evaluate(source, columns, folder, args.processes or default_processes())
    if args.json:
        print(json.dumps(done.summary, indent=2))
    else:
        print(as_text(done.summary))
    if done.reused:
        print(
            printable(f"{done.reused} of {done.summary['cases']} cases were measured before (same files and metrics)"),
            file=sys.stderr,
        )
    for note in done.summary["notes"]:
        print(printable(f"note: {note}"), file=sys.stderr)
    for case, problem in done.problems.items():
        print(printable(f"{case}: {problem}"), file=sys.stderr)
    if done.problems:
        print(f"{len(done.problems)} case(s) are not in the means, see above", file=sys.stderr)
    if not args.json:
        print(printable(f"wrote {folder / 'metrics.csv'} and metrics.json"))
        shown = source.cases[0].prediction.parent
        look = ["nnunet_ext", "overlay", "-i", "IMAGES", "-p", shown, "-r", source.references]
        look += ["-djfile", args.dataset_json] if args.dataset_json else []
        print(f"next: {command([*look, '-o', folder / 'overlay.png'])}")
    return 1 if done.problems else 0
