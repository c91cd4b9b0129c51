"""The console command: its table, its exit codes, its speed of start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nnunet_ext.cli import COMMANDS, main
from nnunet_ext.errors import UserError


def test_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["-h"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    assert all(f"  {command.name} " in shown for command in COMMANDS)


def test_no_arguments_shows_the_overview_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize("command", [c.name for c in COMMANDS if not c.passes_arguments])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([command, "-h"])
    shown = capsys.readouterr().out
    assert stop.value.code == 0
    _, _, examples = shown.partition("example")
    assert f"nnunet_ext {command} " in examples, "every help text shows one real example"


def test_unknown_command_names_the_nearest_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["covert"]) == 2
    line = "error: unknown command 'covert' - did you mean convert? 'nnunet_ext -h' lists the commands\n"
    assert capsys.readouterr().err == line


def test_an_unknown_command_cannot_steer_the_screen(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["\x1b[2J\u202e"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown command '\\x1b[2J\\u202e'")


def test_a_name_that_the_screen_cannot_show_ends_no_command() -> None:
    code = "from nnunet_ext import cli\ncli._run = lambda argv: print('\\u4e16 \\udcff')\ncli.main(['x'])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "\\u4e16 \\udcff\n"


def test_user_error_is_one_line_with_code_file_and_remedy() -> None:
    error = UserError("compressed stream\nends early", file="a/b.nii.gz", remedy="download it again", code="GZ01")
    assert str(error) == "GZ01: compressed stream ends early (a/b.nii.gz) - download it again"


def test_user_error_survives_a_process_pool() -> None:
    import pickle

    error = UserError("text", file="f", remedy="r", code="C1")
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


@pytest.mark.parametrize(
    "argv", [["-h"], *(["list", what] for what in ("trainers", "networks", "planners", "datasets"))]
)
def test_listing_imports_no_heavy_package(argv: list[str]) -> None:
    code = (
        "import sys; from nnunet_ext.cli import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'numpy', 'SimpleITK', 'nnunetv2', 'pandas', 'tqdm')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
