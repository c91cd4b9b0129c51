"""The figure of training curves: folds by name, axes that say what they are, one range for what is compared."""

from __future__ import annotations

import pandas as pd
from matplotlib.image import imread

from nnunet_ext.report.curves import mean_of_folds, training_curves, write_training_curves


def folds(losses, dice=0.5):
    """A table of one loss a fold and epoch: ``losses[fold][epoch]``."""
    rows = [
        {"fold": str(fold), "epoch": epoch, "train_losses": loss, "val_losses": loss + 1, "mean_fg_dice": dice}
        for fold, values in enumerate(losses)
        for epoch, loss in enumerate(values)
    ]
    return pd.DataFrame(rows)


def colours_of(figure):
    legend = figure.legends[0]
    return {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }


def test_every_fold_is_named_in_the_colour_of_its_line_and_their_mean_is_bold():
    figure = training_curves({"2d": folds([[1.0, 0.0], [3.0, 2.0]]), "3d_fullres": folds([[1.0], [2.0]])}, "title")
    assert len(figure.axes) == 6
    colours = colours_of(figure)
    assert list(colours) == ["fold 0", "fold 1", "mean of the folds"]
    lines = {line.get_color(): line for line in figure.axes[0].lines}
    assert list(lines[colours["fold 1"]].get_ydata()) == [3.0, 2.0]
    mean = lines[colours["mean of the folds"]]
    assert list(mean.get_ydata()) == [2.0, 1.0]
    assert mean.get_linewidth() > lines[colours["fold 0"]].get_linewidth()


def test_every_panel_says_what_its_axes_are():
    figure = training_curves({"2d": folds([[1.0, 0.0]]), "3d_fullres": folds([[1.0, 0.0]])})
    assert [axis.get_ylabel() for axis in figure.axes] == [
        "training loss",
        "validation loss",
        "pseudo Dice (validation patches)",
    ] * 2
    assert {axis.get_xlabel() for axis in figure.axes} == {"epoch"}
    assert [axis.get_title(loc="left") for axis in figure.axes[::3]] == ["2d", "3d_fullres"]


def test_what_is_compared_has_one_range():
    figure = training_curves({"2d": folds([[5.0, 0.0]]), "3d_fullres": folds([[-1.0, -2.0, -3.0]])})
    losses = {axis.get_ylim() for number, axis in enumerate(figure.axes) if number % 3 < 2}
    ((low, high),) = losses
    assert low < -3.0
    assert high > 6.0
    assert {axis.get_ylim() for axis in figure.axes[2::3]} == {(0.0, 1.0)}
    assert len({axis.get_xlim() for axis in figure.axes}) == 1


def test_the_mean_ends_where_the_first_fold_ends():
    """Over fewer folds it would jump, and look like a change of the training."""
    table = folds([[1.0, 1.0, 1.0], [3.0, 3.0]])
    assert mean_of_folds(table, "train_losses").to_dict() == {0: 2.0, 1: 2.0}


def test_two_trainers_share_an_axis_on_demand():
    models = {"nnUNetTrainer": folds([[1.0, 0.0], [3.0, 2.0]]), "nnUNetTrainerCFNet": folds([[0.0, -1.0]])}
    figure = training_curves(models, together=True)
    assert len(figure.axes) == 3
    colours = colours_of(figure)
    assert list(colours) == ["nnUNetTrainer (fold 0, 1)", "nnUNetTrainerCFNet (fold 0)"]
    first, second = colours.values()
    assert first != second
    assert sum(line.get_color() == first for line in figure.axes[0].lines) == 3, "two folds and their mean"


def test_a_single_epoch_and_losses_without_a_finite_value_are_drawn(tmp_path):
    for losses in ([[0.5]], [[float("nan"), float("inf")]]):
        figure = training_curves({"2d": folds(losses)})
        assert len(figure.axes[0].lines) == 1
    assert training_curves({"2d": folds([[0.5]])}).axes[0].lines[0].get_marker() == "o"
    path = write_training_curves(
        {"2d": folds([[float("nan"), float("inf")]])}, tmp_path / "new" / "curves.png", "title"
    )
    assert imread(path).shape[0] > 300
    assert [file.name for file in path.parent.iterdir()] == ["curves.png"]


def test_more_folds_than_colours_look_different(tmp_path):
    figure = training_curves({"2d": folds([[float(fold), 0.0] for fold in range(12)])})
    looks = {(line.get_color(), line.get_linestyle()) for line in figure.axes[0].lines[:12]}
    assert len(looks) == 12
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[9:12] == ["fold 9", "fold 10", "fold 11"]
