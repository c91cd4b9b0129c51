"""``nnunet_ext plan`` and ``nnunet_ext estimate`` as they are typed: output, exit codes, the one line of an error."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

from nnunet_ext._startup import DISCOVERY_FOLDER
from nnunet_ext.architectures.cfnet import CFNet
from nnunet_ext.cli import main
from nnunet_ext.families import NETWORKS, load
from nnunet_ext.planning import make_plans, plan_facts
from nnunet_ext.planning.from_plans import from_configuration

NAME = "Dataset905_Small"
pytestmark = pytest.mark.usefixtures("single_thread")


@pytest.fixture
def run(capsys):
    """``run("plan", ...)``: exit code, output, errors."""

    def call(*arguments: Any) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return (code, *capsys.readouterr())

    return call


def error_of(result: tuple[int, str, str]) -> str:
    """The line of a command that failed as commands should."""
    code, _, errors = result
    assert code == 2, result
    assert errors.startswith("error: "), result
    assert errors.count("\n") == 1, errors
    return errors


# --- plan ------------------------------------------------------------------------------------------------------------


def test_plan_writes_plans_and_says_what_to_type_next(constructed, nnunet_folders, run) -> None:
    constructed()
    code, text, _ = run("plan", "-d", 905, "-a", "cfnet", "-gpu_memory_target", 11, "--no_pp")
    assert code == 0
    file = nnunet_folders.preprocessed / NAME / "nnUNetCFNetPlans_11G.json"
    plans = json.loads(file.read_text())
    assert str(file) in text
    for name, made in plans["configurations"].items():
        row = next(line for line in text.splitlines() if f"  {name}  " in line)
        assert " x ".join(map(str, made["patch_size"])) in row
        assert f"nnUNetv2_train 905 {name} 0 -p nnUNetCFNetPlans_11G -tr nnUNetTrainerCFNet --npz" in text
    assert "data of 2d: nnUNetPlans_2d, shared with nnUNetPlans, to be preprocessed" in text
    assert "nnUNetv2_preprocess -d 905 -plans_name nnUNetCFNetPlans_11G -c 2d 3d_fullres -np" in text
    assert (
        "nnUNetv2_predict -i IMAGES -o OUT -d 905 -c 3d_fullres -p nnUNetCFNetPlans_11G -tr nnUNetTrainerCFNet" in text
    )


@pytest.mark.parametrize("network", ["PlainConvUNet", *NETWORKS])
def test_small_plans_build_a_small_network_and_the_commands_to_type_next_need_no_gpu(
    network: str, constructed, nnunet_folders, run
) -> None:
    constructed()
    code, text, errors = run("plan", "-d", 905, "-a", network, "--small", "--no_pp")
    assert code == 0, errors
    name = f"nnUNet{network}Plans_small"
    plans = json.loads((nnunet_folders.preprocessed / NAME / f"{name}.json").read_text())
    assert set(plans["configurations"]) == {"2d", "3d_fullres"}
    manager = PlansManager(plans)
    channels = len(plans["configurations"]["2d"]["normalization_schemes"])
    for configuration, voxels in (("2d", 64**2), ("3d_fullres", 32**3)):
        found = manager.get_configuration(configuration)
        assert math.prod(found.patch_size) <= 2 * voxels
        kind = load(NETWORKS[network].class_path) if network in NETWORKS else PlainConvUNet
        small = from_configuration(kind, found, channels, 3, False)
        assert small(torch.zeros(1, channels, *found.patch_size)).shape == (1, 3, *found.patch_size)
        assert f"nnUNetv2_train 905 {configuration} 0 -p {name}" in text
    trained = [line for line in text.splitlines() if "nnUNetv2_train" in line or "nnUNetv2_predict" in line]
    assert all(line.endswith("-device cpu") for line in trained), trained
    assert "-f 0 " in trained[-1]


def test_plan_preprocesses_what_is_missing_and_no_more(constructed, nnunet_folders, run, monkeypatch) -> None:
    constructed()
    folder = nnunet_folders.preprocessed / NAME / "nnUNetPlans_2d"
    folder.mkdir()
    for case in ("case0", "case1"):
        for end in (".b2nd", "_seg.b2nd", ".pkl"):
            (folder / f"{case}{end}").touch()
    done: list[tuple] = []
    monkeypatch.setattr(make_plans, "preprocess_dataset", lambda *arguments: done.append(arguments))
    code, text, _ = run("plan", "-d", 905, "-a", "PlainConvUNet", "-np", 3)
    assert code == 0
    assert done == [(905, "nnUNetPlainConvUNetPlans", ["3d_fullres"], [3])]
    assert "preprocessing 3d_fullres (1 of 1)" in text
    assert "data of 2d: nnUNetPlans_2d, shared with nnUNetPlans, there already" in text
    assert "nnUNetv2_preprocess" not in text
    assert "-tr" not in text, "nnU-Net's own trainer trains its own network"


def test_a_dry_run_shows_the_plans_and_writes_nothing_at_all(constructed, nnunet_folders, run, tree) -> None:
    constructed()
    folder = nnunet_folders.preprocessed / NAME / "nnUNetPlans_3d_fullres"
    folder.mkdir()
    for case in ("case0", "case1"):
        for end in (".b2nd", "_seg.b2nd", ".pkl"):
            (folder / f"{case}{end}").touch()
    before = tree(nnunet_folders.raw.parent)
    code, text, _ = run("plan", "-d", 905, "-a", "CFNet", "--dry-run")
    assert code == 0
    assert tree(nnunet_folders.raw.parent) == before
    assert "dry run: nothing was written" in text
    assert "plans: " not in text
    assert "data of 3d_fullres: nnUNetPlans_3d_fullres, shared with nnUNetPlans, there already" in text


def test_plans_from_before_a_network_kept_less_are_replaced_only_by_name(constructed, nnunet_folders, run) -> None:
    """Trainings on them go on only as long as they are there."""
    constructed()
    file = nnunet_folders.preprocessed / NAME / "nnUNetCFNetPlans.json"
    assert run("plan", "-d", 905, "-a", "CFNet", "--no_pp")[0] == 0
    plans = json.loads(file.read_text())
    plans["nnunet_ext"]["version"] = "0.2.0"
    file.write_text(json.dumps(plans))
    before = file.read_bytes()
    line = error_of(run("plan", "-d", 905, "-a", "CFNet", "--no_pp"))
    assert "kept more memory in training" in line
    assert "-overwrite_plans_name nnUNetCFNetPlans_new" in line
    assert file.read_bytes() == before
    assert run("plan", "-d", 905, "-a", "CFNet", "--no_pp", "-overwrite_plans_name", "nnUNetCFNetPlans")[0] == 0
    assert json.loads(file.read_text())["nnunet_ext"]["version"] != "0.2.0"


def test_json_agrees_with_the_table(constructed, run) -> None:
    constructed()
    _, text, _ = run("plan", "-d", 905, "-a", "PlainConvUNet", "--dry-run")
    code, output, errors = run("plan", "-d", 905, "-a", "PlainConvUNet", "--dry-run", "--json")
    assert code == 0
    content = json.loads(output)
    assert "planning PlainConvUNet" in errors, "progress is told beside the JSON"
    assert content["plans_name"] == "nnUNetPlainConvUNetPlans"
    assert content["to_preprocess"] == ["2d", "3d_fullres"]
    assert [row["configuration"] for row in content["configurations"]] == ["2d", "3d_fullres"]
    for row in content["configurations"]:
        line = next(line for line in text.splitlines() if f"  {row['configuration']}  " in line)
        assert " x ".join(map(str, row["patch_size"])) in line
        cells = line.split()
        assert f"{row['parameters'] / 1e6:.1f}" in cells
        assert f"{row['training_bytes'] / 1e9:.1f}" in cells
        assert str(row["batch_size"]) in cells
        assert ("yes" in cells) == row["fits"]
        assert sum(row["parts"].values()) == row["kept_autocast"]


def test_only_the_configurations_asked_for_are_shown_and_an_unknown_one_is_told(
    constructed, nnunet_folders, run
) -> None:
    constructed()
    _, text, _ = run("plan", "-d", 905, "-a", "PlainConvUNet", "-c", "2d", "--dry-run")
    assert "3d_fullres" not in text
    line = error_of(run("plan", "-d", 905, "-a", "PlainConvUNet", "-c", "4d"))
    assert "no configuration 4d" in line
    assert "3d_fullres" in line
    assert not (nnunet_folders.preprocessed / NAME / "nnUNetPlainConvUNetPlans.json").exists()


@pytest.mark.parametrize("spacing", [("0", "1", "1"), ("-1", "1", "1"), ("nan", "1", "1"), ("inf", "1", "1")])
def test_a_spacing_that_cannot_be_is_one_line(constructed, run, spacing) -> None:
    constructed()
    line = error_of(run("plan", "-d", 905, "-a", "CFNet", "-overwrite_target_spacing", *spacing))
    assert "needs three lengths above 0" in line


@pytest.mark.parametrize("target", [-3, 0])
def test_a_target_for_an_estimate_that_cannot_be_is_one_line(run, target) -> None:
    assert "is not a number of GB" in error_of(run("estimate", "-d", 905, "-gpu_memory_target", target))


@pytest.mark.parametrize("content", ["{", "[]", '{"labels": {}}'])
def test_a_broken_dataset_json_is_one_line(constructed, nnunet_folders, run, content) -> None:
    constructed()
    (nnunet_folders.raw / NAME / "dataset.json").write_text(content)
    error = error_of(run("plan", "-d", 905, "-a", "CFNet"))
    assert "not a dataset.json of nnU-Net" in error or "not valid JSON" in error
    assert "dataset.json" in error


def test_default_plans_of_another_major_version_are_one_line(constructed, nnunet_folders, run) -> None:
    constructed()
    (nnunet_folders.preprocessed / NAME / "nnUNetPlans.json").write_text('{"plans_per_stage": {}}')
    assert "not a plans file of nnU-Net 2.3 or later" in error_of(run("plan", "-d", 905, "-a", "CFNet"))


def test_a_variant_of_a_trainer_is_planned_with_its_options(constructed, nnunet_folders, run) -> None:
    constructed()
    code, text, _ = run("plan", "-d", 905, "-tr", "nnUNetTrainerCFFormer_base", "-c", "2d", "--no_pp")
    assert code == 0
    plans = json.loads((nnunet_folders.preprocessed / NAME / "nnUNetCFFormerBasePlans.json").read_text())
    for made in plans["configurations"].values():
        assert made["architecture"]["arch_kwargs"]["preset"] == "base"
    assert "-p nnUNetCFFormerBasePlans -tr nnUNetTrainerCFFormer_base" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no network was named"),
        (["-tr", "nnUNetTrainer"], "is no trainer of this plugin"),
        (["-tr", "nnUNetTrainerCFFormer_paper"], "builds a published network"),
        (["-tr", "nnUNetTrainerCFFormer", "-a", "CFNet"], "does not train CFNet"),
    ],
)
def test_a_network_that_cannot_be_told_is_one_line(constructed, run, arguments, message) -> None:
    constructed()
    assert message in error_of(run("plan", "-d", 905, *arguments))


@pytest.mark.parametrize("how", ["smaller", "full"])
def test_plans_for_a_larger_gpu_than_the_one_here_are_made_without_a_time(constructed, run, monkeypatch, how) -> None:
    def full(*_: Any, **__: Any) -> float:
        raise torch.cuda.OutOfMemoryError("full")

    constructed()
    memory = 1e9 if how == "smaller" else 1e15
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(total_memory=memory))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, _: self)
    monkeypatch.setattr(plan_facts, "epoch_seconds", full)
    code, text, _ = run("plan", "-d", 905, "-a", "PlainConvUNet", "-c", "2d", "--no_pp")
    assert code == 0
    assert "s an epoch" not in text
    assert "next:" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", 905, "-a", "CFNett"), "there is no network 'CFNett' - did you mean CFNet"),
        (("-d", 905, "-a", "zzz"), "there is no network 'zzz' - choose one of CFNet"),
        (("-d", 7, "-a", "CFNet"), "no single dataset of id 7: there is none"),
        (("-d", 905, "-a", "CFNet", "-gpu_memory_target", 0), "-gpu_memory_target 0 is not a number of GB"),
        (("-d", 905, "-a", "CFNet", "-gpu_memory_target", 0.001), "no patch of 3 resolutions or more fits CFNet"),
        (("-d", 905, "-a", "CFNet", "-overwrite_plans_name", "a__b"), "'a__b' cannot name plans"),
        (("-d", 902, "-a", "CFNet"), "CFNet needs at least two image channels; got 1"),
        (("-d", 903, "-a", "CFNet"), "planning needs the raw dataset, and there is no fingerprint either"),
    ],
)
def test_mistakes_are_one_line_and_write_nothing(constructed, nnunet_folders, run, tree, arguments, said) -> None:
    constructed()
    constructed("Dataset902_Hippocampus")
    constructed("Dataset903_LGG", fingerprint=False)
    (nnunet_folders.raw / "Dataset903_LGG" / "dataset.json").unlink()
    before = tree(nnunet_folders.raw.parent)
    assert said in error_of(run("plan", *arguments))
    assert tree(nnunet_folders.raw.parent) == before


def test_plans_of_another_form_are_one_line(constructed, nnunet_folders, run) -> None:
    constructed()
    (nnunet_folders.preprocessed / NAME / "nnUNetCFNetPlans.json").write_text('{"plans_per_stage": {}}')
    assert "not a plans file of nnU-Net 2.3 or later" in error_of(run("plan", "-d", 905, "-a", "CFNet"))
    assert "not a plans file of nnU-Net 2.3 or later" in error_of(run("estimate", "-d", 905, "-p", "nnUNetCFNetPlans"))


# --- estimate --------------------------------------------------------------------------------------------------------


def write_plans(folders: Any, plans: dict[str, Any]) -> None:
    (folders.preprocessed / NAME / f"{plans['plans_name']}.json").write_text(json.dumps(plans))


def test_estimate_sets_trainers_and_plans_side_by_side(constructed, nnunet_folders, run, small_plans) -> None:
    constructed()
    for name in ("smallPlans", "otherPlans"):
        write_plans(nnunet_folders, small_plans(NAME, plans_name=name))
    trainers, plans = ["nnUNetTrainer", "nnUNetTrainerCFNet"], ["smallPlans", "otherPlans"]
    arguments = ["estimate", "-d", 905, "-tr", *trainers, "-p", *plans, "-gpu_memory_target", 11]
    code, text, _ = run(*arguments, "--parts")
    assert code == 0
    rows = json.loads(run(*arguments, "--json")[1])
    assert [(row["network"], row["plans"], row["configuration"]) for row in rows] == [
        (f"{trainer} {name}", name, configuration)
        for name in plans
        for configuration in ("2d", "3d_fullres")
        for trainer in trainers
    ]
    for row in rows:
        line = next(
            line for line in text.splitlines() if line.startswith(row["network"]) and row["configuration"] in line
        )
        assert f"{row['parameters'] / 1e6:.1f} M" in line
        assert row["fits"] is True
        assert row["largest_batch"] > row["batch_size"]
    assert rows[0]["parameters"] != rows[1]["parameters"], "each trainer its own network"
    assert "kept by part" in text


def test_estimate_says_what_does_not_fit(constructed, nnunet_folders, run, small_plans) -> None:
    constructed()
    write_plans(nnunet_folders, small_plans(NAME, batch_size=10**6))
    code, text, _ = run("estimate", "-d", 905, "-p", "smallPlans", "-c", "2d", "-gpu_memory_target", 8)
    assert code == 0
    assert " NO " in text


def test_estimate_imports_foreign_classes_only_if_told_to(constructed, nnunet_folders, run, small_plans, monkeypatch):
    constructed()
    monkeypatch.setitem(sys.modules, "others", type(sys)("others"))
    sys.modules["others"].Network = CFNet
    write_plans(nnunet_folders, small_plans(NAME, network_class="others.Network"))
    line = error_of(run("estimate", "-d", 905, "-p", "smallPlans"))
    assert "the plans name others.Network, which would be imported" in line
    assert "--trust" in line
    assert run("estimate", "-d", 905, "-p", "smallPlans", "--trust")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-tr", "nnUNetTrainerNoSuch"), "there is no trainer nnUNetTrainerNoSuch"),
        (("-tr", "nnUNetTrainerCFNet_bogus"), "bogus"),
        (("-c", "4d"), "the plans have no configuration 4d"),
        (("-p", "absentPlans"), "there are no such plans"),
        (("-tr", "nnUNetTrainerCFNet_paper", "-c", "3d_fullres"), "the published CFNet needs a 2d configuration"),
    ],
)
def test_mistakes_of_estimate_are_one_line(constructed, nnunet_folders, run, small_plans, arguments, said) -> None:
    constructed()
    write_plans(nnunet_folders, small_plans(NAME))
    plans = () if "-p" in arguments else ("-p", "smallPlans")
    assert said in error_of(run("estimate", "-d", 905, *plans, *arguments))


def test_a_network_that_needs_data_is_one_line_in_estimate(constructed, nnunet_folders, run, small_plans, importable):
    class NeedsData(CFNet):
        def forward(self, x: torch.Tensor) -> Any:
            return super().forward(x * x.sum().item())

    constructed()
    path = f"{importable(NeedsData).__module__}.NeedsData"
    write_plans(nnunet_folders, small_plans(NAME, network_class=path))
    assert "NeedsData cannot be measured" in error_of(run("estimate", "-d", 905, "-p", "smallPlans", "--trust"))


# --- the whole path --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_stock_commands_train_and_predict_with_plans_made_from_a_download(nnunet_folders, run_nnunet, tmp_path) -> None:
    stock = Path(__file__).parents[2] / "benchmarks" / "stock_trainers"
    environment = {**nnunet_folders.environment(), "nnUNet_extTrainer": os.pathsep.join([str(stock), DISCOVERY_FOLDER])}
    download = tmp_path / "download"
    run_nnunet(["nnunet_ext", "phantom", "brats2021", "-o", download, "--cases", 6], environment)
    run_nnunet(["nnunet_ext", "convert", "brats2021", "-i", download, "-d", 137, "-np", 1], environment)
    said = run_nnunet(["nnunet_ext", "plan", "-d", 137, "-a", "CFNet", "-np", 1], environment).stdout
    (name,) = (path.name for path in nnunet_folders.preprocessed.glob("Dataset137_*"))
    trainer = "nnUNetTrainerCFNet_1epochs_1its_1vits"
    assert "nnUNetv2_train 137 3d_fullres 0 -p nnUNetCFNetPlans -tr nnUNetTrainerCFNet" in said
    command = f"nnUNetv2_train 137 3d_fullres 0 -p nnUNetCFNetPlans -tr {trainer} -device cpu"
    run_nnunet(command.split(), environment, timeout=900)
    fold = nnunet_folders.results / name / f"{trainer}__nnUNetCFNetPlans__3d_fullres" / "fold_0"
    assert (fold / "checkpoint_final.pth").is_file()

    plans = PlansManager(str(nnunet_folders.preprocessed / name / "nnUNetCFNetPlans.json"))
    network = nnUNetTrainer.build_network_architecture(plans, plans.get_configuration("3d_fullres"), 4, 3, True)
    assert isinstance(network, CFNet)
    weights = torch.load(fold / "checkpoint_final.pth", weights_only=False)["network_weights"]
    network.load_state_dict(weights)

    # for a larger GPU, by nnU-Net's own trainer (shortened), from a plans file that came from another machine
    run_nnunet(["nnunet_ext", "plan", "-d", 137, "-a", "CFNet", "-gpu_memory_target", 24, "-np", 1], environment)
    plans_file = nnunet_folders.preprocessed / name / "nnUNetCFNetPlans_24G.json"
    content = plans_file.read_text()
    assert str(tmp_path) not in content, "the plans name a place on this machine"
    plans_file.unlink()
    plans_file.write_text(content)
    model = "-d 137 -c 3d_fullres -p nnUNetCFNetPlans_24G -tr nnUNetTrainer_1epochs_1its_1vits"
    command = f"nnUNetv2_train 137 3d_fullres 0 -p nnUNetCFNetPlans_24G -tr {model.split()[-1]} -device cpu"
    run_nnunet(command.split(), environment, timeout=900)
    images = tmp_path / "images"
    images.mkdir()
    for file in (nnunet_folders.raw / name / "imagesTr").glob("BraTS2021_00000_*"):
        (images / file.name).symlink_to(file)
    command = f"nnUNetv2_predict -i {images} -o {tmp_path / 'out'} {model} -f 0 -device cpu -npp 1 -nps 1"
    run_nnunet(command.split(), environment, timeout=900)
    assert [file.name for file in (tmp_path / "out").glob("*.nii.gz")] == ["BraTS2021_00000.nii.gz"]


def test_the_commands_say_nothing_that_a_user_did_not_ask_for(constructed, nnunet_folders) -> None:
    constructed()
    done = subprocess.run(
        [sys.executable, "-m", "nnunet_ext", "plan", "-d", "905", "-a", "PlainConvUNet", "--no_pp", "--json"],
        env={**os.environ, **nnunet_folders.environment()},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plans_name"] == "nnUNetPlainConvUNetPlans"
    assert "Traceback" not in done.stderr
