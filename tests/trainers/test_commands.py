"""The commands users type: nnU-Net's own, and the fallback of this plugin, as processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

DATASET = "Dataset501_Toy"
TRAINER = "nnUNetTrainerCFNet_NoMirroring_2its_1vits_1epochs"


def _train(configuration: str = "3d_fullres", trainer: str = TRAINER) -> list[str]:
    return f"nnUNetv2_train 501 {configuration} 0 -tr {trainer} -p smallPlans -device cpu".split()


def _fold(folders, configuration: str = "3d_fullres", trainer: str = TRAINER) -> Path:
    return folders.results / DATASET / f"{trainer}__smallPlans__{configuration}" / "fold_0"


@pytest.fixture(scope="module")
def trained(tmp_path_factory, make_folders, write_raw_dataset, write_preprocessed_dataset, run_nnunet):
    """Folders with a fold trained and validated by ``nnUNetv2_train``; images to predict in the raw folder."""
    folders = make_folders(tmp_path_factory.mktemp("commands"))
    write_raw_dataset(folders.raw, DATASET, cases=1, test_cases=1)
    write_preprocessed_dataset(folders.preprocessed, DATASET)
    run_nnunet([*_train(), "--npz"], folders.environment())
    return folders


def test_nnunetv2_train_leaves_checkpoints_and_a_validation_with_probabilities(trained):
    checkpoint = torch.load(_fold(trained) / "checkpoint_final.pth", weights_only=True)
    assert checkpoint["trainer_name"] == TRAINER
    names = {path.name for path in (_fold(trained) / "validation").iterdir()}
    assert {"case00.nii.gz", "case00.npz", "case00.pkl", "summary.json"} <= names


def test_nnunetv2_predict_finds_the_trainer_and_writes_a_segmentation(trained, run_nnunet, tmp_path):
    options = f"-d 501 -c 3d_fullres -f 0 -tr {TRAINER} -p smallPlans -device cpu -npp 1 -nps 1".split()
    images = trained.raw / DATASET / "imagesTs"
    run_nnunet(["nnUNetv2_predict", "-i", images, "-o", tmp_path, *options], trained.environment())
    assert (tmp_path / "case01.nii.gz").is_file()


# The site file was not read, and torchvision cannot load its operators (built for another torch).
BARE_ENVIRONMENT = """
    import os, sys
    os.environ.pop("nnUNet_extTrainer", None)
    import torch
    def cannot_load(path):
        raise OSError("libcudart.so: cannot open shared object file")
    torch.ops.load_library = cannot_load
    if __name__ == "__main__":
        from nnunet_ext.cli import main
        sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def in_a_bare_environment(tmp_path):
    """Runs our own command as ``nnunet_ext`` would, where nnU-Net finds neither our trainers nor most of its own."""
    script = tmp_path / "bare_environment.py"
    script.write_text(textwrap.dedent(BARE_ENVIRONMENT))

    def run(arguments, folders):
        return subprocess.run(
            [sys.executable, str(script), *arguments],
            env={**os.environ, **folders.environment()},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=300,
            check=False,
        )

    return run


def test_nnunet_ext_train_finds_the_trainer_where_the_stock_command_would_not(
    nnunet_folders, write_preprocessed_dataset, in_a_bare_environment
):
    write_preprocessed_dataset(nnunet_folders.preprocessed, DATASET, channels=1)
    done = in_a_bare_environment(["train", *_train()[1:]], nnunet_folders)
    assert f"Using trainer '{TRAINER}'" in done.stdout, done.stdout[-3000:]
    # one image channel: the mistake of a user, told in one line by our own command
    assert done.stdout.strip().splitlines()[-1].startswith("error: CFNet")
    assert done.returncode == 2


@pytest.mark.slow
def test_nnunet_ext_train_and_predict_do_what_the_stock_commands_do(trained, in_a_bare_environment, tmp_path):
    summary = _fold(trained) / "validation" / "summary.json"
    before = json.loads(summary.read_text())["foreground_mean"]
    summary.unlink()
    done = in_a_bare_environment(["train", *_train()[1:], "--val"], trained)
    assert done.returncode == 0, done.stdout[-3000:]
    assert json.loads(summary.read_text())["foreground_mean"] == before
    images, out = trained.raw / DATASET / "imagesTs", tmp_path / "out"
    options = f"-d 501 -c 3d_fullres -f 0 -tr {TRAINER} -p smallPlans -device cpu -npp 1 -nps 1".split()
    done = in_a_bare_environment(["predict", "-i", str(images), "-o", str(out), *options], trained)
    assert done.returncode == 0, done.stdout[-3000:]
    assert (out / "case01.nii.gz").is_file()


@pytest.mark.slow
def test_one_image_channel_ends_the_trace_of_nnunet_in_a_line_that_says_what_to_use(
    nnunet_folders, write_preprocessed_dataset, run_nnunet
):
    write_preprocessed_dataset(nnunet_folders.preprocessed, DATASET, channels=1)
    done = run_nnunet(_train(), nnunet_folders.environment(), check=False)
    assert done.returncode != 0
    last = done.stdout.strip().splitlines()[-1]
    assert "CFNet needs at least two image channels" in last
    assert "nnUNetTrainer" in last


@pytest.mark.slow
def test_a_training_ended_by_sigkill_resumes_with_the_stock_command(
    nnunet_folders, write_preprocessed_dataset, run_nnunet
):
    write_preprocessed_dataset(nnunet_folders.preprocessed, DATASET)
    trainer = "nnUNetTrainerCFNet_5epochs_8its_1vits_seed1"
    command = _train(trainer=trainer)
    fold = _fold(nnunet_folders, trainer=trainer)
    process = subprocess.Popen(
        [str(Path(sys.executable).parent / command[0]), *command[1:]],
        env={**os.environ, **nnunet_folders.environment()},
        stdout=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 240
    while not (fold / "checkpoint_latest.pth").exists():
        assert process.poll() is None, "the training ended before it could be killed"
        assert time.monotonic() < limit, "no checkpoint within four minutes"
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run_nnunet([*command, "--c"], nnunet_folders.environment())
    assert "Training done." in done.stdout
    assert not any(line.endswith("Epoch 0") for line in map(str.strip, done.stdout.splitlines()))
    checkpoint = torch.load(fold / "checkpoint_final.pth", weights_only=True)
    assert len(checkpoint["logging"]["train_losses"]) == 5


@pytest.mark.slow
def test_find_best_configuration_ensembles_two_configurations(
    nnunet_folders, write_preprocessed_dataset, write_raw_dataset, run_nnunet
):
    environment = nnunet_folders.environment()
    write_raw_dataset(nnunet_folders.raw, DATASET, cases=3, test_cases=1)
    write_preprocessed_dataset(nnunet_folders.preprocessed, DATASET)
    for configuration in ("2d", "3d_fullres"):
        run_nnunet([*_train(configuration), "--npz"], environment)
    options = f"501 -c 2d 3d_fullres -tr {TRAINER} -p smallPlans -f 0 -np 1".split()
    run_nnunet(["nnUNetv2_find_best_configuration", *options], environment)
    information = json.loads((nnunet_folders.results / DATASET / "inference_information.json").read_text())
    assert any("ensemble" in name for name in information["all_results"])
    assert all(TRAINER in name for name in information["all_results"])
