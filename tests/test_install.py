"""What ``pip install`` leaves in site-packages, and that nnU-Net finds the trainers afterwards."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SITE_FILES = {"zz_nnunet_ext.pth", "zz_nnunet_ext.start"}
SHOW = "import os; print(os.environ.get('nnUNet_extTrainer', ''))"
RESOLVE = (
    "from nnunetv2.utilities.find_objects import recursive_find_trainer_class_by_name as find\n"
    "trainer = find('nnUNetTrainerCFNet_2epochs_NoMirroring')\n"
    "import nnunet_ext; print(trainer.__name__, nnunet_ext.__file__)"
)


def run(*command: str | Path, **environment: str) -> str:
    base = {k: v for k, v in os.environ.items() if k != "nnUNet_extTrainer" and not k.startswith("PYTHON")}
    # python -c imports from the current folder first: not from the checkout
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env=base | environment, cwd=sys.prefix
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))} failed:\n{done.stdout}\n{done.stderr}"
    return done.stdout.strip()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the source tree, so that building leaves nothing in the checkout."""
    folder = tmp_path_factory.mktemp("source")
    shutil.copytree(ROOT / "nnunet_ext", folder / "nnunet_ext", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in"):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh virtual environment that sees the packages of the test environment but for an installation of ours, which
    might be found first, and runs none of its site files."""
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder)
    # older Pythons bring a setuptools of their own, which would hide the one of the test environment
    run(python(folder), "-m", "pip", "uninstall", "-q", "-y", "setuptools")
    borrowed = tmp_path_factory.mktemp("borrowed")
    borrow(Path(sysconfig.get_paths()["purelib"]), borrowed)
    (site_packages(folder) / "borrowed.pth").write_text(f"{borrowed}\n")
    return folder


def borrow(packages: Path, folder: Path) -> None:
    """Links to all packages but ours: an installation of it there would be found before an editable one."""
    for package in packages.iterdir():
        if "nnunet_ext" not in package.name:
            (folder / package.name).symlink_to(package)


def site_packages(environment: Path) -> Path:
    return next(environment.glob("lib/python*/site-packages"))


def python(environment: Path) -> Path:
    return environment / "bin" / "python"


def pip_install(environment: Path, *arguments: str | Path) -> None:
    run(python(environment), "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation",
        "--ignore-installed", *arguments)  # fmt: skip


def leftovers(environment: Path) -> list[str]:
    return sorted(path.name for path in site_packages(environment).iterdir() if "nnunet_ext" in path.name)


@pytest.mark.parametrize("how", ["regular", "editable"])
@pytest.mark.slow
def test_after_pip_install_nnunet_finds_the_trainers_and_uninstalling_leaves_nothing(
    how: str, source: Path, environment: Path, tmp_path: Path
) -> None:
    pip_install(environment, *(["-e"] if how == "editable" else []), source)
    installed = set(leftovers(environment))
    assert installed >= SITE_FILES, f"the site files are missing: {installed}"
    expected = source if how == "editable" else site_packages(environment)
    folder = expected / "nnunet_ext" / "_discovery"
    shown = run(python(environment), "-c", SHOW)
    assert Path(shown).resolve() == folder.resolve()
    resolved = run(python(environment), "-c", RESOLVE, OMP_NUM_THREADS="1").splitlines()[-1]
    assert resolved.startswith("nnUNetTrainerCFNet_2epochs_NoMirroring"), resolved
    assert str(expected.resolve()) in resolved, f"resolved from elsewhere: {resolved}"
    if how == "regular":
        check_environment_rules(environment, shown, tmp_path)
    run(python(environment), "-m", "pip", "uninstall", "-q", "-y", "nnunet_ext")
    assert leftovers(environment) == []
    assert run(python(environment), "-c", SHOW) == ""


def test_a_regular_installation_in_the_test_environment_is_not_borrowed(tmp_path: Path) -> None:
    packages, borrowed = tmp_path / "site-packages", tmp_path / "borrowed"
    for name in ("nnunet_ext", "nnunet_ext-0.3.0.dist-info", "nnunetv2"):
        (packages / name).mkdir(parents=True)
    borrowed.mkdir()
    borrow(packages, borrowed)
    assert [path.name for path in borrowed.iterdir()] == ["nnunetv2"]


def check_environment_rules(environment: Path, ours: str, tmp_path: Path) -> None:
    own = str(tmp_path)
    with_own = run(python(environment), "-c", SHOW, nnUNet_extTrainer=own)
    assert with_own.split(os.pathsep) == [own, ours], "a user's own folder stays and comes first"
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SHOW!r}])"
    assert run(python(environment), "-c", nested) == ours, "child processes must not append it twice"
    for flag in ("-I", "-E", "-s"):
        assert run(python(environment), flag, "-c", SHOW) == ours, f"not set under python {flag}"
    assert run(python(environment), "-c", SHOW, nnUNet_extTrainer="") == ours, "an empty variable counts as unset"


def test_wheel_and_source_distribution_hold_everything_that_runs(source: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, source)
    (wheel,) = tmp_path.glob("*.whl")  # python -m build makes the wheel from the sdist
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        record = archive.read(next(name for name in names if name.endswith("/RECORD"))).decode()
    assert names >= SITE_FILES
    package = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "nnunet_ext").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert package - names == set(), "files of the package that the wheel lacks"
    for name in SITE_FILES:
        assert f"{name},sha256=" in record, f"uninstalling would leave {name}"
