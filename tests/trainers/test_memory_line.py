"""What a training says of memory, before it starts and when there is none left."""

from __future__ import annotations

import re

import pytest
import torch
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

from nnunet_ext.errors import UserError
from nnunet_ext.trainers import memory_line

SHORT = "nnUNetTrainerCFNet_1epochs_1its_1vits"
ADVICE = "nnunet_ext plan -d 501 -a CFNet -gpu_memory_target "


def test_a_training_tells_what_it_needs_and_what_there_is(toy, train, log_of, monkeypatch) -> None:
    monkeypatch.setattr(memory_line, "_available", lambda device: 16e9)
    toy()
    log = log_of(train(SHORT, checkpoints=False))
    found = re.search(r"memory: about (\d+\.\d) GB estimated for batches of 2, 16\.0 GB available", log)
    assert found, log
    assert float(found[1]) < 1, "no overhead of a GPU on the CPU"
    assert "WARNING: memory" not in log


def test_too_little_memory_is_a_warning_with_the_command_that_helps(toy, train, log_of, monkeypatch) -> None:
    monkeypatch.setattr(memory_line, "_available", lambda device: 1e6)
    toy()
    log = log_of(train(SHORT, checkpoints=False))
    assert re.search(r"WARNING: memory: about .* available, so it may not fit\. For plans that fit: ", log)
    assert f"{ADVICE}1, then train with -p" in log


@pytest.mark.parametrize(
    ("present", "needed", "available", "target"),
    [
        (None, None, None, 8),
        (None, 9e9, 12e9, 11),
        (24.0, None, 25e9, 16),
        (24.0, 30e9, 25e9, 16),
        (8.0, 11.5e9, 8e9, 5),
        (8.0, None, None, 6),
    ],
)
def test_the_advised_target_is_below_that_of_plans_which_are_too_large(present, needed, available, target) -> None:
    assert memory_line.smaller_target(present, needed, available) == target


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nnUNetTrainerCFFormer_paper_1epochs_tiny", "This trainer fixes patch or batch: use a larger GPU"),
        ("nnUNetTrainerCFFormer_paper_1epochs", "This trainer fixes patch or batch: use a larger GPU"),
        ("nnUNetTrainerCFFormer_paper_base", "fixes patch or batch: use _tiny or _small, or a larger GPU"),
        ("nnUNetTrainerCFNet_paper_1epochs", "Train on plans for a smaller GPU"),
        ("nnUNetTrainerCFFormer_1epochs_base", "plan -d 501 -tr nnUNetTrainerCFFormer_1epochs_base -gpu_memory_target"),
    ],
)
def test_the_advice_is_one_that_helps_this_trainer(toy, make_trainer, name, words) -> None:
    toy(channels=4, patch_2d=(32, 32))
    assert words in memory_line.advice(make_trainer(name, "2d"))


@pytest.mark.parametrize(("available", "target"), [(6.5e9, 6), (12e9, 11), (24e9, 24), (200e9, 80), (None, 8)])
def test_the_advised_target_is_the_largest_that_the_memory_holds(toy, make_trainer, monkeypatch, available, target):
    monkeypatch.setattr(memory_line, "_available", lambda device: available)
    toy()
    assert f"{ADVICE}{target}," in memory_line.advice(make_trainer(SHORT))


def test_foreign_plans_do_not_end_a_training_in_its_advice(toy, make_trainer, monkeypatch) -> None:
    monkeypatch.setattr(memory_line, "_available", lambda device: None)
    toy()
    trainer = make_trainer(SHORT)
    for noted in (None, [], "x", {"gpu_memory_target_in_gb": "8"}, {"gpu_memory_target_in_gb": float("nan")}):
        for name in ("x", "Dataset", "Dataset1e5_X", "Dataset$(touch x)_X"):
            trainer.plans_manager.plans.update({"nnunet_ext": noted, "dataset_name": name})
            assert "nnunet_ext plan -d ID -a CFNet -gpu_memory_target 8, then" in memory_line.advice(trainer)


def test_memory_is_read_from_the_machine_or_left_unsaid(toy, make_trainer, monkeypatch) -> None:
    toy()
    trainer = make_trainer(SHORT)
    trainer.initialize()
    monkeypatch.setattr(memory_line, "_available", lambda device: None)
    line = memory_line.first_line(trainer)
    assert re.fullmatch(r"memory: about \d+\.\d GB estimated for batches of 2", line)


def test_a_network_that_cannot_be_measured_trains_all_the_same(toy, train, log_of, monkeypatch) -> None:
    def refuse(*_, **__):
        raise ValueError("it needs data\x1b")

    monkeypatch.setattr(memory_line, "measure_sample", refuse)
    toy()
    trainer = train(SHORT, checkpoints=False)
    assert "the memory of this training cannot be estimated: it needs data\\x1b" in log_of(trainer)
    assert trainer.current_epoch == 1


def test_out_of_memory_ends_in_one_line_with_the_command_that_helps(toy, make_trainer) -> None:
    toy()
    trainer = make_trainer(SHORT)
    trainer.initialize()

    class Full(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB.\nmore lines")

    trainer.network = Full()
    batch = {"data": torch.zeros(2, 2, 16, 16, 16), "target": torch.zeros(2, 1, 16, 16, 16)}
    with pytest.raises(UserError) as raised:
        trainer.train_step(batch)
    line = str(raised.value)
    assert line.startswith("out of memory at patch [16, 16, 16], batch 2: CUDA out of memory. Tried to allocate 9 GiB.")
    assert ADVICE in line
    assert "more lines" not in line
    assert "\n" not in line


@pytest.mark.parametrize("step", ["initialize", "validation_step", "perform_actual_validation"])
def test_every_part_of_a_training_that_runs_out_of_memory_is_advised_on(toy, make_trainer, monkeypatch, step) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    toy()
    trainer = make_trainer(SHORT)
    if step == "initialize":
        monkeypatch.setattr(type(trainer), "build_network_architecture", full)
    else:
        trainer.initialize()
        monkeypatch.setattr(nnUNetTrainer, step, full)
    with pytest.raises(UserError, match=r"out of memory at patch .* batch 2"):
        getattr(trainer, step)(*([{}] if step == "validation_step" else []))
