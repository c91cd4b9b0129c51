"""``nnunet_ext compare``: methods over the same cases, with intervals, tests, ranks, and what can be said of it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnunet_ext.evaluation.sources import Source


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "methods",
        nargs="+",
        metavar="METHOD",
        help="folders of predictions; with -d models by name, such as TRAINER__PLANS__CONFIGURATION, or folders below "
        "them or of ensembles, as 'nnunet_ext evaluate -h' says. The first is what the others are set against",
    )
    parser.add_argument("-r", dest="references", metavar="REFERENCE", help="folder of references (needed without -d)")
    parser.add_argument("-d", dest="dataset", type=int, metavar="ID", help="cross-validation of this dataset")
    parser.add_argument("-f", dest="folds", nargs="+", metavar="FOLD", help="of models; those that are there if none")
    parser.add_argument("-djfile", dest="dataset_json", metavar="FILE", help="dataset.json, as for evaluate")
    parser.add_argument("--metrics", nargs="+", metavar="NAME", help="as for evaluate (default: Dice HD95)")
    parser.add_argument("--tolerance", nargs="+", type=float, metavar="MM", help="of NSD")
    parser.add_argument(
        "--policy",
        choices=("nnunet", "brats"),
        default="nnunet",
        help="what an empty mask counts: nothing, the case is left out for all (default), or as BraTS counts it",
    )
    parser.add_argument(
        "--groups",
        metavar="CSV",
        help="columns case and group: cases that belong together, such as slices of a patient, count as one (with -d "
        "known for datasets that nnunet_ext converted)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the bootstrap (default: 0)")
    parser.add_argument("-np", dest="processes", type=int, metavar="N", help="worker processes, each with one case")
    parser.add_argument("-o", dest="output", metavar="OUT", help="folder of the results (default: comparison)")
    parser.add_argument("--json", action="store_true", help="print comparison.json instead of tables")
    parser.epilog = (
        "example: nnunet_ext compare -d 137 nnUNetTrainer__nnUNetPlans__3d_fullres "
        "nnUNetTrainerCFNet__nnUNetPlans__3d_fullres"
    )


def run(args: argparse.Namespace) -> int:
    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.columns import choose_columns
    from nnunet_ext.evaluation.comparison import compare
    from nnunet_ext.evaluation.comparison_text import as_json, as_table, as_text, metric_columns
    from nnunet_ext.evaluation.run import evaluate
    from nnunet_ext.files import write_atomically
    from nnunet_ext.folders import default_processes
    from nnunet_ext.shown import printable

    if len(args.methods) < 2:
        raise UserError("one method alone cannot be compared", remedy="name two or more")
    columns = choose_columns(args.metrics or ["Dice", "HD95"], args.tolerance)
    sources = _sources(args)
    first = next(iter(sources.values()))
    columns = columns.of_pictures() if first.pixels else columns
    folder = Path(args.output or "comparison")
    tables, summaries = {}, {}
    for number, (name, source) in enumerate(sources.items(), start=1):
        done = evaluate(
            source, columns, folder / f"{number}_{source.name[-100:]}", args.processes or default_processes()
        )
        if done.problems:
            case, problem = next(iter(done.problems.items()))
            raise UserError(
                f"{len(done.problems)} case(s) of {name} cannot be evaluated, such as {case}: {problem}",
                remedy="mend them: methods are compared on the same cases alone",
            )
        tables[name], summaries[name] = done.table, done.summary
    groups = _groups(args, list(tables[next(iter(tables))]["case"].unique()))
    found = compare(tables, metric_columns(columns, args.policy), groups, args.seed)
    content = as_json(found, args.policy, args.seed, groups, summaries)
    with write_atomically(folder / "comparison.json") as stream:
        stream.write((json.dumps(content, indent=2) + "\n").encode())
    with write_atomically(folder / "comparison.csv") as stream:
        stream.write(as_table(found).encode())
    if args.json:
        print(json.dumps(content, indent=2))
        return 0
    print(as_text(found, args.policy, groups is not None))
    print(printable(f"wrote {folder / 'comparison.csv'} and comparison.json"))
    return 0


def _sources(args: argparse.Namespace) -> dict[str, Source]:
    """Name to show -> what is evaluated.

    Raises:
        UserError: a folder or model is not there, one is named twice, or they do not fit together.
    """
    from nnunet_ext.errors import UserError
    from nnunet_ext.evaluation.sources import folder_source
    from nnunet_ext.evaluation.trained import trained_source

    dataset_json = Path(args.dataset_json) if args.dataset_json else None
    references = Path(args.references) if args.references else None
    if args.dataset is None and references is None:
        raise UserError("say what the methods are compared with", remedy="give -r REFERENCE, or -d ID")
    if args.dataset is None and args.folds:
        raise UserError("-f chooses folds of a dataset's models", remedy="add -d ID, or leave it out")
    found: dict[str, Any] = {}
    for typed in args.methods:
        if args.dataset is None:
            assert references is not None
            source = folder_source(Path(typed), references, dataset_json)
        else:
            source = trained_source(args.dataset, typed, args.folds, references, dataset_json)
        for name, other in found.items():
            if other.predictions.samefile(source.predictions):
                raise UserError(f"{typed} and {name} are the same predictions", remedy="name each once")
            if not other.references.samefile(source.references):
                raise UserError(f"{typed} and {name} have other references", remedy="give -r REFERENCE")
            if other.folds != source.folds:
                raise UserError(
                    f"{name} has the folds {', '.join(other.folds) or 'none'} and {typed} has "
                    f"{', '.join(source.folds) or 'none'}",
                    remedy="choose those that both have with -f, or train the others",
                )
        found[typed] = source
    return found


def _groups(args: argparse.Namespace, cases: list[str]) -> dict[str, str] | None:
    """Case -> group, from the file that was given, or from the record of a dataset's conversion."""
    from nnunet_ext.dataset_conversion.find.tables import read_groups
    from nnunet_ext.dataset_conversion.record_forms import groups_of
    from nnunet_ext.folders import RAW, dataset_name, nnunet_folder

    if args.groups:
        return read_groups(args.groups, cases)
    raw = nnunet_folder(RAW)
    if args.dataset is None or raw is None:
        return None
    known = groups_of(Path(raw) / dataset_name(args.dataset, (RAW,)))
    if known is None or not set(cases) <= set(known) or len({known[case] for case in cases}) == len(cases):
        return None
    return {case: known[case] for case in cases}
