"""A whole published checkpoint as the start of a ``_paper`` trainer's network, whatever number of classes it has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

#: lengths of vectors that may be the number of classes of a checkpoint
MOST_CLASSES = 256
#: part of the names of segmentation heads, which nnU-Net's ``-pretrained_weights`` passes over
HEADS = "seg_layers."

StateDict = dict[str, torch.Tensor]


def load_reference(network: nn.Module, weights: StateDict, build: Callable[[int], nn.Module], classes: int) -> str:
    """Load published weights into ``network``; returns what became of them, in words.

    A checkpoint of another number of classes leaves the segmentation heads as they are. A network whose weights belong
    to a depth brings those of another depth to its own by its method ``fit_depth``, where that is possible.

    Args:
        network: of the trainer, of published form.
        weights: under the published names.
        build: number of classes -> a network like ``network`` that such weights fit in all but that number.
        classes: of ``network``.

    Raises:
        ValueError, RuntimeError: a key is missing or unknown, or a tensor has another shape, whatever the number of
            classes.
    """
    found = _classes_of(weights, build, classes)
    twin: Any = build(found)
    twin.load_reference_state_dict(weights)
    own, loaded = network.state_dict(), twin.state_dict()
    entries = {key: value for key, value in loaded.items() if key in own and _fits(value, own[key])}
    notes = []
    fit_depth = getattr(network, "fit_depth", None)
    if fit_depth is not None:
        fitted, notes = fit_depth(loaded)
        entries |= fitted
    random = [key for key in own if key not in entries]
    heads = [key for key in random if HEADS in key]
    if heads:
        notes.append(f"the segmentation heads start at random: {found} classes in the file, {classes} here")
    else:
        notes.append("the segmentation heads are loaded too; nnU-Net's -pretrained_weights leaves them at random")
    network.load_state_dict({**own, **entries})
    counted = sum(value.numel() for value in entries.values() if isinstance(value, torch.Tensor))
    return "\n".join([f"{len(entries)} of {len(own)} tensors loaded, {counted:,} numbers", *notes])


def without_wrapper(weights: StateDict) -> StateDict:
    """Without the ``module.`` that torch's DataParallel puts in front of each name."""
    if weights and all(key.startswith("module.") for key in weights):
        return {key.removeprefix("module."): value for key, value in weights.items()}
    return weights


def _classes_of(weights: StateDict, build: Callable[[int], nn.Module], classes: int) -> int:
    """The number of classes that the weights fit: that of the dataset if it does, else whichever does.

    Tried without data, so that nothing is allocated.
    """
    lengths = {value.shape[0] for value in weights.values() if value.ndim == 1 and value.shape[0] <= MOST_CLASSES}
    shapes = {key: value.to("meta") for key, value in weights.items()}
    refused: Exception | None = None
    for number in [classes, *sorted(lengths - {classes, 0})]:
        with torch.device("meta"):
            twin: Any = build(number)
        try:
            twin.load_reference_state_dict(shapes)
        except (ValueError, RuntimeError) as error:
            refused = refused or error
        else:
            return number
    assert refused is not None
    raise refused


def _fits(value: Any, own: Any) -> bool:
    return isinstance(value, torch.Tensor) == isinstance(own, torch.Tensor) and (
        not isinstance(value, torch.Tensor) or value.shape == own.shape
    )
