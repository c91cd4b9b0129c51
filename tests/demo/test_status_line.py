"""The progress line: which step, how many are left, about how long."""

from __future__ import annotations

import io

import pytest

from nnunet_ext.demo.status_line import StatusLine, rounded, seconds_left


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


STEPS = [("write", 10.0), ("train", 80.0), ("evaluate", 10.0)]


def test_the_estimate_is_the_expected_time_until_something_was_measured():
    assert seconds_left(0, 100, 0) == 100


def test_the_estimate_follows_the_pace_of_this_machine():
    assert seconds_left(50, 50, 50) == 50
    assert seconds_left(50, 50, 110) == 100
    assert seconds_left(1000, 50, 3000) == pytest.approx(150, rel=0.01)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "10 s"), (14, "10 s"), (16, "20 s"), (59, "1 min"), (75, "1 min 20 s"), (300, "5 min")],
)
def test_times_are_spoken_to_ten_seconds(seconds, text):
    assert rounded(seconds) == text


def test_the_line_names_step_parts_steps_to_go_and_time_left():
    clock, stream = Clock(), io.StringIO()
    with StatusLine(STEPS, stream, clock) as progress:
        progress.begin_step()
        clock.now += 10
        progress.part_done()
        progress.begin_step(parts=4)
        clock.now += 20
        progress.part_done()
    assert stream.getvalue().splitlines() == [
        "[step 1 of 3] write; 2 more steps, about 1 min 40 s left",
        "[step 2 of 3] train, 0 of 4 done; 1 more step, about 1 min 30 s left",
        "[step 2 of 3] train, 1 of 4 done; 1 more step, about 1 min 10 s left",
    ]


def test_the_estimate_counts_down_while_a_part_runs():
    clock = Clock()
    progress = StatusLine(STEPS, io.StringIO(), clock)
    progress.begin_step()
    clock.now += 40
    assert progress.line().endswith("about 1 min left")


def test_what_is_said_stands_above_the_line(capsys):
    stream = Terminal()
    with StatusLine(STEPS, stream, Clock()) as progress:
        progress.begin_step()
        progress.say("$ a command")
        assert stream.getvalue().endswith("\r\033[K")
    assert capsys.readouterr().out == "$ a command\n"


def test_on_a_terminal_the_line_is_replaced_not_repeated():
    stream = Terminal()
    with StatusLine(STEPS, stream, Clock()) as progress:
        progress.begin_step()
    assert "\n" not in stream.getvalue()
    assert stream.getvalue().endswith("\r\033[K"), "the line must be gone when the demo prints its results"
