"""Progress: a bar for a reader at a terminal, a line a minute in a log."""

from __future__ import annotations

import sys
import time

import pytest

from nnunet_ext import progress
from nnunet_ext.progress import Progress, with_progress


def test_a_log_gets_one_line_a_minute_with_the_time_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with Progress("convert", 10) as bar:
        for _ in range(4):
            now[0] += 40.0
            bar.step()
    assert capsys.readouterr().err.splitlines() == [
        "convert: 2/10 case, about 5 min left",
        "convert: 4/10 case, about 4 min left",
    ]


def test_short_work_says_nothing_in_a_log(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(iter("abc"), "evaluate", 3)) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_terminal_gets_a_bar_in_which_foreign_text_steers_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Progress("evaluate \x1b[2J", 2) as bar:
        bar.step()
        time.sleep(0.15)
        bar.step()
    shown = capsys.readouterr().err
    assert "2/2" in shown
    assert "\x1b[2J" not in shown


def test_a_log_shows_the_name_of_a_file_as_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with Progress("extracting \x1b[2J.tar.gz", 2) as bar:
        bar.step()
    assert capsys.readouterr().err.startswith(r"extracting \x1b[2J.tar.gz: 1/2")


def test_an_error_in_the_work_ends_the_bar_and_is_passed_on() -> None:
    def items():
        yield 1
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        list(with_progress(items(), "evaluate", 2))
