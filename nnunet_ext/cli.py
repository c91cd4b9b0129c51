"""The console command ``nnunet_ext``: a table of sub-commands, each imported only when it is called."""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from nnunet_ext import __version__
from nnunet_ext.errors import UserError
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
    Command(
        "info", "nnunet_ext.commands.info", "what is known of a dataset: layout, channels, labels, licence, citation"
    ),
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
        "a start checkpoint with published encoder weights, for nnU-Net's -pretrained_weights",
    ),
    Command(
        "estimate",
        "nnunet_ext.commands.estimate",
        "parameters, memory and arithmetic of trainers and plans, side by side",
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
        return args
    module.add_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of the console script. Exit codes: 0 done, 1 a check failed, 2 user error, 130 interrupted."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a name that its encoding lacks is shown as escapes, as on stderr
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        code = _run(sys.argv[1:] if argv is None else argv)
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
