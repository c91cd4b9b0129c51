"""``nnunet_ext evaluate`` with a dataset.json or a journal of somebody else: results or one line, and nothing else."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from nnunet_ext.cli import main

DATASET = {
    "channel_names": {"0": "T1"},
    "labels": {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3},
    "regions_class_order": [1, 2],
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
HOSTILE = (
    None, True, -1, 1 << 62, 10**400, 0.5, float("nan"), "", "..", "/x", "x\x00y", "**x", "{0.__class__}", "a\x1b",
    "a\u202eb", "x" * 300, [], [[]], [1 << 62], {}, {"": []}, "=cmd()",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path, write_labels):
    rng = np.random.default_rng(3)
    for side in ("predictions", "references"):
        for case in ("a", "b"):
            write_labels(tmp_path / side / f"{case}.nii.gz", rng.integers(0, 3, (3, 4, 5)).astype(np.uint8))
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    return tmp_path


def evaluate(folder, capsys):
    """Exit code and lines of the error; whatever is shown can be printed."""
    code = main(
        [
            "evaluate",
            "-p",
            str(folder / "predictions"),
            "-r",
            str(folder / "references"),
            "-np",
            "1",
            "--metrics",
            "Dice",
        ]
    )
    shown = capsys.readouterr()
    assert (shown.out + shown.err).replace("\n", "").isprintable()
    assert code in (0, 1, 2)
    if code == 2:
        assert len(shown.err.splitlines()) == 1
    return code


def test_a_changed_dataset_json_gives_results_or_one_line(folder, capsys):
    random_, codes = random.Random("evaluate"), []
    for number in range(80):
        content = json.loads(json.dumps(DATASET))
        holder = random_.choice([content, content["labels"], content["labels"]])
        key = random_.choice(list(holder))
        if random_.random() < 0.2:
            holder[random_.choice(("", "a\x1b\u202e", "**", "../x", "=1+1"))] = holder.pop(key)
        else:
            holder[key] = random_.choice(HOSTILE)
        (folder / "dataset.json").write_text(json.dumps(content))
        codes.append(evaluate(folder, capsys))
        results = folder / "predictions_evaluation"
        if results.exists():
            results.rename(folder / f"results_{number}")
    assert {code for code in codes if codes.count(code) > 5} >= {0, 2}


def test_a_damaged_journal_gives_the_same_results_or_is_refused(folder, capsys):
    assert evaluate(folder, capsys) == 0
    results = folder / "predictions_evaluation"
    journal, expected = results / "journal.jsonl", (results / "metrics.csv").read_bytes()
    good, random_ = journal.read_bytes(), random.Random("journal")
    head = good.index(b"\n")
    for _ in range(20):
        # no byte of the journal is a question mark, and no number or name of ours holds one
        for first, last, code in ((0, head, 2), (head + 1, len(good), 0)):
            at = random_.randrange(first, last)
            journal.write_bytes(good[:at] + b"?" + good[at + 1 :])
            assert evaluate(folder, capsys) == code, journal.read_bytes()
            assert (results / "metrics.csv").read_bytes() == expected
        journal.write_bytes(good[: random_.randrange(len(good))])
        assert evaluate(folder, capsys) == 0
        assert (results / "metrics.csv").read_bytes() == expected, "a line that was cut off has counted"


@pytest.mark.parametrize("content", [b"", b"\x00" * 50, b"[" * 5000 + b"\n", b'{"kind": 1}\n', b"null\n"])
def test_a_journal_that_is_none_is_replaced_if_it_is_less_than_a_line_and_refused_otherwise(folder, capsys, content):
    results = folder / "predictions_evaluation"
    results.mkdir()
    (results / "journal.jsonl").write_bytes(content)
    assert evaluate(folder, capsys) == (2 if content.endswith(b"\n") else 0)
