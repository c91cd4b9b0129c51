"""The fuzzer of our commands (benchmarks/robustness): the same seed gives the same inputs, and a few are tried."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).resolve().parents[2] / "benchmarks" / "robustness" / "fuzz.py"


@pytest.fixture
def fuzz(tmp_path: Path) -> Any:
    """``fuzz("--inputs", "10")``: exit code and rows of a run in a process of its own."""

    def run(*arguments: str) -> tuple[int, list[dict[str, Any]]]:
        done = subprocess.run(
            [sys.executable, os.fspath(FUZZ), os.fspath(tmp_path / "out"), "--work", os.fspath(tmp_path), *arguments],
            env={**os.environ, "PYTHONPATH": os.fspath(FUZZ.parents[2])},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert "cannot be made" not in done.stdout
        assert "Traceback" not in done.stderr, done.stderr[-3000:]
        return done.returncode, [
            json.loads(line) for line in (tmp_path / "out" / "inputs.jsonl").open(encoding="utf-8")
        ]

    return run


def test_ten_inputs_of_a_seed_are_done_or_refused_in_one_line_and_the_seed_alone_decides_them(fuzz: Any) -> None:
    kinds = ("--only", "archives", "pictures", "tables")
    code, tried = fuzz("--inputs", "10", "--seed", "4", *kinds)
    assert code == 0, [row for row in tried if row["class"] not in ("done", "refused in one line")]
    assert len(tried) == 10
    assert {row["kind"] for row in tried} == {"tables", "pictures", "archives"}
    assert all(row["code"] in (0, 2) and 0 < row["peak"] < 1.5e9 for row in tried)
    _, again = fuzz("--inputs", "3", "--seed", "4", "--show", *kinds)
    assert again == [{name: row[name] for name in again[0]} for row in tried[:3]]
