"""``nnunet_ext pretrained --reference``: whole published checkpoints, made here, of every network that takes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from nnunet_ext.architectures.attention_unet import AttentionUNet
from nnunet_ext.architectures.attention_unet_reference import AttentionUNetReference
from nnunet_ext.architectures.attention_vnet_reference import AttentionVNetReference
from nnunet_ext.architectures.attention_weights import UNET, VNET, published_keys
from nnunet_ext.cli import main

PATCH = (16, 16, 32)
GOLDEN = Path(__file__).parents[1] / "golden"
#: how the golden files list the shapes of a published state dict
SHAPES = {
    "CFNet_paper": lambda content: {entry["key"]: entry["shape"] for entry in content["entries"]},
    "CFFormer_paper": lambda content: {key: shape for key, (shape, _) in content["keys"].items()},
}


@pytest.fixture
def start(toy, tmp_path, capsys):
    """``start(name, file, **of_the_dataset)``: exit code, printed text, and the weights written, if any."""

    def run(name, file, configuration="3d_fullres", **options):
        toy(**({"channels": 1, "patch_3d": PATCH, "shape": (18, 20, 34)} | options))
        output = tmp_path / "start.pth"
        trainer = f"nnUNetTrainer{name}_1epochs_1its_1vits"
        words = ["-d", "501", "-c", configuration, "-tr", trainer, "-p", "smallPlans", "-o", output]
        code = main(["pretrained", *map(str, words), "--reference", str(file)])
        said = "".join(capsys.readouterr())
        return code, said, torch.load(output, weights_only=True)["network_weights"] if output.exists() else None

    return run


def published(network: torch.nn.Module, table: dict[str, str]) -> dict[str, torch.Tensor]:
    """The state dict of a network under its authors' names: stacked weights taken apart."""
    named = {}
    for key, value in network.state_dict().items():
        names = published_keys(table, key, value)
        if "pe_layer.conv" in names[0] and value.ndim == 2:
            value = value[..., None, None, None]
        named |= dict(zip(names, value if len(names) > 1 else [value], strict=True))
    return named


def unet(name: str, classes: int, depth: int = 16) -> AttentionUNetReference:
    torch.manual_seed(3)
    return AttentionUNet.reference(name, num_classes=classes, depth=depth)


@pytest.mark.parametrize("name", ["agscSEUNet3D", "PEUNet3d"])
def test_a_checkpoint_for_as_many_classes_starts_everything(start, tmp_path, name, make_trainer):
    network = unet(name, 3)
    torch.save({"state_dict": published(network, UNET)}, tmp_path / "zoo.pth")
    trainer = {"agscSEUNet3D": "PAMUNet_paper", "PEUNet3d": "PEUNet_paper"}[name]
    code, said, weights = start(trainer, tmp_path / "zoo.pth")
    assert code == 0
    assert "heads are loaded too" in said
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    assert f"-pretrained_weights {tmp_path / 'start.pth'}" in said
    started = make_trainer(f"nnUNetTrainer{trainer}_1epochs_1its_1vits", pretrained=str(tmp_path / "start.pth"))
    key = "encoders.0.convs.0.conv.weight"
    assert torch.equal(started.network.state_dict()[key], network.state_dict()[key])


def test_a_v_net_wrapped_for_several_gpus_is_taken_too(start, tmp_path):
    torch.manual_seed(3)
    network = AttentionVNetReference("agscSEVNet", num_classes=3, depth=16)
    named = {f"module.{key}": value for key, value in published(network, VNET).items()}
    torch.save(named, tmp_path / "zoo.pth")
    code, said, weights = start("PAMVNet_paper", tmp_path / "zoo.pth")
    assert (code, "start at random" in said) == (0, False)
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())


def test_another_number_of_classes_leaves_the_heads_alone(start, tmp_path):
    network = unet("cSEUNet3D", 11)
    torch.save(published(network, UNET), tmp_path / "zoo.pth")
    code, said, weights = start("SEUNet_paper", tmp_path / "zoo.pth")
    assert code == 0
    assert "heads start at random: 11 classes in the file, 3 here" in said
    for key, value in network.state_dict().items():
        assert ("seg_layers" in key) != (weights[key].shape == value.shape and torch.equal(weights[key], value))


def test_slice_attention_of_another_depth_is_interpolated(start, tmp_path):
    network = unet("scSEUNet3D", 3, depth=24)
    torch.save(published(network, UNET), tmp_path / "zoo.pth")
    code, said, weights = start("SCAUNet_paper", tmp_path / "zoo.pth")
    assert code == 0
    assert "slice attention for 24 slices, 16 here: 7 modules interpolated" in said
    assert "at random" not in said.replace("leaves them at random", "")
    bias = network.state_dict()["encoders.0.attention.slices.mlp.expand_bias"]
    expected = torch.nn.functional.interpolate(bias[None], size=16, mode="linear")[0]
    torch.testing.assert_close(weights["encoders.0.attention.slices.mlp.expand_bias"], expected)


def test_a_module_without_hidden_numbers_is_interpolated_too(start, tmp_path):
    """The published progressive module divides 12 and 16 slices by 16: nothing is left at the deeper levels."""
    network = unet("agscSEUNet3D", 3, depth=24)
    torch.save(published(network, UNET), tmp_path / "zoo.pth")
    code, said, weights = start("PAMUNet_paper", tmp_path / "zoo.pth")
    assert code == 0, said
    assert "slice attention for 24 slices, 16 here: 7 modules interpolated" in said
    bias = network.state_dict()["encoders.2.attention.slices.mlp.expand_bias"]
    expected = torch.nn.functional.interpolate(bias[None], size=4, mode="linear")[0]
    torch.testing.assert_close(weights["encoders.2.attention.slices.mlp.expand_bias"], expected)


def test_a_hidden_width_that_differs_starts_at_random_and_the_rest_is_loaded(start, tmp_path):
    network = unet("scSEUNet3D", 3, depth=64)
    torch.save(published(network, UNET), tmp_path / "zoo.pth")
    code, said, weights = start("SCAUNet_paper", tmp_path / "zoo.pth")
    assert code == 0
    assert "modules of slice attention start at random" in said
    assert "_depth64 behind the trainer's name keeps them" in said
    assert torch.equal(
        weights["encoders.3.convs.0.conv.weight"], network.state_dict()["encoders.3.convs.0.conv.weight"]
    )


def test_a_network_for_the_depth_of_the_file_loses_nothing_and_trains_on_another(start, tmp_path, train):
    network = unet("agscSEUNet3D", 3, depth=64)
    torch.save(published(network, UNET), tmp_path / "zoo.pth")
    code, said, weights = start("PAMUNet_paper_depth64", tmp_path / "zoo.pth")
    assert code == 0, said
    assert "slice attention" not in said
    assert all(torch.equal(weights[key], value) for key, value in network.state_dict().items())
    name = "nnUNetTrainerPAMUNet_paper_depth64_1epochs_1its_1vits"
    trained = train(name, pretrained=str(tmp_path / "start.pth"), checkpoints=False)
    assert trained.logger.get_value("train_losses", -1) > 0


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ({1: torch.zeros(2)}, "holds no state dict"),
        ({"a": torch.zeros(2, dtype=torch.complex64)}, "holds no plain numbers"),
        ({"a": torch.tensor([1.0, float("nan")])}, "not finite"),
        ({"EncoderLayer1.encoder_sSE.Slice_SE_encoder.0.fc.2.bias": torch.tensor(1.0)}, "keys missing"),
        ({"net": {"a": torch.zeros(2)}, "epoch": 3}, "keys missing"),
    ],
    ids=["numbers as names", "complex", "not finite", "a bias without a length", "beside other things"],
)
def test_a_file_of_something_else_is_one_line(start, tmp_path, content, why):
    torch.save(content, tmp_path / "zoo.pth")
    code, said, weights = start("PAMUNet_paper", tmp_path / "zoo.pth")
    assert (code, weights, len(said.splitlines())) == (2, None, 1)
    assert why in said


def test_tensors_of_a_layer_that_differ_are_named(start, tmp_path):
    named = published(unet("agscSEUNet3D", 3), UNET)
    key = "EncoderLayer1.encoder_sSE.Slice_SE_encoder.3.fc.2.bias"
    named[key] = torch.zeros(5)
    torch.save(named, tmp_path / "zoo.pth")
    code, said, _ = start("PAMUNet_paper", tmp_path / "zoo.pth")
    assert code == 2
    assert "EncoderLayer1.encoder_sSE.Slice_SE_encoder.0.fc.2.bias and the others of its layer differ in shape" in said


@pytest.mark.parametrize("damage", ["missing", "unknown", "shape", "empty", "other network"])
def test_a_file_that_is_not_of_this_network_is_one_line_and_nothing_is_written(start, tmp_path, damage):
    named = published(unet("cSEUNet3D" if damage == "other network" else "agscSEUNet3D", 3), UNET)
    if damage == "missing":
        named.pop("final_conv.weight")
    elif damage == "unknown":
        named["another"] = torch.zeros(3)
    elif damage == "shape":
        named["EncoderLayer1.basic_module.Conv1.conv.weight"] = torch.zeros(8, 4, 3, 3, 3)
    elif damage == "empty":
        named = {}
    torch.save(named, tmp_path / "zoo.pth")
    code, said, weights = start("PAMUNet_paper", tmp_path / "zoo.pth")
    assert (code, weights) == (2, None)
    assert len(said.splitlines()) == 1
    assert "zoo.pth" in said


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("PAMUNet", "nnUNetTrainerPAMUNet_paper"), ("CBAMUNet", "no trainer takes published weights")],
)
def test_a_self_configuring_trainer_names_the_one_that_takes_published_weights(start, tmp_path, name, remedy):
    torch.save({}, tmp_path / "zoo.pth")
    code, said, _ = start(name, tmp_path / "zoo.pth")
    assert code == 2
    assert remedy in said


def test_a_whole_network_and_an_encoder_are_not_given_together(tmp_path, capsys):
    words = "-d 501 -c 2d -tr nnUNetTrainerCFNet_paper --cnn resnet50 --reference zoo.pth -o start.pth"
    assert main(["pretrained", *words.split()]) == 2
    assert "give it alone" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "keys", "channels"),
    [("CFNet_paper", "cfnet/live_keys.json", 4), ("CFFormer_paper", "cfformer_authors/keys_s.json", 3)],
)
def test_networks_of_other_families_start_from_their_published_checkpoints(start, tmp_path, name, keys, channels):
    """Of their authors' number of classes, not the toy's."""
    named = SHAPES[name](json.loads((GOLDEN / keys).read_text(encoding="utf-8")))
    torch.save({key: torch.full(shape, 0.25) for key, shape in named.items()}, tmp_path / "zoo.pth")
    code, said, weights = start(name, tmp_path / "zoo.pth", "2d", channels=channels, patch_2d=(32, 32))
    assert code == 0, said
    assert "heads start at random" in said
    loaded = [key for key, value in weights.items() if value.ndim > 1 and bool((value == 0.25).all())]
    assert len(loaded) > 100
