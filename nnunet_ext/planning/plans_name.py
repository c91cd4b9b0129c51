"""Names of plans for a network: two networks that differ never share one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nnunet_ext.families import NETWORKS, suffixes_of

#: nnU-Net's own target; plans for it need no size in their name
DEFAULT_TARGET = 8.0


def default_name(network: str, target: float, options: Mapping[str, Any], small: bool = False) -> str:
    """``nnUNetCFNetPlans``, with the target in it unless that is nnU-Net's 8 GB, and what tells a variant of the
    network from others: ``nnUNetCFFormerBasePlans_24G``. Small plans have no target: ``nnUNetCFNetPlans_small``."""
    size = "" if target == DEFAULT_TARGET else f"_{target:g}G".replace(".", "p")
    if small:
        size = "_small"
    return f"nnUNet{network}{variant_tag(network, options)}Plans{size}"


def variant_tag(network: str, options: Mapping[str, Any]) -> str:
    """What a variant adds to the name of its plans: the tags of its suffixes, and for options that no suffix sets a
    few characters that differ where they differ."""
    row = NETWORKS.get(network)
    own = {} if row is None else row.built_with
    left, tags = {name: value for name, value in options.items() if (name, value) not in own.items()}, ""
    for suffix in suffixes_of(network):
        tag = suffix.tag_in(left)
        tags += tag
        left = {name: value for name, value in left.items() if not tag or name not in suffix.options}
    if left:
        tags += "X" + hashlib.sha256(json.dumps(left, sort_keys=True, default=str).encode()).hexdigest()[:6]
    return tags
