"""The console command ``nnunet_ext``: a table of sub-commands, each imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nnunet_ext import __version__
from nnunet_ext.errors import UserError, reason_of
from nnunet_ext.lookup import did_you_mean


@dataclass(frozen=True)
class Command:
    """One row of the table.

    ``module`` offers ``add_arguments(parser)`` and ``run(args) -> int``. A command whose options depend on what it is
    given offers ``parse(parser, argv) -> Namespace`` as well. A command that hands its arguments unread to nnU-Net
    (``passes_arguments``) offers ``run(argv) -> int`` alone.
    """

    name: str
    module: str
    help: str
    passes_arguments: bool = False


COMMANDS: tuple[Command, ...] = (
    Command("convert", "nnunet_ext.commands.convert", "turn a downloaded dataset into nnU-Net's raw format"),
    Command("info", "nnunet_ext.commands.info", "what is known of a dataset, a network or a trainer"),
    Command(
        "to-submission", "nnunet_ext.commands.to_submission", "turn predictions back into the challenge's own format"
    ),
    Command(
        "phantom", "nnunet_ext.commands.phantom", "write a small synthetic download in the layout of a real dataset"
    ),
    Command(
        "plan", "nnunet_ext.commands.plan", "plans for a network of ours that fit a GPU, for nnU-Net's own commands"
    ),
    Command(
        "pretrained",
        "nnunet_ext.commands.pretrained",
        "a start checkpoint with published weights, of encoders or of all, for nnU-Net's -pretrained_weights",
    ),
    Command(
        "estimate",
        "nnunet_ext.commands.estimate",
        "parameters, memory and arithmetic of trainers and plans, side by side",
    ),
    Command(
        "evaluate",
        "nnunet_ext.commands.evaluate",
        "predictions against references: Dice, HD95, surface Dice, BraTS's lesion-wise scores, by case and in the mean",
    ),
    Command(
        "compare",
        "nnunet_ext.commands.compare",
        "methods over the same cases: differences with intervals, paired tests and ranks, and what can be said of them",
    ),
    Command(
        "postprocess",
        "nnunet_ext.commands.postprocess",
        "a small enhancing tumour becomes necrosis, as winners of BraTS did: find the threshold, or apply it",
    ),
    Command(
        "overlay",
        "nnunet_ext.commands.overlay",
        "a picture of predictions: worst, median and best case with reference and errors",
    ),
    Command(
        "attention",
        "nnunet_ext.commands.attention",
        "what the attention of a trained network does in one case: maps, slice weights, channel weights",
    ),
    Command("list", "nnunet_ext.commands.list", "list trainers, networks, datasets or planners"),
    Command(
        "doctor",
        "nnunet_ext.commands.doctor",
        "check the installation, the folders and a dataset; each problem with its remedy",
    ),
    Command("demo", "nnunet_ext.commands.demo", "the whole path on phantoms, from download to ensembled prediction"),
    Command("train", "nnunet_ext.commands.train", "nnUNetv2_train where the plugin is not found by itself", True),
    Command("predict", "nnunet_ext.commands.predict", "nnUNetv2_predict where the plugin is not found by itself", True),
)


def _overview() -> argparse.ArgumentParser:
    width = max(len(command.name) for command in COMMANDS)
    rows = "\n".join(f"  {command.name:<{width}}  {command.help}" for command in COMMANDS)
    parser = argparse.ArgumentParser(
        prog="nnunet_ext",
        usage="nnunet_ext COMMAND [options]",
        description="Networks and datasets for nnU-Net v2. Train and predict with nnU-Net's own commands.",
        epilog=f"commands:\n{rows}\n\n'nnunet_ext COMMAND -h' explains one command.\n"
        "example: nnunet_ext convert brats2021 -i DOWNLOAD -d 137",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nnunet_ext {__version__}")
    parser.add_argument("command", nargs="?", help=argparse.SUPPRESS)
    return parser


def _find(name: str) -> Command:
    for command in COMMANDS:
        if command.name == name.replace("_", "-"):
            return command
    known = [command.name for command in COMMANDS]
    raise UserError(f"unknown command '{name}'", remedy=did_you_mean(name, known, "'nnunet_ext -h' lists the commands"))


def _run(argv: Sequence[str]) -> int:
    if not argv or argv[0].startswith("-"):
        parser = _overview()
        parser.parse_args(argv)
        parser.print_help()
        return 0 if argv else 2
    command = _find(argv[0])
    module = importlib.import_module(command.module)
    if command.passes_arguments:
        return int(module.run(list(argv[1:])) or 0)
    return int(module.run(parse(command, argv[1:])) or 0)


def parse(command: Command, argv: Sequence[str]) -> argparse.Namespace:
    """The arguments of a command that does not pass them on."""
    module = importlib.import_module(command.module)
    parser = argparse.ArgumentParser(
        prog=f"nnunet_ext {command.name}",
        description=command.help[0].upper() + command.help[1:] + ".",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if hasattr(module, "parse"):
        args: argparse.Namespace = module.parse(parser, argv)
    else:
        module.add_arguments(parser)
        args = parser.parse_args(argv)
    _refuse_double_hyphens(parser, args)
    return args


def _refuse_double_hyphens(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """``--splits=--``: argparse drops the value, and an empty list takes its place."""
    for action in parser._actions:
        value: Any = getattr(args, action.dest, None)
        given = action.option_strings and value is not action.default and isinstance(value, list)
        if given and (value == [] or [] in value):
            raise UserError(f"{action.option_strings[0]} needs a value, and -- is none")


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Exit codes: 0 done, 1 a check failed, 2 user error, 130 interrupted.

    What the system refuses (files, memory, depth, encodings) and nobody has foreseen is one line too. Any other
    exception is a bug and keeps its trace.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that its encoding lacks is shown as escapes, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    argv = sys.argv[1:] if argv is None else argv
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except UserError as error:
        colon = " " if error.code else ": "
        print(f"error{colon}{error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output (head, less) is gone; closing quietly is what other tools do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (OSError, UnicodeError, MemoryError, RecursionError) as error:
        if _passes_arguments(argv):
            raise  # out of nnU-Net's own command, which shows a trace
        print(f"error: {_unforeseen(error)}", file=sys.stderr)
        return 2


def _passes_arguments(argv: Sequence[str]) -> bool:
    return any(command.passes_arguments and argv[:1] == [command.name] for command in COMMANDS)


def _unforeseen(error: BaseException) -> UserError:
    """One line for a circumstance that no reader of a file has foreseen: what, which file, and where in our code."""
    if isinstance(error, MemoryError):
        message, remedy = "there is not enough memory", "use fewer processes or a machine with more memory"
    elif isinstance(error, OSError):
        message, remedy = error.strerror or reason_of(error), "check space, path and permissions"
    else:
        message, remedy = f"{type(error).__name__}: {reason_of(error)}", "check the names and the files that were given"
    named = error.filename if isinstance(error, OSError) else None
    file = os.fsdecode(named) if isinstance(named, (str, bytes)) else None
    package = os.path.dirname(os.path.abspath(__file__))  # noqa: PTH120, PTH100 - pathlib costs time at the start
    frames = [f"{name[len(package) + 1 :]}:{line}" for name, line in _places(error) if name.startswith(package)]
    where = ", ".join([f"nnunet_ext {__version__}", *frames[-1:]])
    return UserError(
        message, file, f"{remedy}; if that does not help, report this line where you got the plugin: {where}"
    )


def _places(error: BaseException) -> Iterator[tuple[str, int]]:
    """File and line of each call, the outermost first; of a very deep recursion too, which formatting would not end."""
    trace = error.__traceback__
    while trace is not None:
        yield trace.tb_frame.f_code.co_filename, trace.tb_lineno
        trace = trace.tb_next
