"""Networks by name, as a user types it."""

from __future__ import annotations

from torch import nn

from nnunet_ext.errors import UserError
from nnunet_ext.families import NETWORKS, load
from nnunet_ext.lookup import did_you_mean

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
        raise UserError(
            f"there is no network '{name}'", remedy=did_you_mean(name, paths, f"choose one of {', '.join(paths)}")
        )
    return exact, load(paths[exact])
