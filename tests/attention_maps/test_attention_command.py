"""``nnunet_ext attention``: what it writes, what it refuses, and that it leaves nothing half-written."""

from __future__ import annotations

import csv
import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from PIL import Image

from nnunet_ext.attention_maps.loaded_model import load_model, preprocessed, trained_fold
from nnunet_ext.attention_maps.map_files import MapWriter
from nnunet_ext.cli import main
from nnunet_ext.errors import UserError

ATTENTION_UNET = "nnunet_ext.architectures.attention_unet.AttentionUNet"
PAM = {"attention": "pam", "gate": True, "patch_size": [16, 16, 16]}


@pytest.fixture(scope="module")
def case(tmp_path_factory, write_case) -> Path:
    """One case, larger than a patch, with zeros around it and in a turned geometry."""
    return write_case(
        tmp_path_factory.mktemp("images"),
        shape=(9, 24, 20),
        spacing=(3.0, 1.0, 1.0),
        zeros=2,
        direction=(0, 1, 0, -1, 0, 0, 0, 0, 1),
    )


@pytest.fixture(scope="module")
def pam_model(tmp_path_factory, write_model) -> Path:
    """A U-Net with PAM and gates, which plans name and nnU-Net's own trainer trained."""
    return write_model(
        tmp_path_factory.mktemp("pam"), "nnUNetTrainer", "3d_fullres", network_class=ATTENTION_UNET, options=PAM
    )


@pytest.fixture(scope="module")
def cfnet(tmp_path_factory, write_model) -> Path:
    return write_model(tmp_path_factory.mktemp("cfnet"), "nnUNetTrainerCFNet", "2d")


@pytest.fixture(scope="module")
def in_child(tmp_path_factory, write_model, cfnet, case) -> dict[str, tuple[Path, str]]:
    """What the command has written and printed of a CFNet and a CFFormer, in a process of its own."""
    parent = tmp_path_factory.mktemp("child")
    cfformer = write_model(parent, "nnUNetTrainerCFFormer", "3d_fullres", n_stages=4)
    places = ("--places", "fusions.1", "context", "communications")
    commands = {
        "CFNet": words(cfnet, case, parent / "cfnet", *places),
        "CFFormer": words(cfformer, case.parent, parent / "cfformer", "-f", "0", "--places", "fusions.0"),
    }
    # both in one, since starting takes longest
    program = (
        "import json, sys; from nnunet_ext.cli import main\nfor argv in json.loads(sys.argv[1]): print(main(argv))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(list(commands.values()))],
        cwd=Path(__file__).parents[2],
        text=True,
        capture_output=True,
        check=True,
    )
    cfnet_said, cfformer_said, end = done.stdout.split("\n0\n")
    assert (end, done.stderr) == ("", ""), "nobody watches, so there is no bar"
    return {"CFNet": (parent / "cfnet", cfnet_said), "CFFormer": (parent / "cfformer", cfformer_said)}


def words(model: Path, case: Path, out: Path, *more: str) -> list[str]:
    return ["attention", "-m", str(model), "-i", str(case), "-o", str(out), "-device", "cpu", *more]


def entries(out: Path) -> dict[str, dict[str, Any]]:
    return {entry["file"]: entry for entry in json.loads((out / "maps.json").read_text())["maps"]}


def check_folder(out: Path, case: Path, said: str) -> dict[str, dict[str, Any]]:
    """The index lists what is there, a line is printed for each file, and maps lie on the grid of the image."""
    listed = entries(out)
    assert {path.name for path in out.iterdir()} == {*listed, "maps.json"}
    lines = said.strip().splitlines()
    assert [line.split(":")[0] for line in lines[-len(listed) - 1 : -1]] == list(listed)
    assert lines[-1].startswith(f"next: look at {out}")
    assert (out / lines[-1].split()[3].removeprefix(f"{out}/").rstrip(";")).is_file()
    image = sitk.ReadImage(str(case.with_name(f"{case.name}_0000.nii.gz")))
    inside = sitk.GetArrayFromImage(image) != 0
    for name, entry in listed.items():
        assert entry["how_to_read"]
        assert np.isfinite([entry["minimum"], entry["maximum"]]).all()
        if name.endswith(".nii.gz"):
            written = sitk.ReadImage(str(out / name))
            assert written.GetSize() == image.GetSize()
            np.testing.assert_allclose(written.GetDirection(), image.GetDirection(), atol=1e-6)
            np.testing.assert_allclose(written.GetOrigin(), image.GetOrigin(), rtol=1e-5)
            np.testing.assert_allclose(written.GetSpacing(), image.GetSpacing(), rtol=1e-6)
            values = sitk.GetArrayFromImage(written)
            assert not values[~inside].any()
            np.testing.assert_allclose(
                [values[inside].min(), values[inside].max()], [entry["minimum"], entry["maximum"]], rtol=1e-5
            )
            assert f"{name.removesuffix('.nii.gz')}.png" in listed
    return listed


def test_of_a_2d_cfnet_fusions_gates_and_branches_are_written(in_child, case) -> None:
    out, said = in_child["CFNet"]
    listed = check_folder(out, case, said)
    kinds = {(entry["block"], entry["kind"]) for entry in listed.values()}
    assert kinds == {
        ("ModalityFusion", "matrix"),
        ("ModalityFusion", "voxels"),
        ("MultiScaleContext", "channels"),
        ("GatedCommunication", "voxels"),
    }
    gate = listed["03_decoder.communications.0_gate.nii.gz"]
    assert 0 < gate["minimum"] < gate["maximum"] < 1
    assert gate["level"] == 1
    facts = json.loads((out / "maps.json").read_text())
    assert (facts["case"], facts["trainer"], facts["fold"]) == ("case7", "nnUNetTrainerCFNet", "0")
    with (out / "02_context_channels.csv").open() as stream:
        rows = list(csv.reader(stream))
    weights = np.array([row[4:] for row in rows[1:]], dtype=float).reshape(len(rows) - 1, 4, -1)
    assert len(rows) == 2 + facts["tiles"]
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(weights[-1], weights[:-1].mean(0), rtol=1e-5)


def test_of_a_3d_cfformer_the_channel_matrices_are_written(in_child, case) -> None:
    out, said = in_child["CFFormer"]
    listed = check_folder(out, case, said)
    assert {entry["block"] for entry in listed.values()} == {"ChannelExchange"}
    matrix = np.load(out / "01_fusions.0.cfca_to_convolutional.npy")
    back = np.load(out / "01_fusions.0.cfca_to_transformer.npy")
    assert matrix.shape == back.shape[::-1]
    np.testing.assert_allclose(matrix.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(back.sum(1), 1, rtol=1e-5)


def test_of_pam_slice_weights_key_slices_and_channel_weights_are_written(pam_model, case, tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert main(words(pam_model, case, out, "--trust", "--places", "encoder.1", "gates.1")) == 0
    listed = check_folder(out, case, capsys.readouterr().out)
    assert list(listed) == [
        "01_encoder.1.attention_slices.nii.gz",
        "01_encoder.1.attention_slices.png",
        "01_encoder.1.attention_keys.nii.gz",
        "01_encoder.1.attention_keys.png",
        "01_encoder.1.attention_channels.csv",
        "01_encoder.1.attention_channels.png",
        "02_decoder.gates.1_gate.nii.gz",
        "02_decoder.gates.1_gate.png",
        "slices.csv",
    ]
    assert listed["01_encoder.1.attention_keys.png"]["block"] == "ProgressiveAttention"
    with (out / "slices.csv").open() as stream:
        rows = list(csv.reader(stream))
    assert rows[0] == ["slice", "encoder.1.attention slices", "encoder.1.attention keys"]
    assert len(rows) == 1 + 9
    assert [row[1] == "" for row in rows[1:]] == [True, True, *[False] * 5, True, True], "zeros around the image"
    painted = sitk.GetArrayFromImage(sitk.ReadImage(str(out / "01_encoder.1.attention_slices.nii.gz")))
    for row in rows[3:8]:
        here = painted[int(row[0]) - 1, 2:-2, 2:-2]
        assert float(row[1]) == pytest.approx(here.mean(), rel=1e-5)


def test_the_gate_in_the_file_is_what_a_plain_pass_multiplies_the_skip_with(pam_model, write_case, tmp_path) -> None:
    """One tile at the spacing of the plans: no averaging and no interpolation lie in between."""
    case = write_case(tmp_path / "images", shape=(16, 16, 16))
    assert main(words(pam_model, case, tmp_path / "out", "--trust", "--places", "gates.1", "stages.1")) == 0
    model = load_model(pam_model, "0", "checkpoint_final.pth", trusted=True)
    files = [case.with_name(f"{case.name}_{channel:04d}.nii.gz") for channel in (0, 1)]
    data, _ = preprocessed(model, files)
    seen: dict[str, Any] = {}
    network: Any = model.network.eval()
    gate, attention = network.decoder.gates[1], network.decoder.stages[1].attention
    gate.register_forward_pre_hook(lambda _, inputs: seen.update(skip=inputs[0]))
    gate.out.register_forward_pre_hook(lambda _, inputs: seen.update(gated=inputs[0]))
    attention.register_forward_hook(lambda _, inputs, output: seen.update(ratio=output / inputs[0]))
    with torch.no_grad():
        network(data[None])
    written = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "01_decoder.gates.1_gate.nii.gz")))
    np.testing.assert_allclose(written, (seen["gated"] / seen["skip"])[0, 0].numpy(), rtol=1e-4)
    with (tmp_path / "out" / "02_decoder.stages.1.attention_channels.csv").open() as stream:
        channels = np.array(list(csv.reader(stream))[-1][4:], dtype=float)
    painted = sitk.GetArrayFromImage(
        sitk.ReadImage(str(tmp_path / "out" / "02_decoder.stages.1.attention_slices.nii.gz"))
    )
    ratio = seen["ratio"][0].nanmedian(-1).values.nanmedian(-1).values.numpy()  # (C, D)
    np.testing.assert_allclose(painted[:, 3, 5], (ratio / channels[:, None]).mean(0), rtol=1e-4)


def test_a_gate_that_is_the_same_everywhere_is_written_as_such(pam_model, case, tmp_path) -> None:
    model = tmp_path / "model"
    shutil.copytree(pam_model, model)
    file = model / "fold_0" / "checkpoint_final.pth"
    checkpoint = torch.load(file, weights_only=True)
    for key, value in checkpoint["network_weights"].items():
        if key.startswith("decoder.gates.0.psi"):
            value.fill_(0.0 if key.endswith("weight") else 0.7)
    torch.save(checkpoint, file)
    assert main(words(model, case, tmp_path / "out", "--trust", "--places", "gates.0")) == 0
    values = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out" / "01_decoder.gates.0_gate.nii.gz")))
    inside = sitk.GetArrayFromImage(sitk.ReadImage(f"{case}_0000.nii.gz")) != 0
    np.testing.assert_allclose(values[inside], 1 / (1 + np.exp(-0.7)), rtol=1e-5)
    assert not values[~inside].any()


def test_the_first_trained_fold_is_taken(write_model, tmp_path) -> None:
    model = write_model(tmp_path, "nnUNetTrainerCFNet", "2d", folds=(10, 3, "all"))
    (model / "fold_1").mkdir()
    assert trained_fold(model, "checkpoint_final.pth") == "3"
    shutil.rmtree(model / "fold_3")
    shutil.rmtree(model / "fold_10")
    assert trained_fold(model, "checkpoint_final.pth") == "all"
    with pytest.raises(UserError, match="no fold of this model has checkpoint_best"):
        trained_fold(model, "checkpoint_best.pth")


class Attack:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple:
        return Path.touch, (self.proof,)


@pytest.fixture
def refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``refused(arguments)``: the one line that the command ends with; it has written nothing."""

    def run(arguments: list[str]) -> str:
        before = sorted(tmp_path.rglob("*"))
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert sorted(tmp_path.rglob("*")) == before
        return error

    return run


def test_a_network_without_attention_is_refused_with_where_those_that_have_some_are_named(
    write_model, case, tmp_path, refused
) -> None:
    model = write_model(tmp_path, "nnUNetTrainer", "2d")
    error = refused(words(model, case, tmp_path / "out"))
    assert "PlainConvUNet" in error
    assert "docs/attention.md" in error
    page = (Path(__file__).parents[2] / "docs" / "attention.md").read_text(encoding="utf-8")
    assert all(name in page for name in ("CFNet", "CFFormer", "PAMUNet", "AnatomyNet"))


def test_foreign_classes_and_checkpoints_are_refused_and_nothing_runs(cfnet, case, tmp_path, refused) -> None:
    model = tmp_path / "model"
    shutil.copytree(cfnet, model)
    plans = json.loads((model / "plans.json").read_text())
    plans["configurations"]["2d"]["architecture"]["network_class_name"] = "os.system"
    (model / "plans.json").write_text(json.dumps(plans))
    assert "os.system" in refused(words(model, case, tmp_path / "out"))
    shutil.copy(cfnet / "plans.json", model)
    with (model / "fold_0" / "checkpoint_final.pth").open("wb") as file:
        pickle.dump({"network_weights": {}, "attack": Attack(tmp_path / "proof")}, file)
    for more in ([], ["--trust"]):
        assert "checkpoint is torn" in refused(words(model, case, tmp_path / "out", *more))
    assert not (tmp_path / "proof").exists()


def test_a_trainer_of_nobody_is_refused(cfnet, case, tmp_path, refused) -> None:
    model = tmp_path / "model"
    shutil.copytree(cfnet, model)
    file = model / "fold_0" / "checkpoint_final.pth"
    torch.save({**torch.load(file, weights_only=True), "trainer_name": "nnUNetTrainerNobody"}, file)
    assert "nnUNetTrainerNobody" in refused(words(model, case, tmp_path / "out"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["-m", "nowhere"], "there is no such folder (nowhere)"),
        (["-f", "7"], "there is no such checkpoint"),
        (["-f", "../fold_0"], "name no checkpoint"),
        (["-chk", "../../secret.pth"], "names no checkpoint"),
        (["-chk", "checkpoint_best.pth"], "no fold of this model has checkpoint_best.pth"),
        (["-step_size", "0"], "above 0 and at most 1"),
        (["--places", "gatez"], "has gatez in its name - choose from fusions.0"),
        (["--channel", "5"], "the case has no channel 5 "),
        (["-o", "x" * 250], "too long"),
    ],
)
def test_what_does_not_exist_is_named(cfnet, case, tmp_path, refused, more, message) -> None:
    assert message in refused([*words(cfnet, case, tmp_path / "out"), *more])


def test_what_holds_something_is_left_alone(cfnet, case, tmp_path, refused) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    assert "the folder holds something" in refused(words(cfnet, case, tmp_path / "out"))
    assert "it is a file" in refused(words(cfnet, case, tmp_path / "out" / "thesis.txt"))


def test_a_case_that_does_not_fit_is_named(cfnet, case, write_case, tmp_path, refused) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    one = write_case(images, "one", channels=1)
    write_case(images, "three", channels=3)
    assert "the case has 1 image channel, and the model was trained with 2" in refused(words(cfnet, one, out))
    assert "the case has 3 image channels" in refused(words(cfnet, images / "three", out))
    assert "one case is shown at a time" in refused(words(cfnet, images, out))
    assert "there is no case 'four'" in refused(words(cfnet, images / "four", out))
    assert "ends in its channel" in refused(words(cfnet, images / "one.nii.gz", out))
    (images / "three_0001.nii.gz").unlink()
    assert "no file for channel 1" in refused(words(cfnet, images / "three", out))
    write_case(images, "small", shape=(5, 9, 9), channels=1)
    (images / "small_0000.nii.gz").rename(images / "one_0001.nii.gz")
    assert "is not that of channel 0" in refused(words(cfnet, one, out))
    torn = (images / "one_0000.nii.gz").read_bytes()
    for channel in (0, 1):
        (images / f"torn_{channel:04d}.nii.gz").write_bytes(torn[: len(torn) // 2] if channel else torn)
    assert "broken gzip file" in refused(words(cfnet, images / "torn", out))


def test_a_colour_picture_gets_maps_of_its_two_dimensions(write_model, tmp_path, capsys) -> None:
    model = write_model(tmp_path, "nnUNetTrainerCFNet", "2d", channels=3, file_ending_reader="NaturalImage2DIO")
    dataset = json.loads((model / "dataset.json").read_text())
    (model / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".png"}))
    pixels = np.random.default_rng(4).integers(1, 255, (40, 28, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "polyp_0000.png")
    out = tmp_path / "out"
    assert main(words(model, tmp_path / "polyp_0000.png", out, "--places", "communications")) == 0
    written = sitk.ReadImage(str(out / "01_decoder.communications.0_gate.nii.gz"))
    assert written.GetSize() == (28, 40)
    assert sitk.GetArrayFromImage(written).std() > 1e-3


def test_the_name_of_a_case_is_shown_as_text(cfnet, write_case, tmp_path, capsys) -> None:
    case = write_case(tmp_path / "images", "=cmd\u202e$x$", shape=(1, 16, 16))
    out = tmp_path / "out"
    assert main(words(cfnet, case.with_name(f"{case.name}_0001.nii.gz"), out, "--places", "communications")) == 0
    assert "\u202e" not in capsys.readouterr().out
    assert json.loads((out / "maps.json").read_text())["case"] == case.name


def test_a_cascade_s_second_stage_is_refused(write_model, case, tmp_path, refused) -> None:
    model = write_model(tmp_path, "nnUNetTrainerCFNet", "3d_cascade_fullres", cascade=True)
    assert "reads the prediction of 3d_lowres" in refused(words(model, case, tmp_path / "out"))


def test_after_an_error_in_the_middle_nothing_is_left(cfnet, case, tmp_path, monkeypatch, capsys) -> None:
    write = MapWriter.write

    def fails(self: MapWriter, gathered: Any) -> None:
        write(self, gathered)
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(MapWriter, "write", fails)
    assert main(words(cfnet, case, tmp_path / "out", "--places", "communications")) == 2
    assert "No space left on device" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
