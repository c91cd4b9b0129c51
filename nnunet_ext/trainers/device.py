"""Whether the device that a training or a prediction is to use is there, asked before torch fails with a trace."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import torch

from nnunet_ext.errors import UserError
from nnunet_ext.trainers import trust


def require_device(kind: str) -> None:
    """
    Args:
        kind: as nnU-Net's ``-device`` spells it: ``"cuda"``, ``"mps"`` or ``"cpu"``.

    Raises:
        UserError: torch finds no such device here.
    """
    if kind == "cuda" and not torch.cuda.is_available():
        if torch.version.cuda is None and torch.version.hip is None:
            raise UserError(
                "no GPU: this torch is built for the CPU alone",
                remedy="add -device cpu, or install torch for your GPU (docs/install.md)",
            )
        raise UserError("no GPU: torch finds none here", remedy="add -device cpu, or look at the driver (nvidia-smi)")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UserError("no Apple GPU: torch finds none here", remedy="add -device cpu")


def require_named_device(argv: Sequence[str]) -> None:
    """The same for the arguments of ``nnUNetv2_train`` or ``nnUNetv2_predict``, which take CUDA where none is named.

    Raises:
        UserError: torch finds no such device here.
    """
    if trust.asks_for_help(argv):
        return
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-device", default="cuda")
    # Not looked at, but argparse would read '-d 137' as the beginning of '-device'.
    parser.add_argument("-d")
    require_device(parser.parse_known_args(list(argv))[0].device)
