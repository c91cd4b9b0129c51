"""Training curves: nnU-Net's own log lines are read right, whatever state the training is in."""

from __future__ import annotations

import os

import pytest

from nnunet_ext.errors import UserError
from nnunet_ext.report import curves
from nnunet_ext.report.curves import (
    read_model,
    read_training_log,
    training_curves,
    write_training_curves,
)

STAMP = "2026-11-21 11:20:33.123456: "


def epoch_lines(number, train, validation, dice, seconds=1.5, finished=True):
    lines = ["", f"Epoch {number} ", "Current learning rate: 1e-05 ", f"train_loss {train} ", f"val_loss {validation} "]
    lines += [f"Pseudo dice [{dice}] "]
    return [STAMP + line for line in [*lines, *([f"Epoch time: {seconds} s "] if finished else [])]]


def write_log(fold, lines, name="training_log_2026_11_21_11_20_33.txt", age=0):
    fold.mkdir(parents=True, exist_ok=True)
    log = fold / name
    log.write_text("\nPlease cite the following paper\n" + "\n".join(lines) + "\n")
    os.utime(log, (1_000_000 - age, 1_000_000 - age))


def test_lines_of_both_numpy_generations_are_read(tmp_path):
    write_log(
        tmp_path / "fold_0",
        epoch_lines(0, "-0.1", "0.25", "np.float32(0.5), np.float64(0.7)")
        + epoch_lines(1, "-0.3", "-2.5e-01", "0.5, nan, 0.9"),
    )
    table = read_training_log(tmp_path / "fold_0")
    assert table["epoch"].tolist() == [0, 1]
    assert table["train_losses"].tolist() == [-0.1, -0.3]
    assert table["val_losses"].tolist() == [0.25, -0.25]
    assert table["mean_fg_dice"].tolist() == pytest.approx([0.6, 0.7])
    assert table["lrs"].tolist() == [1e-5, 1e-5]
    assert table["epoch_seconds"].tolist() == [1.5, 1.5]


def test_a_continued_training_is_joined_and_its_later_log_counts(tmp_path):
    fold = tmp_path / "fold_0"
    write_log(fold, epoch_lines(0, 1, 1, "0.1") + epoch_lines(1, 9, 9, "0.9"), "training_log_b.txt", age=60)
    write_log(fold, epoch_lines(1, 2, 2, "0.2") + epoch_lines(2, 3, 3, "0.3"), "training_log_a.txt")
    assert read_training_log(fold)["train_losses"].tolist() == [1, 2, 3]


def test_an_epoch_that_has_not_ended_is_left_out(tmp_path):
    write_log(tmp_path, epoch_lines(0, 1, 1, "0.1") + epoch_lines(1, 2, 2, "0.2", finished=False))
    assert read_training_log(tmp_path)["epoch"].tolist() == [0]


def test_a_diverged_training_is_shown_as_such(tmp_path):
    write_log(tmp_path, epoch_lines(0, "nan", "inf", "0.0"))
    table = read_training_log(tmp_path)
    assert table["train_losses"].isna().all()
    assert table["val_losses"].tolist() == [float("inf")]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (None, "no training_log"),
        ([], "no finished epoch"),
        (epoch_lines(0, 1, 1, "0", finished=False), "no finished epoch"),
    ],
)
def test_a_folder_without_a_finished_epoch_is_named(tmp_path, lines, message):
    if lines is not None:
        write_log(tmp_path, lines)
    with pytest.raises(UserError, match=message) as error:
        read_training_log(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_lines_that_no_training_writes_are_passed_over(tmp_path):
    strange = [
        STAMP + line
        for line in (
            "Epoch " + "9" * 5000,
            "train_loss 1e999999",
            "Pseudo dice [x, [1], 0.5, np.float32(np.float32(]",
            "Pseudo dice []",
            "Pseudo dice [" + "np.float1(" * 20_000,
            "Pseudo dice [" + "np.float1(" * 20_000 + "]",
            "Epoch time: nonsense s",
        )
    ]
    lines = epoch_lines(0, 1, 2, "0.25")
    write_log(tmp_path, [*lines[:-1], *strange, lines[-1]])
    row = read_training_log(tmp_path).iloc[0]
    assert row[["epoch", "train_losses", "val_losses", "epoch_seconds"]].tolist() == [0, float("inf"), 2, 1.5]


@pytest.mark.skipif(os.name == "nt", reason="pipes and devices in the tree of files")
def test_what_is_no_log_is_not_read_without_end(tmp_path, monkeypatch):
    log = tmp_path / "training_log_x.txt"
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero"), lambda path: path.mkdir()):
        make(log)
        with pytest.raises(UserError, match=r"not a regular file|cannot be read"):
            read_training_log(tmp_path)
        log.rmdir() if log.is_dir() else log.unlink()
    log.symlink_to("gone")
    with pytest.raises(UserError, match="no training_log"):
        read_training_log(tmp_path)
    log.unlink()
    write_log(tmp_path, epoch_lines(0, 1, 1, "0.1"))
    monkeypatch.setattr(curves, "MAX_LOG_BYTES", 100)
    with pytest.raises(UserError, match="larger than"):
        read_training_log(tmp_path)


def test_names_are_text_in_the_figure_and_no_mathematics(tmp_path):
    write_log(tmp_path / "fold_0", epoch_lines(0, 1, 1, "0.1"))
    table = read_model(tmp_path)
    hostile = {"$\\frac$": table, "a\x1b\u202eb": table}
    assert training_curves(hostile).axes[3].get_title(loc="left") == "a\\x1b\\u202eb"
    for together in (False, True):
        assert write_training_curves(hostile, tmp_path / "curves.png", "$\\frac{", together).is_file()


def test_a_model_is_all_its_folds(tmp_path):
    for fold in (0, 3):
        write_log(tmp_path / f"fold_{fold}", epoch_lines(0, fold, 1, "0.5"))
    table = read_model(tmp_path)
    assert dict(zip(table["fold"], table["train_losses"], strict=True)) == {"0": 0, "3": 3}
    with pytest.raises(UserError, match="no fold_N"):
        read_model(tmp_path / "fold_0")


def test_the_log_of_a_real_training_gives_the_values_of_its_logger(nnunet_folders):
    """nnU-Net itself writes the lines here: a change of its wording shows as a failure."""
    import numpy as np
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    values = {
        "train_losses": np.float32(-0.25),
        "val_losses": np.float64(0.125),
        "ema_fg_dice": 0.5,
        "dice_per_class_or_region": [np.float32(0.5), np.float32(0.75)],
        "epoch_start_timestamps": 10.0,
        "epoch_end_timestamps": 12.5,
    }

    class Recorder:
        on_epoch_end, print_to_log_file = nnUNetTrainer.on_epoch_end, nnUNetTrainer.print_to_log_file
        local_rank, current_epoch, num_epochs, save_every, _best_ema = 0, 0, 9, 50, 1.0
        output_folder = str(nnunet_folders.results)
        log_file = str(nnunet_folders.results / "training_log_2026_11_21_11_20_33.txt")

        class logger:
            log = staticmethod(lambda *_: None)
            plot_progress_png = staticmethod(lambda *_: None)

            @staticmethod
            def get_value(key, step):
                return values[key]

    recorder = Recorder()
    recorder.print_to_log_file("Epoch 0")
    recorder.on_epoch_end()
    row = read_training_log(nnunet_folders.results).iloc[0]
    assert row[["train_losses", "val_losses", "mean_fg_dice", "epoch_seconds"]].tolist() == [-0.25, 0.125, 0.625, 2.5]
