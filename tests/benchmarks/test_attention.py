"""The benchmark of the attention family (benchmarks/attention.py) in its quick mode: a row for all that it measures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nnunet_ext.architectures.blocks.attention import ATTENTION

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "attention.py"
PASSES = ("forward", "forward+backward")


@pytest.fixture(scope="module")
def tables() -> dict[str, list[list[str]]]:
    """First words of a table's title -> its rows in words, in one run of all tables."""
    done = subprocess.run(
        [sys.executable, os.fspath(BENCHMARK), "--quick", "--networks", "PAMUNet", "PAMVNet"],
        env={**os.environ, "PYTHONPATH": os.fspath(BENCHMARK.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = {}
    for table in done.stdout.split("\n\n")[1:]:
        title, *rows = table.strip().splitlines()
        found[title.split(";")[0].split(" at ")[0].split(":")[0]] = [row.split() for row in rows[1:]]
    return found


def test_every_block_stands_beside_a_convolution_stage(tables: dict[str, list[list[str]]]) -> None:
    for dimension, absent in ((3, set()), (2, {"slice"})):
        rows = tables[f"blocks, {dimension}D"]
        assert {row[0].rstrip(",") for row in rows} == set(ATTENTION) - absent
        assert all(0 < float(row[-2]) < 100 and float(row[-1]) > 5 for row in rows)


def test_loops_are_compared_in_both_passes_and_batches(tables: dict[str, list[list[str]]]) -> None:
    expected = [
        [name, batch, kind] for name in ("slice", "csa", "sca", "pam") for batch in ("1", "2") for kind in PASSES
    ]
    assert [row[:3] for row in tables["loops"]] == expected
    assert all("goal" in row for row in tables["loops"])


def test_networks_stand_beside_nnunets_with_recomputation_and_without(tables: dict[str, list[list[str]]]) -> None:
    family = [[name, again] for name in ("PAMUNet", "PAMVNet") for again in ("no", "yes")]
    itself, alone, *steps = tables["steps"]
    assert (itself[0], alone[:2]) == ("itself", ["blocks", "alone"])
    assert [row[:2] for row in steps] == family
    assert [len(row) for row in steps] == [9, 11, 7, 9]  # goals of one, a backbone of the other
    for dimension in (3, 2):
        rows = tables[f"memory, {dimension}D"]
        assert [row[:2] for row in rows] == [["PlainConvUNet", "no"], *family]
        ratios = {tuple(row[:2]): float(row[4]) for row in rows}
        assert ratios["PlainConvUNet", "no"] == 1
        assert ratios["PAMUNet", "yes"] < ratios["PAMUNet", "no"] <= 1.2
