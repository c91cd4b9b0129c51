"""The doctor's checks of packages, folders and the search for trainers."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnunet_ext import __version__
from nnunet_ext._startup import DISCOVERY_FOLDER
from nnunet_ext.cli import main
from nnunet_ext.doctor import environment, nnunet_folders, trainers
from nnunet_ext.folders import VARIABLES
from nnunet_ext.versions import numbers


@pytest.fixture
def three_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        (tmp_path / name).mkdir()
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("nnUNet_extTrainer", DISCOVERY_FOLDER)
    return tmp_path


def texts(findings: object, status: str) -> list[str]:
    return [finding.text for finding in findings if finding.status == status]  # type: ignore[attr-defined]


def test_version_numbers_ignore_local_parts() -> None:
    assert numbers("2.15.0+cu130") == (2, 15, 0)
    assert numbers("2.9.0rc1") == (2, 9)


def test_this_environment_fits() -> None:
    assert texts(environment.check_packages(), "problem") == []


def test_nnunet_out_of_range_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment.importlib.metadata, "version", lambda name: "2.7.0")
    assert any("outside the supported range" in text for text in texts(environment.check_packages(), "problem"))


def test_torchvision_that_does_not_fit_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = environment.importlib.import_module

    def fail(name: str, *args: object) -> object:
        if name == "torchvision":
            raise RuntimeError("operator torchvision::nms does not exist")
        return real(name)

    monkeypatch.setattr(environment.importlib, "import_module", fail)
    (text,) = texts(environment.check_packages(), "problem")
    assert "torchvision does not fit torch" in text


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``beside(version)``: a package named nnunet_ext in a folder of its own that Python searches first, installed in
    that version by a distribution of the same name."""

    def write(version: str) -> Path:
        package, record = tmp_path / "nnunet_ext", tmp_path / f"nnunet_ext-{version}.dist-info"
        package.mkdir()
        record.mkdir()
        (package / "__init__.py").touch()
        (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: nnunet_ext\nVersion: {version}\n")
        monkeypatch.syspath_prepend(str(tmp_path))
        return package

    return write


def make_own(package: Path) -> None:
    """Such a package with what tells this plugin from others."""
    (package / "_discovery").mkdir()
    (package / "_discovery" / "nnunet_ext_discovery.py").touch()
    (record,) = package.parent.glob("*.dist-info")
    (record / "entry_points.txt").write_text("[console_scripts]\nnnunet_ext = nnunet_ext.cli:main\n")


def test_another_package_of_this_name_is_a_clash(beside: Callable[[str], Path]) -> None:
    package = beside("0.0")
    recorded, lies = texts(environment.check_packages(), "problem")
    assert "but 0.0 is installed" in recorded
    assert f"another package named nnunet_ext lies in {package}" in lies


@pytest.mark.parametrize("version", [__version__, "0.0.1"], ids=["of the same version", "of another version"])
def test_a_second_copy_of_this_plugin_is_no_clash(beside: Callable[[str], Path], version: str) -> None:
    package = beside(version)
    make_own(package)
    assert texts(environment.check_packages(), "problem") == []
    assert any(f"this plugin also lies in {package}" in text for text in texts(environment.check_packages(), "note"))


def test_a_record_beside_a_checkout_is_no_clash(beside: Callable[[str], Path]) -> None:
    """An editable installation leaves one, which grows old as the checkout goes on."""
    package = beside("0.0.1")
    make_own(package)
    package.parent.joinpath("nnunet_ext-0.0.1.dist-info").rename(package.parent / "nnunet_ext.egg-info")
    (package.parent / "nnunet_ext.egg-info" / "METADATA").rename(package.parent / "nnunet_ext.egg-info" / "PKG-INFO")
    assert importlib.metadata.version("nnunet_ext") == "0.0.1"
    assert texts(environment.check_packages(), "problem") == []


@pytest.mark.parametrize("own", [True, False])
def test_an_installation_of_another_version_is_a_problem(
    beside: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    package = beside("0.0")
    if own:
        make_own(package)
    real = importlib.metadata.distributions
    (other,) = (each for each in real(name="nnunet_ext") if each.version == "0.0")
    monkeypatch.setattr(importlib.metadata, "distributions", lambda name: [other])
    (text,) = (text for text in texts(environment.check_packages(), "problem") if "is installed" in text)
    assert "but 0.0 is installed" in text


def test_unset_folder(three_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("nnUNet_raw")
    assert texts(nnunet_folders.check_folders(), "problem") == ["nnUNet_raw is not set"]


def test_one_remedy_makes_and_exports_all_three_folders_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (found,) = [each for each in nnunet_folders.check_folders() if each.status == "problem"]
    # typed as printed, in a folder whose name needs quotes, nothing is left to say
    here = tmp_path / "my work"
    here.mkdir()
    typed = f"{found.remedy} && env"
    printed = subprocess.run(["sh", "-c", typed], cwd=here, capture_output=True, text=True, check=True).stdout
    for line in printed.splitlines():
        if line.startswith(VARIABLES):
            monkeypatch.setenv(*line.split("=", 1))
    assert not texts(nnunet_folders.check_folders(), "problem")
    assert {Path(os.environ[name]).parent for name in VARIABLES} == {here}


def test_folders_that_are_set_and_not_there_join_that_remedy(
    three_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("nnUNet_raw", str(three_folders / "a b"))
    monkeypatch.delenv("nnUNet_results")
    (found,) = [each for each in nnunet_folders.check_folders() if each.status == "problem"]
    assert found.text == f"nnUNet_results is not set; nnUNet_raw = {three_folders / 'a b'} does not exist"
    assert found.remedy == f"mkdir -p results '{three_folders / 'a b'}' && export nnUNet_results=\"$PWD/results\""


def test_a_file_in_the_place_of_a_folder_is_not_to_be_made(
    three_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (three_folders / "file").touch()
    monkeypatch.setenv("nnUNet_raw", str(three_folders / "file"))
    (found,) = [each for each in nnunet_folders.check_folders() if each.status == "problem"]
    assert "is not a folder" in found.text
    assert "mkdir" not in found.remedy


def test_no_warning_of_torch_stands_between_the_findings(three_folders: Path) -> None:
    script = (
        "import warnings, sys\n"
        "from nnunet_ext.quiet import quiet_torch\n"
        "quiet_torch()\n"
        "warn = lambda module: warnings.warn_explicit('old', FutureWarning, 'file.py', 1, module=module)\n"
        "warn('torch.jit._script'), warn('torch'), warn('torchvision.ops')\n"
        "sys.exit(__import__('nnunet_ext.cli').cli.main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stderr.count("FutureWarning") == 1, "only that of another library"


def test_folder_without_write_permission(three_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(nnunet_folders.tempfile, "TemporaryFile", refuse)  # permissions do not bind root
    assert any("not writable (Permission denied)" in text for text in texts(nnunet_folders.check_folders(), "problem"))


def test_two_names_of_one_id(three_folders: Path) -> None:
    (three_folders / "nnUNet_raw/Dataset137_A").mkdir()
    (three_folders / "nnUNet_results/Dataset137_B").mkdir()
    (text,) = texts(nnunet_folders.check_folders(), "problem")
    assert "Dataset137_A, Dataset137_B" in text


def test_unread_site_file_is_told_with_the_line_that_mends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("nnUNet_extTrainer", "")
    (found,) = [finding for finding in trainers.check_discovery() if finding.status == "problem"]
    assert f"export nnUNet_extTrainer={DISCOVERY_FOLDER}" in found.remedy


def test_every_trainer_resolves_through_the_search_of_nnunet(three_folders: Path) -> None:
    found = list(trainers.check_trainers())
    assert {finding.status for finding in found} == {"ok"}, found
    assert any(finding.text.startswith("nnUNetTrainerCFNet from ") for finding in found)


def test_a_users_own_trainer_is_named_with_its_folder(three_folders: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = three_folders / "own"
    own.mkdir()
    (own / "my_trainers_for_the_doctor.py").write_text(
        "from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer\n"
        "class nnUNetTrainerCFNet_mine(nnUNetTrainer): pass\n"
    )
    monkeypatch.setenv("nnUNet_extTrainer", f"{own}{os.pathsep}{DISCOVERY_FOLDER}")
    assert [f.text for f in trainers.check_trainers(["nnUNetTrainerCFNet_mine"])] == [
        f"nnUNetTrainerCFNet_mine from {own}"
    ]


def test_unknown_suffix_is_a_problem(three_folders: Path) -> None:
    (found,) = trainers.check_trainers(["nnUNetTrainerCFNet_50epoch"])
    assert found.status == "problem"
    assert "epochs" in found.remedy, "the remedy lists the known suffixes"


def test_exit_code_tells_whether_something_is_wrong(
    three_folders: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["doctor", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == 0
    monkeypatch.delenv("nnUNet_results")
    assert main(["doctor"]) == 1
    assert "-> mkdir -p results && export nnUNet_results=" in capsys.readouterr().out
