"""nnU-Net's own commands where its search for trainers stops before it reaches ours (docs/trainers.md).

The search imports all of nnU-Net's own trainers first, some of them need torchvision, and torchvision cannot be
imported beside a torch it was not built for, e.g. a CPU build.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from nnunet_ext._startup import register
from nnunet_ext.quiet import quiet_torch

# As torchvision declares them itself; only its registration of shape functions needs them, no trainer calls them.
OPERATOR_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)

_libraries: list[object] = []  # torch forgets the operators of a library that nobody holds


def make_torchvision_importable() -> None:
    """Declares the operators that a torchvision built for another torch fails to load; a working one is left alone."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return  # not installed: nnU-Net names it if it is needed
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _declare_operators()
        importlib.import_module("torchvision")


def _declare_operators() -> None:
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for schema in OPERATOR_SCHEMAS:
        library.define(schema)
    _libraries.append(library)


def run(entry_point: str, program: str, arguments: Sequence[str]) -> int:
    """Runs an entry function of nnU-Net, which reads ``sys.argv``, with the arguments as they are.

    Args:
        entry_point: ``"module:function"``, imported once the environment has what it may lack.
        program: shown in its help.
        arguments: handed on unchanged.
    """
    quiet_torch()
    register()
    make_torchvision_importable()
    module, function = entry_point.split(":")
    before = sys.argv
    sys.argv = [program, *arguments]
    try:
        getattr(importlib.import_module(module), function)()
    finally:
        sys.argv = before
    return 0
