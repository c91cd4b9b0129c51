"""The console command: its table, its exit codes, its speed of start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_ext import __version__
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
    line = capsys.readouterr().err
    assert line.startswith("error: unknown command 'covert' - did you mean convert")
    assert line.endswith("? 'nnunet_ext -h' lists the commands\n")


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


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (OSError(28, "No space left on device", "a/b.json"), "error: No space left on device (a/b.json) - check space"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), "error: UnicodeDecodeError: 'utf-8' codec"),
        (MemoryError(), "error: there is not enough memory - use fewer processes"),
        (RecursionError("too deep"), "error: RecursionError: too deep - "),
    ],
)
def test_what_the_system_refuses_is_one_line_that_can_be_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("nnunet_ext.commands.info.run", fail)
    assert main(["info", "busi"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(told)
    assert line.endswith(f"report this line where you got the plugin: nnunet_ext {__version__}, {line.split(', ')[-1]}")
    assert "cli.py:" in line, "where in our code"


def test_an_endless_recursion_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def again(*_: object) -> int:
        return again()

    monkeypatch.setattr("nnunet_ext.commands.info.run", again)
    assert main(["info", "busi"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("error", [ValueError, KeyError, RuntimeError, AssertionError])
def test_a_bug_keeps_its_trace(monkeypatch: pytest.MonkeyPatch, error: type[Exception]) -> None:
    def fail(*_: object) -> int:
        raise error

    monkeypatch.setattr("nnunet_ext.commands.info.run", fail)
    with pytest.raises(error):
        main(["info", "busi"])


def test_nnunets_own_commands_keep_their_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise FileNotFoundError("in nnU-Net")

    monkeypatch.setattr("nnunet_ext.commands.train.run", fail)
    with pytest.raises(FileNotFoundError):
        main(["train", "137", "2d", "0"])


def test_doctor_tells_of_an_nnunet_that_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "nnunetv2").mkdir()
    (tmp_path / "nnunetv2" / "__init__.py").write_text("raise RuntimeError('it is broken\\nand more')")
    done = subprocess.run(
        [sys.executable, "-m", "nnunet_ext", "doctor", "-d", "137", "--files"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "cannot be imported: it is broken\n" in done.stdout
    assert "trainers and datasets cannot be looked at: it is broken\n" in done.stdout


@pytest.mark.parametrize("name", ["os", "torch", "x" * 10000, "a\nb", "", "../x", "nnUNetTrainerCFNet_" + "1" * 5000])
def test_a_trainer_that_cannot_be_is_told(name: str) -> None:
    from nnunet_ext.doctor.trainers import check_trainers
    from nnunet_ext.trainers.estimates import network_to_plan, trainer_class

    for look in (trainer_class, lambda name: network_to_plan(None, name)):
        with pytest.raises(UserError) as told:
            look(name)
        assert len(str(told.value)) < 300
    (finding,) = check_trainers([name])
    assert finding.status == "problem"
    assert len(finding.text) < 300
