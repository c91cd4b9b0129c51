"""Tables of text."""

from __future__ import annotations

from nnunet_ext.shown import text_table


def test_columns_of_text_begin_and_columns_of_figures_end_below_each_other() -> None:
    table = text_table([["network", "GB"], ["CFNet", "7.6"], ["CFFormer", "12.0"]], right=[1])
    assert table.splitlines() == ["network     GB", "CFNet      7.6", "CFFormer  12.0"]


def test_lines_end_with_their_last_letter() -> None:
    assert text_table([["a", "summary"], ["bc", "x"], ["d", ""]]).splitlines() == ["a   summary", "bc  x", "d"]


def test_cells_from_files_steer_no_screen() -> None:
    assert text_table([["case"], ["\x1b[2J"]]) == "case\n\\x1b[2J"
