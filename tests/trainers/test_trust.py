"""What our own commands refuse to load from others' files."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

from nnunet_ext.cli import main
from nnunet_ext.errors import UserError
from nnunet_ext.trainers import trust

TRAIN = ["7", "2d", "0"]
PREDICT = ["-i", "in", "-o", "out", "-d", "7", "-c", "2d", "-f", "0"]


NEEDED = {
    "data_identifier": "nnUNetPlans_2d",
    "preprocessor_name": "DefaultPreprocessor",
    "batch_size": 2,
    "patch_size": [16, 16],
    "spacing": [1.0, 1.0],
    "normalization_schemes": ["ZScoreNormalization"],
    "use_mask_for_norm": [False],
}


class Attack:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


def plans(network: str = "nnunet_ext.architectures.cfnet.CFNet", norm: str = "torch.nn.InstanceNorm2d") -> dict:
    arguments = {"norm_op": norm, "dropout_op": None}
    architecture = {
        "network_class_name": network,
        "arch_kwargs": arguments,
        "_kw_requires_import": ["norm_op", "dropout_op"],
    }
    return {
        "plans_name": "nnUNetPlans",
        "dataset_name": "Dataset007_X",
        "configurations": {"2d": {"architecture": architecture, **NEEDED}, "cascade": {"inherits_from": "2d"}},
    }


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Plans for training, and the folder of a model with plans and one checkpoint."""
    for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"):
        monkeypatch.setenv(name, str(tmp_path / name))
    preprocessed = tmp_path / "nnUNet_preprocessed/Dataset007_X"
    model = tmp_path / "nnUNet_results/Dataset007_X/nnUNetTrainer__nnUNetPlans__2d"
    (model / "fold_0").mkdir(parents=True)
    preprocessed.mkdir(parents=True)
    for file in (preprocessed / "nnUNetPlans.json", model / "plans.json"):
        file.write_text(json.dumps(plans()))
    torch.save({"network_weights": {}}, model / "fold_0/checkpoint_final.pth")
    return preprocessed / "nnUNetPlans.json", model


def test_plans_and_checkpoints_of_known_classes_pass_unchanged(folders) -> None:
    assert trust.checked_training([*TRAIN, "--c"]) == [*TRAIN, "--c"]
    assert trust.checked_prediction(PREDICT) == PREDICT


def test_other_options_of_nnunet_are_not_taken_for_those_looked_at(folders) -> None:
    training_plans, model = folders
    for file in (training_plans, model / "plans.json"):
        file.write_text(json.dumps(plans(network="os.system")))
    with pytest.raises(UserError, match=r"os\.system"):
        trust.checked_training(["-device", "cpu", "-num_gpus", "2", *TRAIN])
    others = ["-device", "cpu", "-prev_stage_predictions", "folder", "-part_id", "0", "-num_parts", "1", "-npp", "1"]
    with pytest.raises(UserError, match=r"os\.system"):
        trust.checked_prediction([*PREDICT, *others])


@pytest.mark.parametrize("changed", [{"network": "os.system"}, {"norm": "my_layers.Norm"}, {"network": "torchx.nn.A"}])
def test_plans_that_name_other_classes_are_refused_unless_trusted(folders, changed) -> None:
    training_plans, model = folders
    for file, check, argv in (
        (training_plans, trust.checked_training, TRAIN),
        (model / "plans.json", trust.checked_prediction, PREDICT),
    ):
        file.write_text(json.dumps(plans(**changed)))
        with pytest.raises(UserError, match=next(iter(changed.values()))) as error:
            check(argv)
        assert str(file) in str(error.value)
        assert "--trust" in str(error.value)
        assert check([*argv, "--trust"]) == argv, "nnU-Net does not know the flag"


def test_a_checkpoint_that_would_run_code_is_refused_and_runs_nothing(folders, tmp_path, capsys) -> None:
    _, model = folders
    proof = tmp_path / "proof"
    for name, argv in (
        ("checkpoint_final.pth", ["predict", *PREDICT]),
        ("checkpoint_latest.pth", ["train", *TRAIN, "--c"]),
    ):
        with (model / "fold_0" / name).open("wb") as file:
            pickle.dump({"network_weights": {}, "attack": Attack(proof)}, file)
        assert main(argv) == 2
        said = capsys.readouterr().err
        assert said.startswith("error: checkpoint is torn")
        assert said.count("\n") == 1
        assert str(model / "fold_0") in said
        assert not proof.exists()


def test_pretrained_weights_are_looked_at_too(folders, tmp_path) -> None:
    weights = tmp_path / "weights.pth"
    weights.write_bytes(pickle.dumps(Attack(tmp_path / "proof")))
    with pytest.raises(UserError, match=r"weights\.pth"):
        trust.checked_training([*TRAIN, "-pretrained_weights", str(weights)])


def test_a_broken_plans_file_is_named(folders) -> None:
    folders[0].write_text("{}")
    with pytest.raises(UserError, match="not a plans file"):
        trust.checked_training(TRAIN)


@pytest.mark.parametrize("key", ["plans_name", "dataset_name"])
def test_plans_that_would_train_in_the_folder_of_another_model_are_refused(folders, tmp_path, key) -> None:
    """nnU-Net makes the folder of the names in the plans; a checkpoint laid there would be loaded, or overwritten."""
    training_plans, _ = folders
    training_plans.write_text(json.dumps(plans() | {key: "Dataset008_Other"}))
    with pytest.raises(UserError, match=f"call themselves {key} Dataset008_Other"):
        trust.checked_training([*TRAIN, "--c"])


def test_a_fold_is_the_one_that_nnunet_takes_it_for(folders, tmp_path) -> None:
    _, model = folders
    with (model / "fold_0" / "checkpoint_final.pth").open("wb") as file:
        pickle.dump({"network_weights": {}, "attack": Attack(tmp_path / "proof")}, file)
    for argv in (["7", "2d", "00", "--c"], ["7", "2d", "0", "--c"]):
        with pytest.raises(UserError, match="checkpoint is torn"):
            trust.checked_training(argv)
    with pytest.raises(UserError, match="checkpoint is torn"):
        trust.checked_prediction([*PREDICT[:-1], "00"])
