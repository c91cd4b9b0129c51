"""The gate for import paths: which names of a plans file may be followed."""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

from nnunet_ext.families import NETWORKS
from nnunet_ext.planning.imports import NETWORK, is_known

KEYS = (NETWORK, "conv_op", "norm_op", "dropout_op", "nonlin", "block")
PACKAGES = ("torch.nn", "dynamic_network_architectures", "nnunet_ext")
# what an attacker wants to reach -> a name in it
TARGETS = {
    "os": "system",
    "subprocess": "run",
    "builtins": "eval",
    "importlib": "import_module",
    "pickle": "loads",
    "functools": "partial",
    "sys": "exit",
    "shutil": "rmtree",
    "pydoc": "locate",
    "io": "open",
    "warnings": "warn",
    "operator": "methodcaller",
    "inspect": "getsource",
    "collections": "namedtuple",
    "typing": "cast",
    "torch": "load",
    "math": "sqrt",
    "numpy": "load",
    "copy": "deepcopy",
    "types": "FunctionType",
    "itertools": "starmap",
}


def modules_of_the_packages() -> list[ModuleType]:
    import dynamic_network_architectures.architectures as architectures

    import nnunet_ext

    for package in (torch.nn, architectures, nnunet_ext):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            # not the modules that act when imported, nor those that need another machine
            if not any(part.startswith("_") or part in ("demo", "utils") for part in found.name.split(".")):
                try:
                    importlib.import_module(found.name)
                except ImportError:
                    continue
    return [
        module
        for name, module in sorted(sys.modules.items())
        if f"{name}.".startswith(tuple(f"{package}." for package in PACKAGES)) and isinstance(module, ModuleType)
    ]


def dangerous_paths() -> Iterator[str]:
    """Dotted names through modules of the allowed packages that Python really resolves to something else."""
    for module in modules_of_the_packages():
        for attribute, value in list(vars(module).items()):
            path = f"{module.__name__}.{attribute}"
            if isinstance(value, ModuleType) and value.__name__ in TARGETS:
                yield f"{path}.{TARGETS[value.__name__]}"
            elif value is functools.partial or (inspect.isfunction(value) and value.__name__ == "<lambda>"):
                yield path
            elif inspect.isfunction(value) and not attribute.startswith("_") and len(module.__name__) % 3 == 0:
                yield f"{path}.__globals__.get"
            elif inspect.isclass(value) and value.__module__ == module.__name__ and len(attribute) % 7 == 0:
                yield f"{path}.__init__.__globals__.get"  # a descriptor's way to everything
                yield f"{path}.__subclasses__"
                yield f"{path}.__class__"


@pytest.fixture(scope="module")
def attacks() -> list[str]:
    return sorted(set(dangerous_paths()))


def test_three_hundred_ways_to_other_code_are_closed_under_every_key(attacks) -> None:
    assert len(attacks) >= 300
    assert "dynamic_network_architectures.architectures.unet.torch.load" in attacks, "the search for ways finds them"
    before = set(sys.modules)
    open_ways = [(key, path) for path in attacks for key in KEYS if is_known(key, path)]
    assert open_ways == []
    assert set(sys.modules) == before, "nothing is imported on the way"


@pytest.mark.parametrize(
    "path",
    [
        "torch.nn.parallel.distributed.os.system",
        "nnunet_ext.cli.os.system",
        "nnunet_ext.architectures.cfnet.nn.Module",
        "dynamic_network_architectures.architectures.unet.nn.Module",
        "dynamic_network_architectures.architectures.gone.os.system",
        "dynamic_network_architectures.architectures.gone.warnings",
        "dynamic_network_architectures.architectures",
        "dynamic_network_architectures",
        "dynamic_network_architectures..unet.PlainConvUNet",
        "PlainConvUNet",  # nnU-Net would import a module of that name from anywhere
        "torch.nn.Sequential",
        "torch.nn.ModuleList",
        "torch.nn.LeakyReLU.__init__",
        "",
        ".",
        "torch",
        "os.system",
        "a" * 10_000,
        "torch.nn.LeakyReLU\0",
    ],
)
def test_other_names_are_unknown_under_every_key(path) -> None:
    assert [key for key in KEYS if is_known(key, path)] == []


def test_a_class_that_is_no_architecture_is_no_network() -> None:
    encoder = "dynamic_network_architectures.building_blocks.plain_conv_encoder.PlainConvEncoder"
    imported = "dynamic_network_architectures.architectures.unet.PlainConvEncoder"
    assert not is_known(NETWORK, encoder)
    assert not is_known(NETWORK, imported), "imported by a module of architectures, not defined in it"
    assert is_known("encoder", encoder)


def test_a_module_outside_is_not_imported(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "canary.py").write_text("from pathlib import Path\nPath(__file__ + '.was_run').touch()\n")
    for path in (
        "canary.Network",
        "canary",
        "dynamic_network_architectures.canary.Network",
        "torch.nn.canary.X",
        "nnunet_ext.canary.X",
        "canary.PlainConvUNet",
    ):
        assert not any(is_known(key, path) for key in KEYS), path
    assert "canary" not in sys.modules
    assert not (tmp_path / "canary.py.was_run").exists()


@pytest.mark.parametrize(
    "path",
    [
        "dynamic_network_architectures.architectures.unet.PlainConvUNet",
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet",
        "dynamic_network_architectures.architectures.unet.ResidualUNet",
        "dynamic_network_architectures.architectures.primus.Primus",
        # nnU-Net's own plans of 2023 name this module, which is gone
        "dynamic_network_architectures.architectures.residual_unet.ResidualEncoderUNet",
        *(row.class_path.replace(":", ".") for row in NETWORKS.values()),
    ],
)
def test_networks_of_nnunet_and_ours_are_known(path) -> None:
    assert is_known(NETWORK, path)
    assert not any(is_known(key, path) for key in ("conv_op", "norm_op", "dropout_op", "nonlin"))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("conv_op", "torch.nn.modules.conv.Conv2d"),
        ("conv_op", "torch.nn.Conv3d"),
        ("norm_op", "torch.nn.modules.instancenorm.InstanceNorm3d"),
        ("norm_op", "torch.nn.modules.batchnorm.BatchNorm2d"),
        ("norm_op", "torch.nn.GroupNorm"),
        ("dropout_op", "torch.nn.modules.dropout.Dropout3d"),
        ("dropout_op", "torch.nn.AlphaDropout"),
        ("nonlin", "torch.nn.LeakyReLU"),
        ("nonlin", "torch.nn.modules.activation.GELU"),
        ("block", "dynamic_network_architectures.building_blocks.residual.BottleneckD"),
    ],
)
def test_layers_are_known_under_their_own_key_alone(key, path) -> None:
    assert [known for known in KEYS if is_known(known, path)] == [key]
