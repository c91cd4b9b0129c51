"""``nnunet_ext evaluate``: the same numbers as nnU-Net and as the metrics, whatever happens in between."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from nnunet_ext.cli import main
from nnunet_ext.evaluation import run as running
from nnunet_ext.evaluation.masks import MaskPair
from nnunet_ext.evaluation.metrics import METRICS

LABELS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": [3]}
DATASET = {
    "channel_names": {"0": "T1"},
    "labels": LABELS,
    "regions_class_order": [1, 2, 3],
    "numTraining": 5,
    "file_ending": ".nii.gz",
}
REGIONS = {"whole": (1, 2, 3), "core": (2, 3), "enhancing": (3,)}
SPACING = (2.0, 1.0, 0.5)


@pytest.fixture
def folders(tmp_path, write_labels):
    """Five random cases: in one neither side has label 3, in one only the prediction has it."""
    rng = np.random.default_rng(17)
    for number, (predicted, known) in enumerate(((4, 4), (4, 4), (3, 3), (4, 3), (4, 4))):
        for folder, highest in (("predictions", predicted), ("references", known)):
            labels = rng.integers(0, highest, (6, 7, 8)) * (rng.random((6, 7, 8)) < 0.3)
            write_labels(tmp_path / folder / f"case_{number}.nii.gz", labels.astype(np.uint8), SPACING)
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    return tmp_path


def evaluate(folder, *more):
    return main(["evaluate", "-p", str(folder / "predictions"), "-r", str(folder / "references"), "-np", "1", *more])


def results(folder, name="predictions_evaluation"):
    return pd.read_csv(folder / name / "metrics.csv"), json.loads((folder / name / "metrics.json").read_text())


def test_means_are_those_of_nnunets_summary_json(folders, monkeypatch):
    from nnunetv2.evaluation.evaluate_predictions import compute_metrics_on_folder
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO

    class Pool:
        """nnU-Net's workers, in this process."""

        def __init__(self, *_): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def starmap(self, function, arguments):
            return [function(*each) for each in arguments]

    assert evaluate(folders) == 0
    _, ours = results(folders)
    monkeypatch.setattr(multiprocessing.get_context("spawn"), "Pool", Pool, raising=False)
    theirs = compute_metrics_on_folder(
        str(folders / "references"),
        str(folders / "predictions"),
        None,
        SimpleITKIO(),
        ".nii.gz",
        list(REGIONS.values()),
    )
    for metric in ("Dice", "IoU"):
        assert ours["foreground_mean"][metric]["mean"] == pytest.approx(theirs["foreground_mean"][metric])
        for region, values in REGIONS.items():
            assert ours["mean"][region][metric]["mean"] == pytest.approx(theirs["mean"][values][metric])
    assert ours["mean"]["enhancing"]["Dice"]["n"] == 4
    assert ours["mean"]["enhancing"]["Dice"]["undefined"] == 1
    assert ours["empty_masks"]["enhancing"] == {"both": 1, "prediction": 0, "reference": 1}


def test_every_number_of_the_table_is_that_of_the_metric_and_policies_stand_side_by_side(folders):
    from nnunet_ext.evaluation.images import read_label_map

    assert evaluate(folders, "--metrics", "all") == 0
    table, summary = results(folders)
    assert len(table) == 15
    for _, row in table.iterrows():
        labels = [read_label_map(folders / side / f"{row['case']}.nii.gz")[0] for side in ("predictions", "references")]
        pair = MaskPair(*(np.isin(each, REGIONS[row["region"]]) for each in labels), SPACING)
        for metric in METRICS:
            assert row[metric.name] == pytest.approx(metric.value(pair, "nnunet"), nan_ok=True), metric.name
            twin = f"{metric.name}_brats"
            assert (twin in table) == metric.follows_policy
            if twin in table:
                assert row[twin] == pytest.approx(metric.value(pair, "brats"), nan_ok=True), twin
    described = summary["columns"]
    assert (described["Dice"]["policy"], described["Dice_brats"]["policy"]) == ("nnunet", "brats")
    assert described["HD95"]["definition"] == "pooled"
    assert described["HD95_brats"]["empty_masks"]["reference"] == pytest.approx(373.12866, abs=1e-4)


def test_statistics_are_those_of_pandas(folders):
    evaluate(folders)
    table, summary = results(folders)
    for region, rows in table.groupby("region"):
        found = summary["mean"][region]["HD95"]
        values = rows["HD95"].dropna()
        assert found["n"] + found["undefined"] == 5
        assert found["n"] == len(values)
        expected = [values.mean(), values.std(), values.median(), values.quantile(0.25), values.quantile(0.75)]
        assert [found[key] for key in ("mean", "sd", "median", "q1", "q3")] == pytest.approx(expected)


def test_the_screen_names_policy_counts_and_what_to_type_next(folders, capsys):
    assert evaluate(folders, "--brats") == 0
    out = capsys.readouterr().out
    assert "policy" in out
    assert "empty masks of enhancing: both 1, reference 1" in out
    assert "LesionDice" in out
    assert out.splitlines()[-1].startswith("next: nnunet_ext overlay ")


def test_json_prints_the_file_alone(folders, capsys):
    assert evaluate(folders, "--json") == 0
    assert json.loads(capsys.readouterr().out) == results(folders)[1]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL")
def test_after_a_kill_the_same_command_goes_on_with_the_same_results(folders, monkeypatch, capsys):
    evaluate(folders, "-o", str(folders / "whole"))
    program = """
import os, signal, sys
from nnunet_ext.cli import main
from nnunet_ext.evaluation.journal import Journal
add, done = Journal.add, []
def kill_after_two(self, outcome):
    if len(done) == 2:
        self._file.write('{"case": "case_2", "sta')
        self._file.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    done.append(outcome)
    add(self, outcome)
Journal.add = kill_after_two
main(sys.argv[1:])
"""
    arguments = ["evaluate", "-p", str(folders / "predictions"), "-r", str(folders / "references"), "-np", "1"]
    killed = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (folders / "predictions_evaluation" / "metrics.csv").exists()
    measured = []
    monkeypatch.setattr(running, "measure", lambda task, go=running.measure: measured.append(task.case) or go(task))
    capsys.readouterr()
    assert evaluate(folders) == 0
    assert measured == ["case_2", "case_3", "case_4"]
    assert "2 of 5 cases were measured before" in capsys.readouterr().err
    for name in ("metrics.csv", "metrics.json"):
        assert (folders / "predictions_evaluation" / name).read_bytes() == (folders / "whole" / name).read_bytes()


def test_a_changed_file_is_measured_again_and_broken_lines_are_passed_over(folders, monkeypatch, write_labels):
    evaluate(folders)
    journal = folders / "predictions_evaluation" / "journal.jsonl"
    lines = journal.read_text().splitlines()
    damaged = json.loads(lines[2])
    damaged["rows"]["core"]["Dice"] = "much"
    lines[2] = json.dumps(damaged)
    journal.write_text("\n".join([*lines, "nonsense", "[" * 100, '{"case": "../x"}', ""]))
    labels = np.ones((6, 7, 8), dtype=np.uint8)
    write_labels(folders / "predictions" / "case_3.nii.gz", labels, SPACING)
    measured = []
    monkeypatch.setattr(running, "measure", lambda task, go=running.measure: measured.append(task.case) or go(task))
    assert evaluate(folders) == 0
    assert measured == ["case_1", "case_3"]
    table, _ = results(folders)
    assert table.loc[(table["case"] == "case_3") & (table["region"] == "whole"), "voxels_prediction"].item() == 336


@pytest.mark.parametrize(
    ("more", "what"),
    [(["--metrics", "Dice"], "metrics"), (["--tolerance", "3"], "tolerances"), (["--brats"], "challenge")],
)
def test_finished_results_are_not_replaced_by_those_of_something_else(folders, capsys, more, what):
    evaluate(folders)
    before = results(folders)[1]
    assert evaluate(folders, *more) == 2
    assert f"holds an evaluation with other {what}" in capsys.readouterr().err
    assert results(folders)[1] == before


def test_the_number_of_processes_changes_nothing(folders):
    arguments = ["evaluate", "-p", str(folders / "predictions"), "-r", str(folders / "references")]
    for processes in ("1", "2"):
        assert main([*arguments, "-np", processes, "-o", str(folders / processes)]) == 0
    for name in ("metrics.csv", "metrics.json"):
        assert (folders / "1" / name).read_bytes() == (folders / "2" / name).read_bytes()


def test_a_broken_and_a_missing_file_are_named_at_the_end_and_the_others_go_on(folders, capsys):
    file = folders / "predictions" / "case_1.nii.gz"
    file.write_bytes(file.read_bytes()[:60])
    (folders / "predictions" / "case_4.nii.gz").unlink()
    (folders / "references" / "case_0.nii.gz").unlink()
    assert evaluate(folders) == 1
    err = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in err[:3]] == ["case_0", "case_1", "case_4"]
    assert "no reference" in err[0]
    assert "broken gzip file" in err[1]
    assert "no prediction" in err[2]
    table, summary = results(folders)
    assert set(table["case"]) == {"case_2", "case_3"}
    assert set(summary["problems"]) == {"case_0", "case_1", "case_4"}


def test_partial_predictions_are_no_missing_cases(folders):
    (folders / "predictions" / "case_4.nii.gz").unlink()
    assert evaluate(folders, "--partial") == 0


def spoil(folders, write_labels, labels, spacing=SPACING, side="predictions"):
    for number in range(5):
        write_labels(folders / side / f"case_{number}.nii.gz", labels, spacing)


GOOD = np.zeros((6, 7, 8), dtype=np.uint8)


@pytest.mark.parametrize(
    ("labels", "spacing", "side", "message"),
    [
        (np.zeros((6, 7, 9), np.uint8), SPACING, "predictions", "does not fit its reference"),
        (GOOD, (2.0, 1.0, 1.0), "predictions", "does not fit its reference"),
        (GOOD + np.uint8(9), SPACING, "predictions", "dataset.json does not know the label 9"),
        (GOOD + np.uint8(9), SPACING, "references", "dataset.json does not know the label 9"),
        (np.full((6, 7, 8), 0.5), SPACING, "predictions", "whole numbers"),
        (np.full((6, 7, 8), np.nan), SPACING, "predictions", "the value nan"),
    ],
    ids=["shape", "spacing", "label", "label of the reference", "fractions", "nan"],
)
def test_where_no_case_fits_one_line_tells_the_file_and_the_remedy(
    folders, write_labels, capsys, labels, spacing, side, message
):
    spoil(folders, write_labels, labels, spacing, side)
    assert evaluate(folders) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: no case can be evaluated: case_0: ")
    assert message in line
    assert f"{side}/case_0.nii.gz" in line or "prediction (6" in line
    assert " - " in line
    assert "(and 4 more)" in line


def test_axes_that_lead_elsewhere_are_told_also_by_a_second_call(folders, capsys):
    import SimpleITK as sitk

    evaluate(folders, "-o", str(folders / "before"))
    file = folders / "predictions" / "case_2.nii.gz"
    image = sitk.ReadImage(str(file))
    image.SetDirection((-1, 0, 0, 0, -1, 0, 0, 0, 1))
    sitk.WriteImage(image, str(file))
    capsys.readouterr()
    for _ in range(2):
        assert evaluate(folders) == 0
        assert "note: in 1 case(s), such as case_2, the axes" in capsys.readouterr().err
    assert "such as case_2" in results(folders)[1]["notes"][0]
    # voxel by voxel, as nnU-Net compares them
    assert results(folders)[0].equals(results(folders, "before")[0])


def test_results_stay_where_a_later_call_finds_no_file_that_it_can_read(folders):
    assert evaluate(folders) == 0
    before = {file.name: file.read_bytes() for file in (folders / "predictions_evaluation").iterdir()}
    for file in (folders / "predictions").iterdir():
        file.write_bytes(b"")
    assert evaluate(folders) == 2
    assert {file.name: file.read_bytes() for file in (folders / "predictions_evaluation").iterdir()} == before


def test_after_nothing_could_be_evaluated_there_is_no_folder_and_a_mended_call_works(folders):
    good = (folders / "dataset.json").read_text()
    (folders / "dataset.json").write_text(json.dumps({**DATASET, "labels": {"background": 0, "other": 7}}))
    assert evaluate(folders) == 2
    assert not (folders / "predictions_evaluation").exists()
    (folders / "dataset.json").write_text(good)
    assert evaluate(folders) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "predictions", "-r", "predictions"], "same folder"),
        (["-p", "empty", "-r", "references"], "no \\*.nii.gz file"),
        (["-p", "predictions", "-r", "empty"], "no \\*.nii.gz file"),
        (["-p", "predictions", "-r", "nowhere"], "folder not found"),
        (["-p", "predictions"], "give -p PREDICTIONS -r REFERENCE"),
        (["-p", "predictions", "-r", "references", "-c", "2d"], "add -d ID"),
        (["-p", "predictions", "-r", "references", "-djfile", "no.json"], "dataset.json not found"),
        (["-p", "predictions", "-r", "references", "--metrics", "Dize"], "did you mean Dice"),
        (["-p", "predictions", "-r", "references", "-np", "0"], "-np"),
        (["-p", "predictions", "-r", "references", "-o", "predictions"], "among the label maps"),
        (["-p", "predictions", "-r", "references", "-o", "references/new"], "among the label maps"),
        (["-p", "predictions", "-r", "references", "-o", "other"], "holds other files"),
        (["-p", "predictions", "-r", "references", "-o", "dataset.json"], "not a folder"),
        (["-p", "predictions", "-r", "references", "-o", "results/x"], "nnU-Net's own folders"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_and_exit_code_2(folders, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(folders)
    monkeypatch.setenv("nnUNet_results", str(folders / "results"))
    for name in ("empty", "results", "other"):
        Path(name).mkdir()
    Path("other", "thesis.txt").write_text("mine")
    Path("empty", "dataset.json").write_text(json.dumps(DATASET))
    before = sorted(Path().rglob("*"))
    assert main(["evaluate", *arguments, *([] if "-djfile" in arguments else ["-djfile", "dataset.json"])]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert sorted(Path().rglob("*")) == before, "something was written"


def test_pictures_are_measured_in_pixels_and_said_so(tmp_path, write_labels, capsys):
    (tmp_path / "dataset.json").write_text(
        json.dumps({**DATASET, "labels": {"background": 0, "polyp": 1}, "file_ending": ".png"})
    )
    mask = np.zeros((32, 32), np.uint8)
    mask[10:20, 10:20] = 1
    write_labels(tmp_path / "references" / "a.png", mask)
    write_labels(tmp_path / "predictions" / "a.png", np.roll(mask, 2, 1))
    assert evaluate(tmp_path) == 0
    assert "distances are in pixels" in capsys.readouterr().out
    table, summary = results(tmp_path)
    assert summary["spacing_unit"] == "pixels"
    assert summary["columns"]["HD95"]["unit"] == "pixels"
    assert (table["Dice"].item(), table["HD95"].item()) == pytest.approx((0.8, 2.0))
    assert "NSD@1px" in table
    assert evaluate(tmp_path, "--brats", "-o", str(tmp_path / "brats")) == 2
    assert "leave out --brats" in capsys.readouterr().err


def test_a_tiff_volume_has_the_spacing_of_the_file_beside_it(tmp_path, write_labels):
    (tmp_path / "dataset.json").write_text(
        json.dumps({**DATASET, "labels": {"background": 0, "organ": 1}, "file_ending": ".tif"})
    )
    mask = np.zeros((9, 9, 9), np.uint8)
    mask[3:5, 2:6, 2:6] = 1
    for folder, labels in (("references", mask), ("predictions", np.roll(mask, 1, 0))):
        write_labels(tmp_path / folder / "a.tif", labels)
        (tmp_path / folder / "a.json").write_text('{"spacing": [3, 1, 1]}')
    assert evaluate(tmp_path) == 0
    table, summary = results(tmp_path)
    assert summary["spacing_unit"] == "mm"
    assert table["HD95"].item() == pytest.approx(3.0)


def test_ignored_voxels_count_nowhere(tmp_path, write_labels):
    labels = {"background": 0, "organ": 1, "ignore": 2}
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, "labels": labels}))
    write_labels(tmp_path / "references" / "a.nii.gz", np.array([[[1, 1, 2, 0]]], np.uint8))
    write_labels(tmp_path / "predictions" / "a.nii.gz", np.array([[[1, 1, 1, 0]]], np.uint8))
    assert evaluate(tmp_path, "--metrics", "Dice", "Specificity", "PixelAccuracy") == 0
    table, _ = results(tmp_path)
    assert table[["Dice", "Specificity", "PixelAccuracy"]].values.tolist() == [[1.0, 1.0, 1.0]]


def test_names_of_others_do_nothing_in_the_table_or_on_the_screen(tmp_path, write_labels, capsys):
    labels = {"background": 0, "=cmd()": 1, "a\x1b[2J\u202e": [1, 2]}
    (tmp_path / "dataset.json").write_text(json.dumps({**DATASET, "labels": labels, "regions_class_order": [1, 2]}))
    for folder in ("references", "predictions"):
        write_labels(tmp_path / folder / "-{0.__class__}.nii.gz", np.ones((3, 3, 3), np.uint8))
    assert evaluate(tmp_path) == 0
    captured = capsys.readouterr()
    assert (captured.out + captured.err).replace("\n", "").isprintable()
    table, summary = results(tmp_path)
    assert set(table["region"]) == {"'=cmd()", "a\\x1b[2J\\u202e"}
    assert set(table["case"]) == {"'-{0.__class__}"}
    assert set(summary["mean"]) == {"=cmd()", "a\x1b[2J\u202e"}


def test_a_region_that_no_case_shows_is_left_out_of_the_mean_of_regions_and_counted(tmp_path, write_labels):
    (tmp_path / "dataset.json").write_text(json.dumps(DATASET))
    for folder in ("references", "predictions"):
        write_labels(tmp_path / folder / "a.nii.gz", np.ones((4, 4, 4), np.uint8))
    assert evaluate(tmp_path) == 0
    table, summary = results(tmp_path)
    assert summary["foreground_mean"]["Dice"] == {"mean": 1.0, "regions": 1}
    assert summary["foreground_mean"]["Dice_brats"] == {"mean": 1.0, "regions": 3}
    assert summary["mean"]["core"]["Dice"]["mean"] is None
    assert math.isnan(table.loc[1, "Dice"])
    assert table["empty"].isna().tolist() == [True, False, False]


def test_a_worker_that_dies_is_one_line_and_what_was_measured_is_kept(folders, monkeypatch, capsys):
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    from nnunet_ext import pool

    class Executor:
        """Its second task kills a worker."""

        def __init__(self, *_, **__):
            self.tasks = 0

        def submit(self, work, task):
            self.tasks += 1
            future = Future()
            if self.tasks == 2:
                future.set_exception(BrokenProcessPool("killed"))
            else:
                future.set_result(work(task))
            return future

        def shutdown(self, **_): ...

    monkeypatch.setattr(pool, "ProcessPoolExecutor", Executor)
    arguments = ["evaluate", "-p", str(folders / "predictions"), "-r", str(folders / "references")]
    assert main([*arguments, "-np", "2"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "a worker process died, most often for lack of memory, at one of case_1, case_2 - use a smaller -np" in line
    assert main([*arguments, "-np", "1"]) == 0
    assert "1 of 5 cases were measured before" in capsys.readouterr().err


def test_two_evaluations_do_not_write_into_one_folder(folders, capsys):
    from nnunet_ext.evaluation.destination import taken

    with taken(folders / "predictions_evaluation"):
        assert evaluate(folders) == 2
    assert "another evaluation writes there" in capsys.readouterr().err
