"""Which import paths of a plans file may be followed: those of networks and layers that nnU-Net, torch and this plugin
define.

nnU-Net imports what plans name by ``pydoc.locate`` and calls it with arguments of the plans, so that a path such as
``torch.nn.parallel.distributed.os.system`` runs a command. What a path begins with says nothing: here the object itself
is looked up, in modules of one package alone, and must be a class that this package defines.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Iterator
from functools import lru_cache
from types import ModuleType
from typing import Any

from nnunet_ext.families import NETWORKS

#: the key of the network itself; all others are keyword arguments of its constructor
NETWORK = "network_class_name"
_PACKAGE = "dynamic_network_architectures"
_ARCHITECTURES = f"{_PACKAGE}.architectures"
# keyword argument -> modules of torch.nn.modules whose public classes it may name
_TORCH_MODULES = {
    "conv_op": ("conv",),
    "norm_op": ("batchnorm", "instancenorm", "normalization"),
    "dropout_op": ("dropout",),
    "nonlin": ("activation",),
}
_CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
_NO_ACTIVATIONS = ("MultiheadAttention",)


def is_known(key: str, path: str) -> bool:
    """Whether following ``path`` imports nothing but nnU-Net's architectures, torch's layers or a network of ours.

    Args:
        key: where it stands: ``"network_class_name"``, or a keyword argument that plans say is to be imported.
        path: module and class, joined by dots.
    """
    if key == NETWORK:
        return path in _our_networks() or _is_network_of_nnunet(path)
    if key in _TORCH_MODULES:
        return path in _layers(key)
    found = _inside_package(path)
    return found is not None and _is_module_class(found, _PACKAGE)


@lru_cache(maxsize=1)
def _our_networks() -> frozenset[str]:
    return frozenset(row.class_path.replace(":", ".") for row in NETWORKS.values())


@lru_cache
def _layers(key: str) -> frozenset[str]:
    """The spellings under which torch's layers of one kind can be imported."""
    paths = set()
    for module in _TORCH_MODULES[key]:
        names = importlib.import_module(f"torch.nn.modules.{module}").__all__
        chosen = _CONVOLUTIONS if key == "conv_op" else [name for name in names if name not in _NO_ACTIVATIONS]
        for name in chosen:
            paths |= {f"torch.nn.{name}", f"torch.nn.modules.{name}", f"torch.nn.modules.{module}.{name}"}
    return frozenset(paths)


def _is_network_of_nnunet(path: str) -> bool:
    found = _inside_package(path)
    if found is None and _leads_nowhere(path):
        # nnU-Net then takes the class of that name from wherever it lies today: plans outlive the modules they name.
        found = next(_of_that_name(path.rpartition(".")[2]), None)
    return found is not None and _is_module_class(found, _ARCHITECTURES)


def _split(path: str) -> tuple[ModuleType, list[str]] | None:
    """The innermost module of nnU-Net's package that a path leads through, and the names that are left of it."""
    names = path.split(".")
    if names[0] != _PACKAGE or not all(name.isidentifier() and not name.startswith("_") for name in names):
        return None
    module = importlib.import_module(_PACKAGE)
    for number in range(2, len(names) + 1):
        name = ".".join(names[:number])
        # Looking for a module below one that is no package raises; its parents are imported, all of this package.
        if not hasattr(module, "__path__") or importlib.util.find_spec(name) is None:
            return module, names[number - 1 :]
        module = importlib.import_module(name)
    return module, []


def _inside_package(path: str) -> Any:
    """What a module of nnU-Net's package holds under the last name of a path; None if that is nothing."""
    try:
        found = _split(path)
    except ImportError:  # a module of the package needs something that is not installed
        return None
    if found is None or len(found[1]) != 1:
        return None
    module, (name,) = found
    return vars(module).get(name)


def _leads_nowhere(path: str) -> bool:
    """Whether ``pydoc.locate`` finds nothing: the first name after the modules is no attribute, so no other object of
    the path is touched."""
    try:
        found = _split(path)
    except ImportError:
        return False
    return found is not None and bool(found[1]) and not hasattr(found[0], found[1][0])


def _of_that_name(name: str) -> Iterator[Any]:
    """Objects of a name in the modules of nnU-Net's architectures, in the order in which nnU-Net searches."""
    package = importlib.import_module(_ARCHITECTURES)
    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__) if not module.ispkg):
        try:
            content = vars(importlib.import_module(f"{_ARCHITECTURES}.{module}"))
        except ImportError:
            continue
        if name in content:
            yield content[name]


def _is_module_class(found: Any, package: str) -> bool:
    """Whether an object is a network class of torch that this package defines, and does not merely import."""
    from torch import nn

    return (
        isinstance(found, type)
        and issubclass(found, nn.Module)
        and f"{found.__module__}.".startswith(f"{package}.")
        and vars(importlib.import_module(found.__module__)).get(found.__qualname__) is found
    )
