"""A device that is not there is told in one line, before torch fails with a trace."""

from __future__ import annotations

import pytest
import torch

from nnunet_ext.cli import main
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import device
from nnunet_ext.trainers.registry import resolve


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["nnUNetTrainerCFNet", "nnUNetTrainerCFFormer_paper_1epochs"])
@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_our_trainers_say_what_to_add(name, kind):
    with pytest.raises(UserError, match=r"no (Apple )?GPU: .* - add -device cpu"):
        resolve(name)({}, "2d", 0, {}, torch.device(kind))


def test_a_torch_for_the_cpu_alone_is_named(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.version, "hip", None)
    with pytest.raises(UserError, match="built for the CPU alone - add -device cpu"):
        device.require_device("cuda")


@pytest.mark.parametrize(
    "line",
    [
        "train Dataset137_X 2d 0",
        "train Dataset137_X 2d 0 -num_gpus 2",
        "train Dataset137_X 2d 0 -device mps",
        "predict -i a -o b -d Dataset137_X -c 2d",
    ],
)
def test_our_commands_say_so_for_any_trainer_and_for_prediction(line, nnunet_folders, capsys):
    assert main(line.split()) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "add -device cpu" in said


def test_the_value_of_another_option_is_no_device():
    device.require_named_device(["-d", "137", "-device", "cpu", "-i", "cuda"])


@pytest.mark.parametrize("command", ["train", "predict"])
def test_help_shows_our_own_option_above_nnunets(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert said.startswith(f"nnunet_ext {command} takes the arguments of nnUNetv2_{command}")
    assert 0 < said.index("--trust") < said.index("usage:")


@pytest.mark.parametrize("dataset", ["137", "137x"])
def test_a_dataset_that_is_not_there_is_one_line_of_our_commands(dataset, nnunet_folders, capsys):
    assert main(["train", dataset, "2d", "0", "-device", "cpu"]) == 2
    assert main(["predict", "-d", dataset, "-c", "2d", "-i", "a", "-o", "b", "-device", "cpu"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
