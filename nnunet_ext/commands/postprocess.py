"""``nnunet_ext postprocess``: a small region becomes what lies around it, as winners of BraTS did with the enhancing
tumour."""

from __future__ import annotations

import argparse
from pathlib import Path

#: of the smallest region of BraTS, as our conversions name it
DEFAULT_REGION = "enhancing tumor"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-d",
        dest="dataset",
        type=int,
        metavar="ID",
        help="find the threshold on the cross-validation of this dataset's model, given with -m",
    )
    parser.add_argument(
        "-m",
        dest="model",
        metavar="TRAINER__PLANS__CONFIGURATION",
        help="with -d: a model, or a folder below it or of an ensemble, as 'nnunet_ext evaluate -h' says",
    )
    parser.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help="with -m (default: those that are there)")
    parser.add_argument(
        "--region",
        default=DEFAULT_REGION,
        metavar="NAME",
        help=f"of dataset.json, which lies in a larger one (default: '{DEFAULT_REGION}')",
    )
    parser.add_argument("-i", dest="predictions", metavar="PREDICTIONS", help="apply a rule to this folder")
    parser.add_argument("--rule", metavar="FILE", help="with -i: what -d has written")
    parser.add_argument("-np", dest="processes", type=int, metavar="N", help="worker processes, each with one case")
    parser.add_argument(
        "-o",
        dest="output",
        required=True,
        metavar="OUT",
        help="with -d the file of the rule, with -i a new folder",
    )
    parser.epilog = (
        "examples: nnunet_ext postprocess -d 137 -m nnUNetTrainer__nnUNetPlans__3d_fullres -o rule.json\n"
        "          nnunet_ext postprocess -i predictions --rule rule.json -o postprocessed"
    )


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.errors import UserError

    if (args.dataset is None) == (args.predictions is None):
        raise UserError("say what to do", remedy="give -d ID -m MODEL to find a rule, or -i PREDICTIONS to apply one")
    return _find(args) if args.predictions is None else _apply(args)


def _find(args: argparse.Namespace) -> int:
    import tempfile

    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.columns import choose_columns
    from nnunet_ext.evaluation.regions import foreground
    from nnunet_ext.evaluation.rule_file import write_rule
    from nnunet_ext.evaluation.run import evaluate
    from nnunet_ext.evaluation.small_region import best_threshold, rule_for
    from nnunet_ext.evaluation.trained import trained_source
    from nnunet_ext.folders import default_processes
    from nnunet_ext.shown import command, printable

    if args.model is None:
        raise UserError("-d needs a model", remedy="add such as -m nnUNetTrainer__nnUNetPlans__3d_fullres")
    if args.rule is not None:
        raise UserError("--rule is for -i PREDICTIONS", remedy="leave it out: -o names the file that is written")
    source = trained_source(args.dataset, args.model, args.folds)
    rule = rule_for(foreground(source.dataset), args.region)
    with tempfile.TemporaryDirectory() as folder:
        done = evaluate(source, choose_columns(["Dice"]), Path(folder), args.processes or default_processes())
    if done.problems:
        case, problem = next(iter(done.problems.items()))
        raise UserError(
            f"{len(done.problems)} case(s) cannot be evaluated, such as {case}: {problem}",
            remedy="mend them: a threshold found on a part of the cases is none",
        )
    found = best_threshold(done.table, args.region)
    rule = rule_for(foreground(source.dataset), args.region, found.threshold)
    write_rule(Path(args.output), rule, found, source.dataset["file_ending"], source.name)
    print(f"mean Dice of '{printable(args.region)}' over {found.cases} cases, empty masks counted as BraTS does:")
    print(f"  as predicted {found.before:.4f}, with the rule {found.after:.4f}")
    if not found.threshold:
        print("no threshold helps: the rule that is written changes nothing")
    else:
        label = f"label {rule.replacement}"
        print(f"  below {found.threshold} voxels it becomes {label}, in {found.changed} of these cases")
        print("the threshold was chosen on these cases, so the gain on new ones is smaller")
    print(printable(f"wrote {args.output}"))
    print(f"next: {command(['nnunet_ext', 'postprocess', '-i', 'PREDICTIONS', '--rule', args.output, '-o', 'OUT'])}")
    return 0


def _apply(args: argparse.Namespace) -> int:
    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.rule_file import apply_rule, read_rule
    from nnunet_ext.shown import command, printable

    if args.rule is None:
        raise UserError("no rule was named", remedy="add --rule FILE, which 'nnunet_ext postprocess -d ID' writes")
    if args.model or args.folds:
        raise UserError("-m and -f find a rule", remedy="leave them out, or give -d ID instead of -i")
    rule, file_ending = read_rule(Path(args.rule))
    predictions = Path(args.predictions)
    if not predictions.is_dir():
        raise UserError("folder not found", file=predictions)
    changed = apply_rule(rule, file_ending, predictions, Path(args.output))
    print(printable(f"'{rule.region}' was removed in {changed} case(s); wrote {args.output}"))
    compared = ["nnunet_ext", "compare", predictions, args.output, "-r", "REFERENCE", "--policy", "brats"]
    print(f"next, where references are known: {command(compared)}")
    return 0
