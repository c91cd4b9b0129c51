"""Datasets by id and networks by name, as a user types them."""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path

from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORKS, load

#: nnU-Net's own network, which the planner is calibrated with
PLAIN = "PlainConvUNet"
_PLAIN_PATH = "dynamic_network_architectures.architectures.unet:PlainConvUNet"


def find_network(name: str) -> tuple[str, type[nn.Module]]:
    """The network behind ``-a``: its name as listed, and its class.

    Raises:
        UserError: no such network; close names are given.
    """
    paths = {row.name: row.class_path for row in NETWORKS.values()} | {PLAIN: _PLAIN_PATH}
    exact = {known.lower(): known for known in paths}.get(name.lower())
    if exact is None:
        close = get_close_matches(name.lower(), [known.lower() for known in paths], n=3, cutoff=0.5)
        near = [known for known in paths if known.lower() in close]
        raise UserError(
            f"there is no network '{name}'",
            remedy=f"did you mean {' or '.join(near)}?" if near else f"choose one of {', '.join(paths)}",
        )
    return exact, load(paths[exact])


def dataset_name(dataset_id: int, variables: tuple[str, ...] = ("nnUNet_raw", "nnUNet_preprocessed")) -> str:
    """The folder name of a dataset.

    Raises:
        UserError: a folder of nnU-Net is not set; no dataset, or two, of that id.
    """
    for variable in variables:
        if not os.environ.get(variable):
            raise UserError(f"{variable} is not set", remedy=f"export {variable}=FOLDER")
    names = {
        folder.name
        for variable in variables
        for folder in Path(os.environ[variable]).glob(f"Dataset{dataset_id:03d}_*")
        if folder.is_dir()
    }
    if len(names) != 1:
        found = f"there are {', '.join(sorted(names))}" if names else "there is none"
        raise UserError(
            f"no single dataset of id {dataset_id}: {found}",
            file=os.environ[variables[0]],
            remedy="rename or remove all but one" if names else "'nnunet_ext convert' makes one",
        )
    return names.pop()
