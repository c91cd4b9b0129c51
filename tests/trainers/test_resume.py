"""A training killed at any moment resumes; a checkpoint of something else is refused in one line."""

from __future__ import annotations

import io
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext import __version__
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import checkpoints, registry

NAME = "nnUNetTrainerCFNet_3epochs_2its_1vits_seed1"
SHORT = "nnUNetTrainerCFNet_1epochs_1its_1vits"


class Killed(BaseException):
    """Like a signal: nothing in a training catches it."""


def _losses(trainer):
    return trainer.logger.get_value("train_losses", None), trainer.logger.get_value("val_losses", None)


def _checkpoints(trainer):
    return sorted(path.name for path in Path(trainer.output_folder).glob("checkpoint*"))


@pytest.fixture
def die(monkeypatch):
    """``die(owner, name, nth)``: the process dies in the n-th call; half of a file being saved has reached the disk."""

    def arm(owner, name, nth):
        original, calls = getattr(owner, name), []

        def dying(*arguments, **options):
            calls.append(arguments)
            if len(calls) != nth:
                return original(*arguments, **options)
            if owner is torch:
                content, stream = arguments
                whole = io.BytesIO()
                original(content, whole)
                stream.write(whole.getvalue()[: len(whole.getvalue()) // 2])
                stream.flush()
            raise Killed

        monkeypatch.setattr(owner, name, dying)
        return lambda: monkeypatch.setattr(owner, name, original)

    return arm


@pytest.fixture
def reference(toy, train, nnunet_folders, monkeypatch):
    """Losses of an uninterrupted training, and how many checkpoints it writes; its results are removed."""
    toy()
    write, writes = checkpoints.write, []
    monkeypatch.setattr(checkpoints, "write", lambda content, file: writes.append(file) or write(content, file))
    losses = _losses(train(NAME, "2d"))
    monkeypatch.setattr(checkpoints, "write", write)
    shutil.rmtree(nnunet_folders.results)
    return losses, len(writes)


@pytest.mark.parametrize("moment", ["half of the file is written", "the file is written and not yet renamed"])
def test_a_training_killed_while_writing_any_checkpoint_resumes_to_the_same_losses(
    reference, make_trainer, nnunet_folders, die, moment
):
    losses, writes = reference
    assert writes >= 4  # latest after two epochs, best after the first, final
    for nth in range(1, writes + 1) if "half" in moment else (1, writes):
        undo = die(torch, "save", nth) if "half" in moment else die(Path, "replace", nth)
        with pytest.raises(Killed):
            make_trainer(NAME, "2d").run_training()
        undo()
        resumed = make_trainer(NAME, "2d", resume=True)
        resumed.run_training()
        assert _losses(resumed) == losses, f"killed in write {nth} of {writes}"
        assert _checkpoints(resumed) == ["checkpoint_best.pth", "checkpoint_final.pth"]
        shutil.rmtree(nnunet_folders.results)


def test_what_a_killed_training_left_half_written_is_removed_at_the_next_start(toy, train, make_trainer):
    toy()
    left = Path(make_trainer(SHORT, "2d").output_folder) / "checkpoint_latest.pth.partial"
    left.write_bytes(b"half")
    train(SHORT, "2d")
    assert not left.exists()


def test_a_training_killed_in_the_middle_of_an_epoch_resumes_to_the_same_losses(reference, make_trainer, die):
    undo = die(torch.optim.SGD, "step", 4)
    with pytest.raises(Killed):
        make_trainer(NAME, "2d").run_training()
    undo()
    resumed = make_trainer(NAME, "2d", resume=True)
    assert resumed.current_epoch == 1
    resumed.run_training()
    assert _losses(resumed) == reference[0]


def test_a_training_killed_after_its_final_checkpoint_is_found_finished(reference, make_trainer, die):
    undo = die(os, "remove", 1)  # of checkpoint_latest
    trainer = make_trainer(NAME, "2d")
    with pytest.raises(Killed):
        trainer.run_training()
    undo()
    assert "checkpoint_latest.pth" in _checkpoints(trainer)
    resumed = make_trainer(NAME, "2d", resume=True)
    assert resumed.current_epoch == 3
    resumed.run_training()
    assert _losses(resumed) == reference[0]
    assert _checkpoints(resumed) == ["checkpoint_best.pth", "checkpoint_final.pth"]


def test_where_only_the_best_checkpoint_is_left_training_goes_on_from_there(reference, make_trainer, die):
    undo = die(torch.optim.SGD, "step", 6)
    with pytest.raises(Killed):
        make_trainer(NAME, "2d").run_training()
    undo()
    trainer = make_trainer(NAME, "2d")
    (Path(trainer.output_folder) / "checkpoint_latest.pth").unlink()
    best = torch.load(Path(trainer.output_folder) / "checkpoint_best.pth", weights_only=True)["current_epoch"]
    resumed = make_trainer(NAME, "2d", resume=True)
    assert resumed.current_epoch == best
    resumed.run_training()
    assert _losses(resumed) == reference[0]


def test_a_second_training_killed_early_is_not_taken_for_the_finished_first(toy, train, make_trainer, die, log_of):
    toy()
    first = train(NAME, "2d")
    undo = die(torch.optim.SGD, "step", 1)
    second = make_trainer(NAME, "2d")
    with pytest.raises(Killed):
        second.run_training()
    undo()
    assert _checkpoints(second) == ["checkpoint_best_previous.pth", "checkpoint_final_previous.pth"]
    assert "checkpoint_final_previous.pth" in log_of(second)
    assert make_trainer(NAME, "2d", resume=True).current_epoch == 0
    assert first.current_epoch == 3


def test_without_checkpointing_nothing_is_written_or_moved(toy, train, make_trainer):
    toy()
    before = _checkpoints(train(SHORT, "2d"))
    trainer = make_trainer(SHORT, "2d")
    trainer.disable_checkpointing = True
    trainer.run_training()
    assert _checkpoints(trainer) == before == ["checkpoint_best.pth", "checkpoint_final.pth"]


def test_a_finished_training_validates_again(toy, train, make_trainer):
    toy()
    train(SHORT).perform_actual_validation()
    trainer = make_trainer(SHORT, validate=True)
    summary = Path(trainer.output_folder) / "validation" / "summary.json"
    before = json.loads(summary.read_text())
    summary.unlink()
    trainer.perform_actual_validation(save_probabilities=True)
    assert json.loads(summary.read_text()) == before
    assert (summary.parent / "case00.npz").is_file()


def test_the_best_score_so_far_and_the_mirror_axes_are_taken_up(toy, train, make_trainer):
    toy()
    before, after = train(SHORT, "2d"), make_trainer(SHORT, "2d", resume=True)
    assert before._best_ema is not None
    assert after._best_ema == before._best_ema
    assert after.inference_allowed_mirroring_axes == before.inference_allowed_mirroring_axes == (0, 1)


def test_a_checkpoint_holds_what_nnunet_writes_and_version_network_and_recipe(toy, train, tmp_path):
    toy()
    trainer = train(SHORT)
    ours = torch.load(f"{trainer.output_folder}/checkpoint_final.pth", weights_only=True)
    nnUNetTrainer.save_checkpoint(trainer, str(tmp_path / "stock.pth"))
    stock = torch.load(tmp_path / "stock.pth", weights_only=False)
    assert ours.keys() - stock.keys() == {"nnunet_ext"}
    assert stock.keys() <= ours.keys()
    assert ours["init_args"].keys() == stock["init_args"].keys()
    assert ours["logging"] == stock["logging"]
    assert ours["nnunet_ext"] == {
        "version": __version__,
        "network": "nnunet_ext.architectures.cfnet.CFNet",
        "recipe": trainer.recipe.as_dict(),
    }


def test_a_checkpoint_of_another_trainer_is_refused_in_one_line(toy, train, make_trainer):
    toy()
    source = Path(train(SHORT, "2d").output_folder) / "checkpoint_final.pth"
    other = make_trainer(f"{SHORT}_bf16", "2d")
    shutil.copy(source, other.output_folder)
    with pytest.raises(UserError, match=f"written by {SHORT}, not by {SHORT}_bf16") as error:
        make_trainer(f"{SHORT}_bf16", "2d", resume=True)
    assert str(other.output_folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_of_the_stock_trainer_is_refused_in_one_line(toy, train, make_trainer):
    toy()
    stock = make_trainer("nnUNetTrainer_1epoch", "2d")
    stock.num_iterations_per_epoch = stock.num_val_iterations_per_epoch = 1
    stock.run_training()
    shutil.copy(Path(stock.output_folder) / "checkpoint_final.pth", make_trainer(SHORT, "2d").output_folder)
    with pytest.raises(UserError, match=f"written by nnUNetTrainer_1epoch, not by {SHORT}"):
        make_trainer(SHORT, "2d", resume=True)


def test_a_checkpoint_of_other_plans_is_refused_in_one_line(toy, train, make_trainer, nnunet_folders):
    folder = toy()
    train(SHORT, "2d")
    plans = json.loads((folder / "smallPlans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["arch_kwargs"]["features_per_stage"] = [8, 24, 32]
    (folder / "smallPlans.json").write_text(json.dumps(plans))
    with pytest.raises(UserError, match=r"of nnunet_ext\.architectures\.cfnet\.CFNet does not fit") as error:
        make_trainer(SHORT, "2d", resume=True)
    assert "checkpoint_final.pth" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_torn_checkpoint_is_refused_in_one_line(toy, train, make_trainer):
    toy()
    file = Path(train(SHORT, "2d").output_folder) / "checkpoint_final.pth"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match="torn") as error:
        make_trainer(SHORT, "2d", resume=True)
    assert str(file) in str(error.value)


def test_a_recipe_that_changed_since_the_checkpoint_is_spoken_of(toy, train, make_trainer, log_of, monkeypatch):
    toy()
    train(SHORT, "2d")
    trainer_class = registry.resolve(SHORT)
    monkeypatch.setattr(trainer_class, "recipe", replace(trainer_class.recipe, weight_decay=1e-4))
    log = log_of(make_trainer(SHORT, "2d", resume=True))
    assert "another recipe: weight_decay 3e-05 -> 0.0001" in log


def _copied(trainer, name, file="checkpoint_final.pth"):
    """The checkpoint of a training in the folder of another trainer, as a user copies it."""
    folder = Path(trainer.output_folder)
    model = folder.parent.parent / folder.parent.name.replace(type(trainer).__name__, name)
    target = model / folder.name
    target.mkdir(parents=True)
    shutil.copy(folder / file, target)


def test_a_longer_training_goes_on_from_a_copied_checkpoint_and_says_how_the_schedule_jumps(
    toy, train, make_trainer, log_of
):
    toy()
    short = train("nnUNetTrainerCFNet_2epochs_1its_1vits_seed1", "2d")
    longer = "nnUNetTrainerCFNet_seed1_5epochs_1its_1vits"  # spelled in another order, too
    _copied(short, longer)
    trainer = make_trainer(longer, "2d", resume=True)
    assert trainer.current_epoch == 2
    trainer.run_training()
    losses = trainer.logger.get_value("train_losses", None)
    assert len(losses) == 5
    assert losses[:2] == short.logger.get_value("train_losses", None)
    rates = trainer.logger.get_value("lrs", None)
    assert rates[2:] == [pytest.approx(0.01 * (1 - epoch / 5) ** 0.9) for epoch in (2, 3, 4)]
    said = log_of(trainer)
    assert "goes on from epoch 2 of nnUNetTrainerCFNet_2epochs_1its_1vits_seed1" in said
    assert "the learning rate jumps from 0.00536 to 0.00631" in said
    assert "another recipe" not in said


@pytest.mark.parametrize(
    "other",
    [
        "nnUNetTrainerCFNet_5epochs_1its_1vits",  # another seed
        "nnUNetTrainerCFNet_5epochs_2its_1vits_seed1",
        "nnUNetTrainerCFNet_5epochs_1its_1vits_seed1_NoMirroring",
        "nnUNetTrainerCFFormer_5epochs_1its_1vits_seed1",
    ],
)
def test_a_training_that_differs_in_more_than_its_length_takes_up_nothing(toy, train, make_trainer, other):
    toy()
    _copied(train("nnUNetTrainerCFNet_2epochs_1its_1vits_seed1", "2d"), other)
    with pytest.raises(UserError, match=f"was written by nnUNetTrainerCFNet_2epochs_1its_1vits_seed1, not by {other}"):
        make_trainer(other, "2d", resume=True)


def test_a_training_that_is_shorter_than_what_was_done_says_so(toy, train, make_trainer):
    toy()
    _copied(train("nnUNetTrainerCFNet_3epochs_1its_1vits_seed1", "2d"), "nnUNetTrainerCFNet_2epochs_1its_1vits_seed1")
    with pytest.raises(UserError, match=r"has 3 epochs behind it, and .* trains 2"):
        make_trainer("nnUNetTrainerCFNet_2epochs_1its_1vits_seed1", "2d", resume=True)
