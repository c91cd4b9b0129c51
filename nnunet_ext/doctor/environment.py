"""Checks of the installed packages: which are imported, from where, and whether they fit each other."""

from __future__ import annotations

import importlib
import importlib.metadata
import platform
import sys
from collections.abc import Iterator
from pathlib import Path

from nnunet_ext import __version__
from nnunet_ext.doctor.finding import Finding, note, ok, problem
from nnunet_ext.errors import reason_of
from nnunet_ext.versions import numbers

SUPPORTED_NNUNET = ((2, 8, 1), (2, 9))  # from, below: trainer search in folders outside the package exists since 2.8.0
TESTED_PYTHON = (3, 11)
_INSTALL_AGAIN = "mend what the message names, or install torch and nnunetv2 again (docs/install.md)"
#: in a package named nnunet_ext, what tells this plugin from another one
_OWN_FILE = Path("_discovery", "nnunet_ext_discovery.py")


def check_imports() -> Iterator[Finding]:
    """A problem where what the checks of trainers and datasets need of nnU-Net cannot be imported; else nothing."""
    try:
        for name in ("find_objects", "plans_handling.plans_handler"):
            importlib.import_module(f"nnunetv2.utilities.{name}")
    except Exception as error:  # whatever a broken package raises
        yield problem(f"trainers and datasets cannot be looked at: {reason_of(error)}", _INSTALL_AGAIN)


def check_packages() -> Iterator[Finding]:
    """Python, this plugin, nnU-Net, torch, torchvision, setuptools."""
    python = ".".join(map(str, sys.version_info[:3]))
    where = f"Python {python} ({sys.executable}) on {platform.system()} {platform.machine()}"
    tested = sys.version_info[:2] == TESTED_PYTHON
    yield (
        ok(where)
        if tested
        else note(f"{where}: constraints.txt was tested on Python {'.'.join(map(str, TESTED_PYTHON))}")
    )
    yield ok(f"nnunet_ext {__version__} from {Path(__file__).parents[1]}")
    yield from _same_name_packages()
    yield from _nnunet()
    yield from _torch()
    yield from _distutils()


def _same_name_packages() -> Iterator[Finding]:
    """Lifelong-nnUNet, for nnU-Net v1, has the same names of distribution and package: one replaces the other.

    A second copy of this plugin, such as a checkout beside a regular installation, is no such package.
    """
    remedy = "use separate environments (Lifelong-nnUNet, for nnU-Net v1, has a package of this name)"
    installed = list(importlib.metadata.distributions(name="nnunet_ext"))
    if not installed:
        yield note("nnunet_ext is imported from a folder that was not installed", "pip install . in its checkout")
    own = {each.version for each in installed if _is_own_distribution(each)}
    for version in sorted({each.version for each in installed if not _is_own_distribution(each)}):
        yield problem(f"nnunet_ext {__version__} is imported, but {version} is installed", f"install again; {remedy}")
    if own and __version__ not in own:
        yield problem(f"nnunet_ext {__version__} is imported, but {max(own)} is installed", "install again")
    here = Path(__file__).resolve().parents[1]
    packages = {Path(entry or ".").resolve() / "nnunet_ext" for entry in sys.path} - {here}
    for other in sorted(package for package in packages if (package / "__init__.py").is_file()):
        if (other / _OWN_FILE).is_file():
            yield note(f"this plugin also lies in {other}; the one in {here} is imported")
        else:
            yield problem(f"another package named nnunet_ext lies in {other}", remedy)


def _is_own_distribution(installed: importlib.metadata.Distribution) -> bool:
    return any(point.value.startswith("nnunet_ext.cli:") for point in installed.entry_points)


def _nnunet() -> Iterator[Finding]:
    try:
        version = importlib.metadata.version("nnunetv2")
    except importlib.metadata.PackageNotFoundError:
        yield problem("nnunetv2 is not installed", "pip install 'nnunetv2>=2.8.1,<2.9'")
        return
    try:
        location = Path(importlib.import_module("nnunetv2").__path__[0])
    except Exception as error:  # whatever a broken package raises
        yield problem(f"nnunetv2 {version} cannot be imported: {reason_of(error)}", _INSTALL_AGAIN)
        return
    lowest, below = SUPPORTED_NNUNET
    if lowest <= numbers(version) < below:
        yield ok(f"nnunetv2 {version} from {location}")
    else:
        yield problem(
            f"nnunetv2 {version} from {location} is outside the supported range", "pip install 'nnunetv2>=2.8.1,<2.9'"
        )


def _torch() -> Iterator[Finding]:
    try:
        torch = importlib.import_module("torch")
    except Exception as error:
        yield problem(
            f"torch cannot be imported: {reason_of(error)}",
            "install torch and torchvision together from the same place",
        )
        return
    if numbers(torch.__version__)[:2] == (2, 9):
        yield problem(
            f"torch {torch.__version__}: 3D convolutions under autocast are about four times slower in 2.9",
            "install another torch version",
        )
    else:
        yield ok(f"torch {torch.__version__} from {torch.__path__[0]}")
    try:
        torchvision = importlib.import_module("torchvision")
    except Exception as error:
        yield problem(
            f"torchvision does not fit torch {torch.__version__} ({reason_of(error)}); "
            "nnU-Net's search for trainers imports it and fails",
            "install torch and torchvision together from the same place, both for CPU or both for CUDA; until then "
            "'nnunet_ext train' and 'nnunet_ext predict' work around it",
        )
        return
    yield ok(f"torchvision {torchvision.__version__} fits torch")


def _distutils() -> Iterator[Finding]:
    try:
        importlib.import_module("setuptools")  # provides distutils on Python 3.12 and later
        importlib.import_module("distutils.file_util")
    except ImportError:
        yield problem("distutils cannot be imported; nnU-Net's preprocessing needs it", "pip install setuptools")


def check_gpu() -> Iterator[Finding]:
    """The device nnU-Net will use, and its memory."""
    try:
        torch = importlib.import_module("torch")
    except Exception:
        return  # check_packages has told it, whatever it was
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            yield ok(f"GPU {index}: {properties.name}, {properties.total_memory / 2**30:.1f} GiB")
    elif torch.backends.mps.is_available():
        yield note("Apple GPU found: give nnU-Net '-device mps'")
    else:
        yield note("no GPU: training on the CPU is for trying things out; give nnU-Net '-device cpu'")
