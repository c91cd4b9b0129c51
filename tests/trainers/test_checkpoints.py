"""Checkpoint files: whole at any moment, read without running what they hold."""

from __future__ import annotations

import contextlib
import pickle
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from nnunet_ext.errors import UserError
from nnunet_ext.trainers import checkpoints

CPU = torch.device("cpu")


def _content(value: float = 1.0) -> dict:
    return {"network_weights": {"weight": torch.full((8,), value)}, "trainer_name": "nnUNetTrainerCFNet"}


def test_what_is_written_is_read_again(tmp_path):
    file = tmp_path / "checkpoint_best.pth"
    checkpoints.write(_content(2.0), file)
    assert torch.equal(checkpoints.read(file, CPU)["network_weights"]["weight"], torch.full((8,), 2.0))
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_half_written(tmp_path):
    file = tmp_path / "checkpoint_latest.pth"
    checkpoints.write(_content(1.0), file)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    big = {**_content(), "optimizer_state": torch.zeros(1_000_000)}
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))  # as if the disk were full
    try:
        with pytest.raises(UserError, match="could not be written") as error:
            checkpoints.write(big, file)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(file) in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert torch.equal(checkpoints.read(file, CPU)["network_weights"]["weight"], torch.ones(8))


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_torn_file_is_named_with_what_to_do(tmp_path, keep):
    file = tmp_path / "checkpoint_latest.pth"
    checkpoints.write(_content(), file)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(keep * len(whole)) if isinstance(keep, float) else keep])
    with pytest.raises(UserError, match="torn") as error:
        checkpoints.read(file, CPU)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_damaged_bytes_are_told_in_one_line_whatever_torch_makes_of_them(tmp_path):
    file = tmp_path / "checkpoint_latest.pth"
    checkpoints.write(_content(), file)
    whole = file.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(300):
        damaged = bytearray(whole)
        for place in generator.integers(0, len(whole), 8):
            damaged[place] = generator.integers(0, 256)
        file.write_bytes(bytes(damaged))
        with contextlib.suppress(UserError):  # damage to a weight's value alone is not noticed
            checkpoints.read(file, CPU)


class _Attack:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return Path.touch, (self.target,)


@pytest.mark.parametrize("writer", [torch.save, lambda content, file: file.write_bytes(pickle.dumps(content))])
def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(tmp_path, writer):
    file, proof = tmp_path / "checkpoint_final.pth", tmp_path / "proof"
    writer({**_content(), "logging": _Attack(proof)}, file)
    with pytest.raises(UserError, match="not written by this plugin"):
        checkpoints.read(file, CPU)
    assert not proof.exists()


def test_a_checkpoint_of_a_stock_trainer_can_be_read_although_it_holds_numpy_scalars(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    log = {"train_losses": [np.float32(1)], "ema": [np.float64(2)]}
    torch.save({**_content(), "logging": log, "_best_ema": np.float64(0.5), "init_args": {"device": CPU}}, file)
    assert checkpoints.read(file, CPU)["logging"] == log


def test_another_kind_of_file_is_no_checkpoint(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    torch.save({"state_dict": {}}, file)
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.read(file, CPU)


def test_plain_content_needs_no_allowed_types(tmp_path):
    file = tmp_path / "checkpoint_final.pth"
    log = {"dice": [[np.float32(0.5), np.float64(0.25)]], "lrs": [0.01], "axes": (0, 1), "device": CPU, "none": None}
    torch.save(checkpoints.plain(log), file)
    assert torch.load(file, weights_only=True) == {
        "dice": [[0.5, 0.25]],
        "lrs": [0.01],
        "axes": (0, 1),
        "device": "cpu",
        "none": None,
    }


def test_half_written_files_of_a_killed_training_are_removed_and_others_left(tmp_path):
    for name in ("checkpoint_latest.pth.partial", "checkpoint_best.pth", "notes.partial"):
        (tmp_path / name).touch()
    checkpoints.clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint_best.pth", "notes.partial"]


def test_checkpoints_of_an_earlier_training_are_set_aside(tmp_path):
    for name in ("checkpoint_final.pth", "checkpoint_best.pth"):
        (tmp_path / name).write_text(name)
    (tmp_path / "checkpoint_final_previous.pth").write_text("older still")
    moved = checkpoints.set_aside(tmp_path)
    assert sorted(path.name for path in moved) == ["checkpoint_best_previous.pth", "checkpoint_final_previous.pth"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in moved)
    assert (tmp_path / "checkpoint_final_previous.pth").read_text() == "checkpoint_final.pth"


@pytest.mark.parametrize(
    ("weights", "complaint"),
    [
        ({"weight": torch.zeros(2, 3)}, "bias is missing"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "extra": torch.zeros(1)}, "extra is unknown"),
        ({"weight": torch.zeros(2, 4), "bias": torch.zeros(2)}, r"weight has shape \(2, 4\) instead of \(2, 3\)"),
    ],
)
def test_weights_of_another_network_give_one_line_naming_both_and_change_nothing(weights, complaint):
    network = torch.nn.Linear(3, 2)
    before = network.weight.clone()
    content = {"network_weights": weights, checkpoints.OURS: {"network": "some.where.OtherNet"}}
    with pytest.raises(UserError, match=complaint) as error:
        checkpoints.load_weights(network, content, Path("fold_0/checkpoint_final.pth"))
    for word in ("some.where.OtherNet", "torch.nn.modules.linear.Linear", "fold_0/checkpoint_final.pth"):
        assert word in str(error.value)
    assert "\n" not in str(error.value)
    assert torch.equal(network.weight, before)
