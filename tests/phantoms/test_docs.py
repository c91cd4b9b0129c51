"""The commands of the page on phantoms run, and its table names every dataset and layout."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from nnunet_ext.cli import main
from nnunet_ext.commands import phantom
from nnunet_ext.phantoms import DATASETS

PAGES = Path(__file__).resolve().parents[2] / "docs"
PAGE = (PAGES / "phantoms.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.mark.parametrize("group", [COMMANDS[:2], *([line] for line in COMMANDS[2:])], ids=lambda group: group[0])
def test_a_command_of_the_page_runs(group, nnunet_folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for line in group:
        program, *arguments = shlex.split(line)
        assert program == "nnunet_ext"
        assert main([*arguments, *(["-np", "1"] if arguments[0] == "convert" else [])]) == 0, line


def row_of(name: str) -> str:
    """The row on the page that names a dataset's layouts, or on the dataset's own page the one named phantom."""
    own = PAGES / "datasets" / f"{name}.md"
    lines = [*PAGE.splitlines(), *own.read_text(encoding="utf-8").splitlines()]
    (line,) = (line for line in lines if line.startswith((f"| {name} |", "| phantom |")))
    return line


def test_a_page_and_the_help_name_every_dataset_and_layout():
    import argparse

    parser = argparse.ArgumentParser()
    phantom.add_arguments(parser)
    for name, row in DATASETS.items():
        assert re.findall(r"`(\w+)`", row_of(name).split("|")[2]) == list(row.layouts)
        assert name in parser.format_help()


def test_the_page_tells_the_default_sizes():
    pictures = ("busi", "kvasir-seg")
    here = [name for name in DATASETS if f"| {name} |" in PAGE]
    assert {DATASETS[name].shape for name in here if name not in ("lgg", *pictures)} == {(32, 40, 40)}
    assert DATASETS["lgg"].shape == (12, 64, 64)
    assert {DATASETS[name].shape for name in pictures} == {(1, 80, 96)}
    assert "32 40 40 if not given, for lgg 12 64 64, for busi and kvasir-seg 1 80 96" in PAGE
