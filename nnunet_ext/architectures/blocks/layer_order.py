"""Layers in the order that a string spells, as the networks of the Progressive Attention Module are described (Medical
Physics, doi 10.1002/mp.15369; the authors' code, Puzzled-Hui/AttentionBased-MIS).

The layers carry the names that they have in the published state dicts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from torch import nn

CONVOLUTION = "c"
#: letter -> name and nonlinearity of a number of channels
ACTIVATIONS: dict[str, tuple[str, Callable[[int], nn.Module]]] = {
    "r": ("ReLU", lambda channels: nn.ReLU(inplace=True)),
    "l": ("LeakyReLU", lambda channels: nn.LeakyReLU(0.1, inplace=True)),
    "e": ("ELU", lambda channels: nn.ELU(inplace=True)),
    "p": ("pReLU", nn.PReLU),
    "s": ("swish", lambda channels: nn.SiLU(inplace=True)),
    "m": ("Mish", lambda channels: nn.Mish(inplace=True)),
}
#: letter -> name and norm of a number of channels and groups
NORMS: dict[str, tuple[str, Callable[[int, int], nn.Module]]] = {
    "i": ("instancenorm", lambda channels, groups: nn.InstanceNorm3d(channels, affine=True)),
    "b": ("batchnorm", lambda channels, groups: nn.BatchNorm3d(channels)),
    "g": ("groupnorm", lambda channels, groups: nn.GroupNorm(min(groups, channels), channels)),
}
WITHOUT_BIAS = "gb"


def check_order(order: str) -> None:
    """
    Raises:
        ValueError: a letter that is unknown, or a string without exactly one convolution and one nonlinearity.
    """
    letters = {CONVOLUTION, *ACTIVATIONS, *NORMS}
    legal = set(order) <= letters and order.count(CONVOLUTION) == 1
    if not legal or sum(letter in ACTIVATIONS for letter in order) != 1:
        raise ValueError(
            f"a layer order has one {CONVOLUTION} (convolution), one nonlinearity of {''.join(ACTIVATIONS)} and any "
            f"norm of {''.join(NORMS)}; got {order!r}"
        )


def activation_of(order: str, channels: int) -> nn.Module:
    """The nonlinearity of an order."""
    (letter,) = (letter for letter in order if letter in ACTIVATIONS)
    return ACTIVATIONS[letter][1](channels)


def ordered_layers(
    order: str,
    convolution: Callable[[bool], nn.Module],
    channels: int,
    groups: int,
    convolution_name: str = "conv",
    with_activation: bool = True,
) -> OrderedDict[str, nn.Module]:
    """The layers of an order under their published names.

    Args:
        order: one letter a layer.
        convolution: builds it; told whether it has a bias, which it has not beside batch norm or group norm.
        channels: that the convolution gives.
        groups: the most of a group norm.
        convolution_name: in the state dict.
        with_activation: False leaves the nonlinearity out.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for letter in order:
        if letter == CONVOLUTION:
            layers[convolution_name] = convolution(not set(order) & set(WITHOUT_BIAS))
        elif letter in NORMS:
            name, norm = NORMS[letter]
            layers[name] = norm(channels, groups)
        elif with_activation:
            name, activation = ACTIVATIONS[letter]
            layers[name] = activation(channels)
    return layers
