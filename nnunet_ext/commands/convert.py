"""``nnunet_ext convert``: a downloaded dataset becomes nnU-Net's raw format."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from nnunet_ext.dataset_conversion.description import Choice, Dataset
from nnunet_ext.errors import UserError
from nnunet_ext.shown import command

_EXAMPLES = """\
examples:
  nnunet_ext convert brats2021 -i DOWNLOAD -d 137
  nnunet_ext convert lgg --as 3d -i kaggle_3m
  nnunet_ext convert auto -i archive.zip --dry-run

'nnunet_ext convert --list' names the datasets, 'nnunet_ext info NAME' tells what is known of one. 'nnunet_ext convert
NAME -h' shows the options of that dataset as well; auto takes none of these.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = _EXAMPLES
    parser.add_argument("name", nargs="?", help="the dataset, or auto for the only one that fits")
    parser.add_argument(
        "-i",
        dest="sources",
        metavar="SOURCE",
        action="append",
        default=[],
        help="folder at any level of the download, or an archive of it; may be repeated",
    )
    parser.add_argument(
        "-d", dest="dataset_id", metavar="ID", help="nnU-Net dataset id, 1 to 999 (default: the dataset's own)"
    )
    parser.add_argument("-o", dest="output", metavar="FOLDER", help="instead of the folder nnUNet_raw")
    parser.add_argument("-n", dest="folder_name", metavar="DATASETNAME", help="what follows DatasetXXX_")
    parser.add_argument(
        "-np", dest="processes", metavar="N", type=int, help="worker processes (default: the cores, at most 8)"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="show what would be done; no voxel is read, nothing written"
    )
    parser.add_argument(
        "--link",
        default="auto",
        choices=("auto", "symlink", "hard", "copy"),
        help="how unchanged images get into nnUNet_raw (default: auto)",
    )
    parser.add_argument(
        "--splits", default="5", metavar="K|FILE", help="number of folds (default 5), 0 for none, or a json file"
    )
    parser.add_argument("--seed", type=int, default=12345, help="of the folds (default: nnU-Net's 12345)")
    parser.add_argument(
        "--groups", metavar="CSV", help="table with the columns case and group: what must stay in one fold"
    )
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument(
        "--allow",
        metavar="CODE",
        nargs="+",
        action="extend",
        default=[],
        help="let an error pass as a warning, where that makes sense (docs/checks.md)",
    )
    parser.add_argument(
        "--limit", metavar="N", type=int, help="only the first N training and test cases, to try things out"
    )
    parser.add_argument(
        "--exclude-overlap",
        metavar="DatasetXXX_NAME",
        nargs="+",
        action="extend",
        default=[],
        help="leave out cases that this dataset in nnUNet_raw holds too",
    )
    parser.add_argument(
        "--resize", metavar="WxH", help="bring pictures to this size, such as 224x224; to-submission undoes it"
    )
    parser.add_argument(
        "--rgb-norm",
        default="zscore",
        choices=("zscore", "0_1"),
        help="how nnU-Net shall normalise pictures: each by its own mean and deviation (default), or 0..255 to 0..1",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with an interrupted conversion, which is also the default"
    )
    parser.add_argument(
        "--restart", action="store_true", help="remove an earlier conversion in the folder and begin anew"
    )
    parser.add_argument("--verify", action="store_true", help="run nnU-Net's own integrity check at the end")
    parser.add_argument("--json", action="store_true", help="print one json document instead of text")
    parser.add_argument("--list", action="store_true", help="list the datasets")


def parse(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments, with the options of the dataset that they name; what was chosen is under ``choices``.

    Raises:
        UserError: for an option that belongs to other datasets alone.
    """
    add_arguments(parser)
    dataset = _named_dataset(argv)
    own = () if dataset is None else dataset.choices
    group = parser.add_argument_group(f"options of {dataset.name}") if dataset is not None and own else None
    for choice in own:
        assert group is not None
        _add_choice(group, choice)
    args, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(parser, args.name, unknown)
    args.choices = {
        choice.name: getattr(args, _destination(choice)) for choice in own if hasattr(args, _destination(choice))
    }
    return args


def _destination(choice: Choice) -> str:
    return f"choice_{choice.name}"


def _add_choice(group: Any, choice: Choice) -> None:
    """Add an option without a default, so that it is in the namespace only where it was given."""
    how: dict[str, Any] = {"dest": _destination(choice), "default": argparse.SUPPRESS, "help": choice.help}
    if choice.values:
        group.add_argument(choice.flag, metavar="|".join(choice.values), **how)
    elif choice.default:
        group.add_argument(choice.flag, action=argparse.BooleanOptionalAction, **how)
    else:
        group.add_argument(choice.flag, action="store_true", **how)


class _NameOnly(argparse.ArgumentParser):
    """Reads the name that the arguments give, and leaves everything else for a second look."""

    def error(self, message: str) -> NoReturn:
        raise argparse.ArgumentError(None, message)


def _named_dataset(argv: Sequence[str]) -> Dataset | None:
    """The dataset that the arguments name.

    Which word is the name depends on which options take a value, and that on the dataset: each word that is the name
    of a dataset is tried with that dataset's options.
    """
    from nnunet_ext.dataset_conversion.datasets import find

    wrong = None
    for word in argv:
        dataset = find(word)
        if dataset is None:
            continue
        parser = _NameOnly(add_help=False)
        add_arguments(parser)
        for choice in dataset.choices:
            _add_choice(parser, choice)
        try:
            args, _ = parser.parse_known_args(argv)
        except argparse.ArgumentError:
            wrong = wrong or dataset  # the message is for the parser that the user gets
            continue
        if args.name is not None and find(args.name) is dataset:
            return dataset
    return wrong


def _refuse(parser: argparse.ArgumentParser, name: str | None, unknown: Sequence[str]) -> NoReturn:
    """One line for options of other datasets; argparse's message for what no dataset knows."""
    from nnunet_ext.dataset_conversion.choices import check_none, no_such_choice
    from nnunet_ext.dataset_conversion.datasets import AUTO, DATASETS, find, get

    flags = {choice.flag: choice for other in DATASETS for choice in get(other).choices}
    automatic = AUTO in (word.casefold() for word in (name or "", *unknown))
    for word in unknown:
        flag = word.partition("=")[0]
        choice = flags.get(flag) or flags.get(flag.replace("--no-", "--", 1))
        if choice is not None and automatic:
            check_none({choice.name: True})
        if choice is not None and (dataset := find(name or "")) is not None:
            raise no_such_choice(dataset, flag)
    if name is not None and not automatic:
        get(name)
    parser.error(f"unrecognized arguments: {' '.join(unknown)}")


def run(args: argparse.Namespace) -> int:
    if args.list:
        from nnunet_ext.dataset_conversion.datasets import DATASETS, get
        from nnunet_ext.dataset_conversion.reporting.facts import one_line_each

        print(one_line_each(get(name) for name in DATASETS))
        return 0
    if args.name is None or not args.sources:
        raise UserError("a dataset and a source are needed", remedy="nnunet_ext convert NAME -i SOURCE")
    from nnunet_ext.dataset_conversion.convert import convert
    from nnunet_ext.dataset_conversion.options import Options, parse_size, parse_splits
    from nnunet_ext.dataset_conversion.reporting import summary

    try:
        conversion = convert(
            args.name,
            args.sources,
            Options(
                dataset_id=args.dataset_id,
                output=args.output,
                name=args.folder_name,
                processes=args.processes,
                link=args.link,
                splits=parse_splits(args.splits),
                seed=args.seed,
                groups=args.groups,
                strict=args.strict,
                allow=tuple(args.allow),
                limit=args.limit,
                resume=args.resume,
                restart=args.restart,
                exclude_overlap=tuple(args.exclude_overlap),
                resize=None if args.resize is None else parse_size(args.resize),
                rgb_norm=args.rgb_norm,
                dry_run=args.dry_run,
                command=tuple(sys.argv),
                choices=args.choices,
            ),
        )
    except KeyboardInterrupt:
        print(f"interrupted; go on with: {command(sys.argv)}", file=sys.stderr)
        return 130
    if args.verify and conversion.complete:
        summary.verify(conversion, args.processes)
    print(json.dumps(summary.as_json(conversion), indent=2) if args.json else summary.as_text(conversion))
    return summary.exit_code(conversion)
