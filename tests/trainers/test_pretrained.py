"""``nnunet_ext pretrained``: files in the hub's formats made here, start checkpoints that the stock commands load."""

from __future__ import annotations

import io
import pickle
import re
import shlex
import urllib.error
import urllib.request
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torchvision import models

from nnunet_ext.architectures.cfformer import CFFormer
from nnunet_ext.cli import main
from nnunet_ext.errors import UserError
from nnunet_ext.families import ENCODERS
from nnunet_ext.families.rows import Encoder
from nnunet_ext.trainers import hub_weights, pretrained

TRAINER = "nnUNetTrainerCFFormer_paper_1epochs_1its_1vits"


@pytest.fixture(scope="module")
def swin_tiny() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model("swinv2_tiny_window8_256").state_dict()


@pytest.fixture(scope="module")
def resnet34() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return timm.create_model("resnet34").state_dict()


@pytest.fixture
def command(toy, tmp_path):
    """``command(*arguments)``: exit code of the command on a toy dataset of three channels, writing ``start.pth``."""
    toy(channels=3)

    def run(*arguments: object, trainer: str = TRAINER, configuration: str = "2d") -> int:
        fixed = ["-d", "501", "-c", configuration, "-tr", trainer, "-p", "smallPlans", "-o", tmp_path / "start.pth"]
        return main(["pretrained", *map(str, fixed), *map(str, arguments)])

    return run


def test_a_start_checkpoint_holds_both_encoders_and_the_stock_loader_takes_it(
    command, swin_tiny, resnet34, tmp_path, make_trainer, capsys
):
    torch.save(resnet34, tmp_path / "resnet34.pth")
    save_file(swin_tiny, tmp_path / "swin.safetensors")
    assert (
        command("--cnn", tmp_path / "resnet34.pth", "--transformer", tmp_path / "swin.safetensors", "--window", 8) == 0
    )
    printed = capsys.readouterr().out
    assert "216 tensors" in printed
    assert "205 tensors" in printed
    assert printed.splitlines()[-1].startswith("next: nnUNetv2_train 501 2d 0 -tr ")
    trainer = make_trainer(TRAINER, "2d", pretrained=str(tmp_path / "start.pth"))
    network = trainer.network
    assert torch.equal(network.cnn.layer4[0].conv1.weight, resnet34["layer4.0.conv1.weight"])
    key = "layers.2.blocks.5.attn.qkv.weight"
    assert torch.equal(network.transformer.state_dict()[key], swin_tiny[key])
    assert network.transformer.trained_windows == [(8, 8)] * 4


def test_torchvisions_files_start_both_encoders_and_tell_their_window(command, tmp_path, make_trainer, capsys, log_of):
    torch.manual_seed(0)
    swin = models.swin_v2_t().state_dict()
    swin = {key: value + 0.01 if value.is_floating_point() else value for key, value in swin.items()}
    resnet = {key: value + 1 for key, value in models.resnet34().state_dict().items()}
    torch.save(swin, tmp_path / "swin_v2_t-b137f0e2.pth")
    torch.save(resnet, tmp_path / "resnet34-b627a593.pth")
    arguments = ("--cnn", tmp_path / "resnet34-b627a593.pth", "--transformer", tmp_path / "swin_v2_t-b137f0e2.pth")
    assert command(*arguments) == 0
    assert "windows of training, one a stage: 8x8, 8x8, 8x8, 8x8" in capsys.readouterr().out
    trainer = make_trainer(TRAINER, "2d", pretrained=str(tmp_path / "start.pth"))
    started = trainer.network.transformer.state_dict()
    assert torch.equal(started["layers.2.blocks.5.mlp.fc2.bias"], swin["features.5.5.mlp.3.bias"])
    assert torch.equal(started["layers.3.blocks.0.attn.qkv.bias"], swin["features.7.0.attn.qkv.bias"])
    assert torch.equal(trainer.network.cnn.bn1.weight, resnet["bn1.weight"])
    assert trainer.encoders_that_start_at_random() == []


@pytest.fixture
def reachable(monkeypatch):
    """As if the hubs answered."""
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: io.BytesIO())


@pytest.fixture
def attempts(monkeypatch, tmp_path):
    """No network, and nothing fetched before; the addresses that were tried."""
    tried = []

    def offline(request, timeout):
        tried.append(request.full_url)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(urllib.request, "urlopen", offline)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    return tried


@pytest.mark.parametrize(
    ("names", "files", "options"),
    [
        (
            ("--cnn", "torchvision:resnet34", "--transformer", "torchvision:swin_v2_t"),
            (
                "https://download.pytorch.org/models/resnet34-b627a593.pth as resnet34-b627a593.pth",
                "https://download.pytorch.org/models/swin_v2_t-b137f0e2.pth as swin_v2_t-b137f0e2.pth",
            ),
            "--cnn resnet34-b627a593.pth --transformer swin_v2_t-b137f0e2.pth",
        ),
        (
            ("--cnn", "resnet34.a1_in1k", "--transformer", "swinv2_tiny_window8_256.ms_in1k"),
            (
                "timm/resnet34.a1_in1k/resolve/main/model.safetensors as resnet34.a1_in1k.safetensors",
                "timm/swinv2_tiny_window8_256.ms_in1k/resolve/main/model.safetensors as "
                "swinv2_tiny_window8_256.ms_in1k.safetensors",
            ),
            "--cnn resnet34.a1_in1k.safetensors --transformer swinv2_tiny_window8_256.ms_in1k.safetensors --window 8",
        ),
    ],
)
def test_without_a_network_one_attempt_ends_in_what_to_fetch_and_what_to_type(
    command, attempts, capfd, tmp_path, names, files, options
):
    assert command(*names) == 2
    assert len(attempts) == 1
    fetch, following = capfd.readouterr().err.splitlines()
    assert fetch.startswith("error: the weights of ")
    assert "Name or service not known" in fetch
    for file in files:
        assert file in fetch
    assert following == (
        f"then: nnunet_ext pretrained -d 501 -c 2d -tr {TRAINER} -p smallPlans {options} -o {tmp_path / 'start.pth'}"
    )


def test_windows_that_differ_between_stages_are_all_named():
    files, options = hub_weights.options_for({"transformer": "swinv2_base_window12_192.ms_in22k"}, None)
    assert files[0].windows == (12, 12, 12, 6)
    assert options[-5:] == ["--window", "12", "12", "12", "6"]


def test_a_window_that_was_given_is_kept_beside_a_file(tmp_path):
    sources = {"cnn": "torchvision:resnet34", "transformer": "swin.pth"}
    _, options = hub_weights.options_for(sources, [7])
    assert options[2:] == ["--transformer", "swin.pth", "--window", "7"]


def test_a_tag_that_timm_does_not_have_is_one_line():
    with pytest.raises(UserError, match=r"timm has no weights 'resnet34.a1_in1'.*did you mean resnet34.a1_in1k"):
        hub_weights.hub_file("resnet34.a1_in1", "cnn")


def test_names_of_torchvision_fetch_what_the_authors_started_from(monkeypatch, reachable):
    asked = []

    def get_model(name, weights):
        asked.append((name, weights))
        return getattr(models, name)()

    monkeypatch.setattr(models, "get_model", get_model)
    weights, windows = pretrained.read_weights("torchvision:swin_v2_t", "transformer")
    assert windows is None, "the weights tell them"
    assert "features.0.0.weight" in weights
    assert "layer4.2.bn2.weight" in pretrained.read_weights("torchvision:resnet34", "cnn")[0]
    assert asked == [("swin_v2_t", "IMAGENET1K_V1"), ("resnet34", "IMAGENET1K_V1")]

    def offline(*_, **__):
        raise ConnectionError

    monkeypatch.setattr(models, "get_model", offline)
    with pytest.raises(UserError, match=r"torchvision:resnet34 could not be fetched \(ConnectionError.*give the file"):
        pretrained.read_weights("torchvision:resnet34", "cnn")


def test_the_same_command_writes_the_same_weights(command, resnet34, tmp_path):
    torch.save(resnet34, tmp_path / "resnet34.pth")
    files = []
    for _ in range(2):
        assert command("--cnn", tmp_path / "resnet34.pth") == 0
        files.append(torch.load(tmp_path / "start.pth", weights_only=True)["network_weights"])
    assert all(torch.equal(value, files[1][key]) for key, value in files[0].items())


def test_the_published_cfnet_takes_its_resnet50_the_same_way(toy, make_trainer, tmp_path, capsys):
    toy(channels=4, patch_2d=(32, 32))
    own = make_trainer("nnUNetTrainerCFNet_paper_1epochs", "2d")
    own.initialize()
    before = own.network.state_dict()
    weights = {"conv1.weight": before["stem_conv.weight"] + 1, "fc.weight": torch.zeros(1)}
    for name in ("weight", "bias", "running_mean", "running_var"):
        weights[f"bn1.{name}"] = before[f"stem_norm.{name}"] + 1
    for key, value in before.items():
        if key.startswith("stages_one.") and not key.endswith("num_batches_tracked"):
            stage, rest = key.removeprefix("stages_one.").split(".", 1)
            weights[f"layer{int(stage) + 1}.{rest}"] = value + 1
    torch.save(weights, tmp_path / "resnet50.pth")
    output = tmp_path / "start.pth"
    arguments = ["-d", "501", "-c", "2d", "-tr", "nnUNetTrainerCFNet_paper_1epochs", "-p", "smallPlans"]
    assert main(["pretrained", *arguments, "--cnn", str(tmp_path / "resnet50.pth"), "-o", str(output)]) == 0
    started = make_trainer("nnUNetTrainerCFNet_paper_1epochs", "2d", pretrained=str(output)).network.state_dict()
    assert torch.equal(started["stem_conv.weight"], weights["conv1.weight"])
    for stream in ("one", "two"):
        assert torch.equal(started[f"stages_{stream}.2.5.conv3.weight"], weights["layer3.5.conv3.weight"])
    assert "fc.weight" in capsys.readouterr().out


class _Code:
    def __reduce__(self):
        return Path.touch, (Path("ran"),)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("other.pth", {"conv1.weight": torch.zeros(1)}, "not the weights of this ResNet: .* keys missing"),
        ("torn.pth", b"no weights", "cannot be read|holds more than tensors"),
        ("list.pth", [1, 2], "holds no state dict"),
        ("code.pth", _Code(), "holds more than tensors"),
        ("torn.safetensors", b"no weights", "cannot be read"),
        ("absent.pth", None, "there is no such file of weights"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it_and_nothing_is_written(
    command, tmp_path, monkeypatch, capsys, name, content, message
):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, _Code):
        file.write_bytes(pickle.dumps(content))
    elif content is not None:
        torch.save(content, file)
    assert command("--cnn", file) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line
    assert name in line
    assert not (tmp_path / "start.pth").exists()
    assert not (tmp_path / "ran").exists(), "code of the file was run"


def test_weights_of_another_size_name_the_remedy(command, swin_tiny, tmp_path, capsys):
    torch.save(swin_tiny, tmp_path / "swin.pth")
    arguments = ("--transformer", tmp_path / "swin.pth", "--window", 8)
    assert command(*arguments, trainer="nnUNetTrainerCFFormer_paper_small") == 2
    line = capsys.readouterr().err
    assert "not the weights of this Swin V2" in line
    assert "choose weights of the size that this trainer's network has" in line


def test_a_file_that_does_not_tell_its_windows_needs_them(command, swin_tiny, tmp_path, capsys):
    torch.save(swin_tiny, tmp_path / "swin.pth")
    assert command("--transformer", tmp_path / "swin.pth") == 2
    assert "give --window, such as --window 8 for swinv2_tiny_window8_256" in capsys.readouterr().err
    assert command("--transformer", tmp_path / "swin.pth", "--window", 12, 12, 12, 6) == 0
    assert "windows of training, one a stage: 12x12, 12x12, 12x12, 6x6" in capsys.readouterr().out
    assert command("--transformer", tmp_path / "swin.pth", "--window", 12, 6) == 2
    assert "4 windows of 2 axes are needed" in capsys.readouterr().err


def test_a_configuration_that_the_trainer_refuses_gets_no_start(command, resnet34, tmp_path, capsys):
    torch.save(resnet34, tmp_path / "resnet34.pth")
    assert command("--cnn", tmp_path / "resnet34.pth", configuration="3d_fullres") == 2
    assert "needs a 2d configuration" in capsys.readouterr().err
    assert not (tmp_path / "start.pth").exists()


@pytest.mark.parametrize(
    ("arguments", "trainer", "message"),
    [
        ([], TRAINER, "no weights were named"),
        (["--cnn", "resnt34"], TRAINER, "did you mean .*resnet34"),
        (["--transformer", "torchvision:swin_v2"], TRAINER, "no transformer 'swin_v2' - did you mean swin_v2_t"),
        (["--cnn", "torchvision:vgg16"], TRAINER, "torchvision has no cnn 'vgg16' - choose from resnet101, .*resnet34"),
        (["--transformer", "vit_base_patch16_224"], TRAINER, "timm has no transformer 'vit_base_patch16_224'"),
        (["--cnn", "x.pth"], "nnUNetTrainer", "is no trainer of this plugin"),
        (["--cnn", "x.pth"], "nnUNetTrainerCFNet", "has no encoder with published weights"),
    ],
)
def test_what_cannot_be_started_is_one_line(command, capsys, arguments, trainer, message):
    assert command(*arguments, trainer=trainer) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert re.search(message, line), line


def test_a_hub_that_refuses_is_one_line_with_the_remedy(monkeypatch, reachable):
    def offline(*_, **__):
        raise ConnectionError("no route to host")

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(UserError, match=r"could not be fetched \(ConnectionError.*fetch https.*on a machine"):
        pretrained.read_weights("resnet34.a1_in1k", "cnn")


def test_the_hub_tells_the_windows_of_training(monkeypatch, reachable):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained: create(name.partition(".")[0]))
    _, windows = pretrained.read_weights("swinv2_tiny_window8_256.ms_in1k", "transformer")
    assert windows == [(8, 8)] * 4


def test_the_self_configuring_network_takes_a_fitting_transformer_and_no_cnn(swin_tiny, plan_2d_base):
    network = plan_2d_base
    base = timm.create_model("swinv2_base_window8_256").state_dict()
    report = network.load_pretrained("transformer", base, 8)
    assert report.parameters == 86_891_768
    with pytest.raises(ValueError, match="takes no published weights for its cnn"):
        network.load_pretrained("cnn", {})
    with pytest.raises(ValueError, match="not the weights of this Swin V2"):
        network.load_pretrained("transformer", swin_tiny)


@pytest.fixture
def plan_2d_base() -> CFFormer:
    """The plan form with Swin V2-B: six resolutions in 2D, narrow convolutions."""
    return CFFormer(
        input_channels=3,
        num_classes=2,
        n_stages=6,
        features_per_stage=[8] * 6,
        conv_op=torch.nn.Conv2d,
        kernel_sizes=[[3, 3]] * 6,
        strides=[[1, 1]] + [[2, 2]] * 5,
        n_conv_per_stage=[2] * 6,
        n_conv_per_stage_decoder=[2] * 5,
        preset="base",
        use_cfca=False,
        use_xff=False,
    )


def test_the_command_to_type_next_holds_each_name_as_one_word(monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "start_checkpoint", lambda *_, **__: "cnn\x1b[2J from x\nand a line")
    words = ["-d", "501", "-c", "2d;", "-tr", "$(touch x)", "-p", "my Plans", "-o", "start 1.pth"]
    assert main(["pretrained", *words]) == 0
    *lines, _, following = capsys.readouterr().out.splitlines()
    assert lines == ["cnn\\x1b[2J from x", "and a line"]
    model = ["501", "2d;", "0", "-tr", "$(touch x)", "-p", "my Plans"]
    assert shlex.split(following)[1:] == ["nnUNetv2_train", *model, "-pretrained_weights", "start 1.pth"]


def test_an_encoder_of_another_family_gets_its_option_from_its_row(monkeypatch, capsys):
    row = Encoder("mamba", "state space encoder", "resnet*", "resnet*", "resnet18.a1_in1k")
    monkeypatch.setitem(ENCODERS, "mamba", (row,))
    with pytest.raises(SystemExit):
        main(["pretrained", "-h"])
    assert "weights of the state space encoder" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError, match=r"timm has no mamba 'vit' - .*such as resnet18\.a1_in1k"):
        hub_weights.hub_file("vit", "mamba")
